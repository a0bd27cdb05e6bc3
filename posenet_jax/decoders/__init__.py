"""Decoders: up-convolutional networks from a descriptor to an image."""
