"""Inversion by optimisation: what is minimised, one step, and many at once."""
