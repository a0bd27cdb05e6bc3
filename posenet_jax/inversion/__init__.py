"""Inversion by optimisation: `objective` (eq. 2), `descent` of one image, `engine` for many."""
