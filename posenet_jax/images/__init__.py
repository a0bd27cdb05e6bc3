"""Image files and image spaces: listing, reading, resizing, contact sheets."""
