"""Furnished rooms: their world, furniture, look and views."""
