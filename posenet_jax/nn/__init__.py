"""Layers of networks, in forms that run fast on CPU."""
