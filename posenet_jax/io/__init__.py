"""Files: written whole or not at all, what a run was, trees of arrays."""
