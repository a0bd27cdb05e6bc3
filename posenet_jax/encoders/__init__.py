"""Encoders: networks from an image to a descriptor, and their weights."""
