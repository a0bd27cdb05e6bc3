"""Runs over any number of images, streamed to disk: extraction, inversion, search."""
