"""A kind of scenes that the package does not have, to be registered and nothing else."""

import dataclasses

from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.kinds import KINDS
from posenet_jax.scenes.street.street_kind import STREETS


@dataclasses.dataclass(frozen=True)
class AlleyConfig(SceneConfig):
    """Narrow streets: of a type of their own, not of one that is known."""

    street_half_width: tuple[float, float] = (4.5, 5.0)


ALLEYS = STREETS._replace(
    name="alleys",
    written="alleys-1",
    title="Rendered alleys",
    config=AlleyConfig,
    functions=lambda: STREETS.functions()._replace(clutter=None),
    figure=None,
)


def register() -> None:
    KINDS["alleys"] = ALLEYS
