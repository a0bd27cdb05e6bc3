"""A decoder that enlarges by interpolation: none of its layers treats one pixel unlike another.

A transposed convolution with a stride, and a convolution of repeated pixels, give pixels of
different phases different kernels, which sharp images show as a grid (Odena et al. 2016). Here maps
are enlarged by linear interpolation and convolved at their new size, the last ones at the image's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from posenet_jax.decoders.decoder_network import DecoderNetwork, Descriptor, Image
from posenet_jax.nn.layers import UnitStrideConv
from posenet_jax.nn.upconvolution import InterpolatedConv

Array = jax.Array

# Side and channels of the maps before they are twice enlarged to the image's side.
_STAGES = ((8, 192), (8, 48), (25, 32))
_FINE = 16  # channels at half the image's side


class Resize(DecoderNetwork):
    """1.7 M parameters from fc5, 0.5 M from conv4; 0.12 GFLOP an image forward.

    A ReLU, then batch normalisation, follows every layer but the last.
    """

    @nn.compact
    def __call__(self, descriptor: Descriptor, *, train: bool = False) -> Image:
        x = descriptor
        if descriptor.shape[-3:-1] != (6, 6):
            dense = nn.Dense(3 * 3 * 256, kernel_init=nn.initializers.he_normal(), name="dense")
            x = dense(descriptor).reshape((*descriptor.shape[:-1], 3, 3, 256))
            x = self._normalised(x, "dense", train)
        for number, (side, channels) in enumerate(_STAGES):
            x = UnitStrideConv(channels, 3, padding=1, name=f"conv{number}")(enlarged(x, side))
            x = self._normalised(x, f"conv{number}", train)
        x = self._normalised(InterpolatedConv(_FINE, name="fine")(x), "fine", train)
        # Small at first, so that training begins near the mean image.
        small = nn.initializers.variance_scaling(0.02, "fan_in", "normal")
        return InterpolatedConv(3, kernel_init=small, name="image")(x)

    def _normalised(self, x: Array, layer: str, train: bool) -> Array:
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            axis_name=self.axis_name if train else None,
            name=f"{layer}_norm",
        )
        # Kept as it is: XLA would compute it again, in another order, for the weights' gradient.
        return jax.lax.optimization_barrier(norm(nn.relu(x)))


def enlarged(x: Array, side: int) -> Array:
    """[..., side, side, C] of square maps [..., n, n, C] by linear interpolation.

    Pixels are squares whose sides meet those of the image; beyond the centres of the outermost
    pixels their values go on, as in `jax.image.resize`.
    """
    if x.shape[-2] == side:
        return x
    matrix = jnp.asarray(_interpolation(x.shape[-2], side), x.dtype)
    return jnp.einsum("ih,jw,...hwc->...ijc", matrix, matrix, x)


@functools.cache
def _interpolation(count: int, side: int) -> np.ndarray:
    """[side, count] share of each pixel in each of the new ones."""
    centres = (np.arange(side) + 0.5) * count / side - 0.5
    centres = np.clip(centres, 0.0, count - 1.0)
    return np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(count)))
