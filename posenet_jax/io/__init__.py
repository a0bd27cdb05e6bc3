"""Files: atomic writes, records of runs, trees of arrays."""
