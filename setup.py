"""Packages of the distribution: the library's, and the scripts as one of them.

`experiments/` lies beside the library in a checkout and is installed as `posenet_jax.experiments`,
so that no package of so common a name stands among a person's own. All else is in setup.cfg.
"""

from setuptools import find_packages, setup

scripts = find_packages(include=["experiments*"])
setup(
    packages=[
        *find_packages(include=["posenet_jax*"]),
        *(f"posenet_jax.{name}" for name in scripts),
    ],
    package_dir={"posenet_jax.experiments": "experiments"},
)
