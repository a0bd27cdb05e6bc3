"""Ways to make training pairs more like two real cameras' pictures, by name: `VARIETIES`.

Each changes fields of the configurations of pairs: `scenes.SceneConfig` for rendered streets,
`VirtualRotation` and `RoomViews` for photographs. A field that a configuration lacks is none of
its concern.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from posenet_jax.errors import InputError

Config = TypeVar("Config")

# Name -> fields, or fields of a field.
VARIETIES: dict[str, dict[str, Any]] = {
    "views": {"field_of_view_difference": 1.0, "view_difference": 1.0},
    "aside": {"chance_aside": 0.4},
    "development": {
        "development": {
            "difference": 0.8,
            "colour_jitter": 0.05,
            "sharpening": 0.12,
            "lowest_quality": 30.0,
        }
    },
    "courts": {"chance_of_court": 0.35},
    "traffic": {"chance_of_traffic": 0.35},
    "weather": {"chance_of_weather": 0.3},
}
"""views: fields of view drawn apart. aside: views that overlap in part. development: exposure,
white balance, tone and lens nearly drawn apart, sharpened and compressed. courts, traffic, weather:
see `scenes.street.variety`."""


def check_names(names: Collection[str]) -> None:
    """Raises InputError for a name that is not in `VARIETIES`."""
    unknown = [name for name in names if name not in VARIETIES]
    if unknown:
        raise InputError(f"no variety {unknown[0]!r} of pairs; there are {', '.join(VARIETIES)}")


def varied(config: Config, names: Collection[str]) -> Config:
    """Returns a configuration of pairs with the varieties of these names.

    Raises InputError for an unknown name.
    """
    check_names(names)
    for name in names:
        config = _replaced(config, VARIETIES[name])
    return config


def _replaced(config: Any, changes: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(config)}
    own = {name: value for name, value in changes.items() if name in known}
    for name, value in own.items():
        if isinstance(value, Mapping):
            own[name] = _replaced(getattr(config, name), value)
    return dataclasses.replace(config, **own)
