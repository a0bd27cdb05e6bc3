"""The environment of scripts that tests start: compiling is what takes their time."""

import os

# The programs are the same, only slower.
QUICK = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
