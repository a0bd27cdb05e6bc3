"""Cars as a kind of scene."""

from posenet_jax.scenes.config import CarConfig
from posenet_jax.scenes.kind import Kind, SceneFunctions


def _functions() -> SceneFunctions:
    from posenet_jax.scenes.car import bodywork, car_clutter, car_views, cars

    return SceneFunctions(
        build=cars.build_cars,
        targets=car_views.car_targets,
        places=car_views.car_places,
        texture=bodywork.texture,
        lit=bodywork.lit,
        colour=bodywork.colour,
        semantic=bodywork.semantic,
        clutter=car_clutter.lone_car,
    )


CARS = Kind(
    name="cars",
    written="cars",
    title="Rendered cars",
    config=CarConfig,
    functions=_functions,
    figure=10,
)
