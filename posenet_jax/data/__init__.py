"""Data sets: their files, their splits and what training and inversion take from them."""
