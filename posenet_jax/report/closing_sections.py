"""The last sections of the report's page: claims measured elsewhere, and how the page was made."""

from collections.abc import Mapping, Sequence
from typing import Any

from posenet_jax.report.page import Code, Part, Section, Table, Text, interval

_COMMANDS = (
    "posenet-jax invert --images=PHOTOS --layer=fc5,conv4 --out=runs/inverted",
    "posenet-jax decode --compare --images=PHOTOS --layer=fc5 --out=runs/decoded",
    "posenet-jax measure_sensitivity --out=runs/sensitivity",
    "posenet-jax operate_descriptors --out=runs/surgery",
    "posenet-jax measure_retention --out=runs/retention",
)
# Columns that come in threes, and what the three are called together.
_TRIPLES = {
    "": "value",
    "wrong_image_": "wrong image",
    "untrained_": "untrained",
    "control_": "control's value",
}


def claims_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Claims of the paper, a row each, of any columns; value, low and high become one."""
    title = "Claims"
    if not rows:
        text = (
            "What the paper claims is kept and lost (colour, texture, edges toward the vanishing "
            "point, skyline) is measured by posenet-jax measure_retention "
            "--out=runs/retention; give its claims.csv to --claims to see it here."
        )
        return Section(title, [Text(text)])
    caption = "Values with intervals of 95 %, each beside its controls."
    return Section(title, [Table([_merged(row) for row in rows], caption)])


def _merged(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with every `…value`, `…low`, `…high` as one column, the others as they are."""
    left = dict(row)
    merged = {}
    for prefix, heading in _TRIPLES.items():
        names = [f"{prefix}{end}" for end in ("value", "low", "high")]
        if all(name in left for name in names):
            merged[heading] = _interval([left.pop(name) for name in names])
    last = {name: left.pop(name) for name in ("verdict",) if name in left}
    return left | merged | last


def _interval(texts: Sequence[Any]) -> str:
    """Returns one text for a value and its interval, given as numbers or as texts."""
    try:
        value, low, high = (float(text) for text in texts)
    except (TypeError, ValueError):
        return " ".join(str(text) for text in texts if text not in (None, ""))
    return interval(value, low, high)


def record_section(record: Mapping[str, Any], command: str) -> Section:
    """How to make this page again. record: of `provenance.run_record`, with `weights` in it."""
    networks = [{"network": name, "weights": value} for name, value in record["weights"].items()]
    versions = [
        {"package": name, "version": version} for name, version in record["versions"].items()
    ]
    device = f"Run on {record['backend']} ({record['device_kind']}, {record['devices']} devices)"
    if record.get("git"):
        state = ", with changes" if record["git"]["modified"] else ""
        device += f", commit {record['git']['commit']}{state}"
    parts: list[Part] = [
        Text(f"Seed {record['flags']['seed']}. The page is made again by:"),
        Code([command]),
        Text("Its parts, at full length and with all options:"),
        Code(_COMMANDS),
        Table(networks, "Networks and fingerprints of their weights."),
        Table(versions, "Versions."),
        Text(f"{device}."),
    ]
    return Section("How this page was made", parts)
