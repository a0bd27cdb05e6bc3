"""Streets as a kind of scene."""

from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.kind import Kind, SceneFunctions


def _functions() -> SceneFunctions:
    from posenet_jax.scenes.street import street_clutter, street_views, streets, variety

    return SceneFunctions(
        build=variety.build_street,
        targets=street_views.street_targets,
        places=street_views.street_places,
        texture=streets.texture,
        lit=streets.lit,
        colour=streets.colour,
        semantic=streets.semantic,
        clutter=street_clutter.bare_street,
    )


STREETS = Kind(
    name="streets",
    written="cities",
    title="Rendered streets",
    config=SceneConfig,
    functions=_functions,
    figure=5,
)
