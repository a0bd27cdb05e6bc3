"""Flags whose paths may lie in buckets, `s3://…` or `gs://…`; in all others they are refused.

Without that a script would make a local folder called `s3:`.
"""

from typing import Any

from absl import flags

_SCHEMES = ("s3://", "gs://")
_TAKING: set[str] = set()


def taking(flag: flags.FlagHolder) -> flags.FlagHolder:
    """Notes that a flag takes such paths, and returns it."""
    _TAKING.add(flag.name)
    return flag


def string(name: str, default: str | None, help_text: str, **options: Any) -> flags.FlagHolder:
    """Defines a flag of one path, or of names and paths, that takes such paths."""
    return taking(flags.DEFINE_string(name, default, help_text, **options))


def strings(name: str, default: list[str] | None, help_text: str) -> flags.FlagHolder:
    """Defines a flag of several, separated by commas, that takes such paths."""
    return taking(flags.DEFINE_list(name, default, help_text))


def refusal() -> str | None:
    """Returns a sentence about the first flag that was given such a path and takes none."""
    for name, value in sorted(flags.FLAGS.flag_values_dict().items()):
        texts = value if isinstance(value, list) else [value]
        given = [text for text in texts if isinstance(text, str) and _leads_there(text)]
        if given and name not in _TAKING:
            taking = ", ".join(f"--{known}" for known in sorted(_TAKING) if known in flags.FLAGS)
            others = f" (paths in buckets are taken by {taking})" if taking else ""
            return f"--{name}={given[0]} must be a local path{others}: copy it there or from there"
    return None


def _leads_there(text: str) -> bool:
    return any(part.startswith(_SCHEMES) for part in text.split("="))
