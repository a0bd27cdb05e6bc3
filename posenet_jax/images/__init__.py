"""Image files and image spaces: listing, reading, resizing, pages of images."""
