"""The environment of scripts that tests start: compiling is what takes their time.

Not for tests that compare what a script makes with what the session makes, to the last bit: random
weights too are rounded otherwise.
"""

import os

QUICK = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
