"""A car's scene without what stands about the car. Unbatched."""

import jax.numpy as jnp

from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import solids
from posenet_jax.scenes.car import cars
from posenet_jax.scenes.street import city
from posenet_jax.scenes.street.street_clutter import bare_street


@own_dtypes
def lone_car(scene: cars.CarScene) -> cars.CarScene:
    """The first car alone; the rest lies below the ground, as absent things do."""
    number = jnp.arange(city.NUM_BOXES)
    first = (number == city.CAR_BODIES.start) | (number == city.CAR_CABINS.start)
    other = jnp.arange(2 * cars.NUM_CARS) % cars.NUM_CARS > 0  # of bodies and cabins, or axles
    down = jnp.where(other[:, None], jnp.array([[0.0, 0.0, solids.BURIED]]), 0.0)
    wedges = scene.wedges._replace(boxes=solids.bury(scene.wedges.boxes, other))
    axles = scene.axles._replace(centre=scene.axles.centre + down)
    return scene._replace(city=bare_street(scene.city, ~first), wedges=wedges, axles=axles)
