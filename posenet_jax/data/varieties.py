"""Ways to make training pairs more like two real cameras' pictures, by name: `VARIETIES`.

Each changes fields of the configurations of pairs: `scenes.SceneConfig` for rendered streets,
`VirtualRotation` and `RoomViews` for photographs. A field that a configuration lacks is none of
its concern.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from posenet_jax.errors import InputError

Config = TypeVar("Config")


class Variety(NamedTuple):
    """Fields that a variety of pairs changes, or fields of a field, and what it is in words."""

    sentence: str  # of flags
    changes: Mapping[str, Any]


VARIETIES = {
    "views": Variety(
        "fields of view drawn apart",
        {"field_of_view_difference": 1.0, "view_difference": 1.0},
    ),
    "aside": Variety("views that overlap in part", {"chance_aside": 0.4}),
    "along": Variety("views along the street", {"chance_along": 0.4}),
    "development": Variety(
        "exposure and colours drawn apart, sharpened, compressed",
        {
            "development": {
                "difference": 0.8,
                "colour_jitter": 0.05,
                "sharpening": 0.12,
                "lowest_quality": 30.0,
            }
        },
    ),
    "together": Variety(
        "one exposure and one set of colours for both views", {"development": {"difference": 0.0}}
    ),
    "apart": Variety("exposure and colours drawn apart", {"development": {"difference": 1.0}}),
    "recoloured": Variety(
        "hue and saturation drawn apart as well",
        {"development": {"difference": 1.0, "hue": math.pi, "saturation": 0.6}},
    ),
    "courts": Variety("closed courts among the streets", {"chance_of_court": 0.35}),
    "traffic": Variety("vehicles of any size, and people", {"chance_of_traffic": 0.35}),
    "weather": Variety("night, low sun, snow, fog", {"chance_of_weather": 0.3}),
}


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
        config = _replaced(config, VARIETIES[name].changes)
    return config


def _replaced(config: Any, changes: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(config)}
    own = {name: value for name, value in changes.items() if name in known}
    for name, value in own.items():
        if isinstance(value, Mapping):
            own[name] = _replaced(getattr(config, name), value)
    return dataclasses.replace(config, **own)
