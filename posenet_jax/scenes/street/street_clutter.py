"""A street without what stands about in it. Unbatched."""

import jax
import jax.numpy as jnp

from posenet_jax.numerics import own_dtypes
from posenet_jax.scenes import solids
from posenet_jax.scenes.street import city

Array = jax.Array


@own_dtypes
def bare_street(world: city.City, removable: Array | None = None) -> city.City:
    """The street without trees, cars and posts: they lie below the ground, as absent things do.

    removable: [38] bool, those of the boxes that may go; None: all.
    """
    number = jnp.arange(city.NUM_BOXES)
    clutter = (number >= city.CAR_BODIES.start) & (number < city.TRUNKS.stop)
    down = jnp.array([[0.0, 0.0, solids.BURIED]])
    return world._replace(
        boxes=solids.bury(world.boxes, clutter if removable is None else clutter & removable),
        crowns=world.crowns._replace(centre=world.crowns.centre + down),
    )
