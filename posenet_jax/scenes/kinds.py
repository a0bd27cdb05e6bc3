"""The kinds of scenes there are, found by name or by a configuration's type.

To add one, write a record (`kind.Kind`) in a folder of its own and list it in `KINDS`.
"""

from posenet_jax.errors import InputError
from posenet_jax.scenes.car.car_kind import CARS
from posenet_jax.scenes.config import ViewConfig
from posenet_jax.scenes.kind import Kind
from posenet_jax.scenes.room.room_kind import ROOMS
from posenet_jax.scenes.street.street_kind import STREETS

KINDS: dict[str, Kind] = {kind.name: kind for kind in (STREETS, CARS, ROOMS)}
"""The kinds of scenes by name."""


def kind_names() -> list[str]:
    """Names that `kind_named` takes: those of KINDS, then those of data sets on disk."""
    kinds = KINDS.values()
    return list(dict.fromkeys([kind.name for kind in kinds] + [kind.written for kind in kinds]))


def kind_named(name: str) -> Kind:
    """The kind of scene of a name, or of the name that data sets on disk have.

    Raises InputError with the names there are.
    """
    for kind in KINDS.values():
        if name in (kind.name, kind.written):
            return kind
    raise InputError(f"no kind of scene {name!r}; there are {', '.join(KINDS)}")


def kind_of(config: ViewConfig) -> Kind:
    """The kind of scene that a configuration describes. Raises ValueError where there is none."""
    for kind in KINDS.values():
        if type(config) is kind.config:
            return kind
    raise ValueError(f"no kind of scene has a {type(config).__name__}")
