"""Measures of what descriptors keep and what changes them: the paper's claims, measured."""
