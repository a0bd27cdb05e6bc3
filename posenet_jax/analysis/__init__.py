"""Measures of what descriptors keep and what moves them: the paper's claims as numbers."""
