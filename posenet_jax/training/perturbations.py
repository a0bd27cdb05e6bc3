"""Perturbations of images that raise a loss: what robust training trains under.

Projected gradient ascent in balls of the L2 norm (Madry et al., "Towards Deep Learning Models
Resistant to Adversarial Attacks", ICLR 2018), a ball around every image. Networks trained so can be
inverted without a prior (Engstrom et al., "Adversarial Robustness as a Prior for Learned
Representations", 2019).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

# Length of a step of the ascent in radii over the number of steps, so that the ball's edge can be
# reached and gone along (Engstrom et al. 2019, appendix).
_REACH = 2.5


def strongest(loss: Callable[[Any], Array], none: Any, radius: Any, steps: int) -> Any:
    """Returns perturbations [..., H, W, C] of L2 norm at most `radius` each that raise `loss`.

    loss: of the perturbations of all images. none: the same arrays, zero. radius: in the images'
    own units, may be traced.
    """
    size = _REACH * radius / steps
    moved = none
    for _ in range(steps):  # unrolled: XLA:CPU runs convolutions inside of loops on one thread
        gradients = jax.grad(loss)(moved)
        moved = jax.tree.map(lambda m, g: _within(m + size * _unit(g), radius), moved, gradients)
    return moved


def _norm(images: Array) -> Array:
    """Returns the L2 norm of each image, [..., 1, 1, 1]."""
    return jnp.sqrt(jnp.sum(jnp.square(images), axis=(-3, -2, -1), keepdims=True))


def _unit(gradients: Array) -> Array:
    """Returns gradients of length one; zero where an image does not change the loss."""
    return gradients / jnp.maximum(_norm(gradients), jnp.finfo(gradients.dtype).tiny)


def _within(moved: Array, radius: Any) -> Array:
    """Returns perturbations drawn back to the edge of the ball where they are outside of it."""
    return moved * jnp.minimum(1.0, radius / jnp.maximum(_norm(moved), 1e-12))
