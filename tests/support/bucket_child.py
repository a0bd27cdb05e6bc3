"""A module that works on the buckets of a server on this machine.

python -m bucket_child ENDPOINT MODULE ARGUMENTS
"""

import os
import runpy
import sys


def environment(endpoint: str) -> dict[str, str]:
    """Variables by which clients of buckets talk to the server, which takes any credentials."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


if __name__ == "__main__":
    os.environ |= environment(sys.argv[1])
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
