"""Inversion in grey levels, whatever range of values the encoder reads.

Rates, noise and priors of recipes are in grey levels about the colour that `Preprocessing.middle`
says. Of an encoder whose network space is that, which all bundled ones are, nothing changes, the
compiled programs included.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct

from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion.job_queues import Finished
from posenet_jax.inversion.shapes import Descriptor, Image
from posenet_jax.inversion.traced_functions import as_argument


@struct.dataclass
class _OfLevels:
    """An encoder as a function of an image in grey levels."""

    encode: Any
    space: Preprocessing = struct.field(pytree_node=False)

    def __call__(self, image: Image) -> Descriptor:
        return self.encode(self.space.from_levels(image))


def encoder_of(encode: Any, space: Preprocessing) -> Any:
    """Returns the encoder as a function of an image in grey levels."""
    return encode if space.in_levels else _OfLevels(as_argument(encode), space)


def results(finished: Iterable[Finished], space: Preprocessing) -> Iterator[Finished]:
    """Yields the results with their images in network space."""
    for one in finished:
        if not space.in_levels:
            image = np.asarray(space.from_levels(jnp.asarray(one.image)))
            one = dataclasses.replace(one, image=image)
        yield one


def start_of(image: Any, space: Preprocessing) -> Any:
    """Returns a start image [H, W, C] in grey levels."""
    return image if space.in_levels else space.to_levels(image)
