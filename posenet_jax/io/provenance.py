"""Records of runs: flags, versions, the device and the commit that a run used."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from posenet_jax.io.files import plain_values

_RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "posenet_jax")


def run_record(flags: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns a run's flags, the versions and the device it ran on, its commit, and `extra`.

    Holds no host name; the home folder in any path is written `~`.
    """
    record = {
        "flags": dict(flags),
        "versions": _versions(),
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "git": _git_state(Path(__file__).resolve().parents[2]),
    }
    return _without_home(plain_values(record | dict(extra or {})), str(Path.home()))


def _without_home(value: Any, home: str) -> Any:
    """The record with the home folder written `~` in every text."""
    if isinstance(value, dict):
        return {key: _without_home(item, home) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_home(item, home) for item in value]
    if not isinstance(value, str) or len(home) < 2:
        return value
    return "~" if value == home else value.replace(home + os.sep, "~" + os.sep)


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_state(root: Path) -> dict[str, Any] | None:
    """Commit of the checkout at `root`, and whether files differ from it; None when it is none."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(
            command, capture_output=True, check=True, text=True, timeout=20
        ).stdout.strip()

    try:
        # An installed package may lie inside somebody else's checkout.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        commit = git("rev-parse", "--verify", "HEAD")
        return {"commit": commit, "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
