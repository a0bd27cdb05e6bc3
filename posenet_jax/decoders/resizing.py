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
_ROUGH = 4
_FINE = 16  # channels at half the image's side


class Resize(DecoderNetwork):
    """1.7 M parameters from fc5, 0.5 M from conv4; 0.12 GFLOP an image forward.

    A ReLU, then batch normalisation, follows every layer but the last.
    """

    stages: tuple[tuple[int, int], ...] = _STAGES

    @nn.compact
    def __call__(self, descriptor: Descriptor, *, train: bool = False) -> Image:
        x = descriptor
        if descriptor.shape[-3:-1] != (6, 6):
            dense = nn.Dense(3 * 3 * 256, kernel_init=nn.initializers.he_normal(), name="dense")
            x = dense(descriptor).reshape((*descriptor.shape[:-1], 3, 3, 256))
            x = self._normalised(x, "dense", train)
        for number, (side, channels) in enumerate(self.stages):
            x = UnitStrideConv(channels, 3, padding=1, name=f"conv{number}")(enlarged(x, side))
            x = self._normalised(x, f"conv{number}", train)
        return self._image(x, train)

    def _image(self, x: Array, train: bool) -> Image:
        """[..., 100, 100, 3] of feature maps of 25×25 pixels."""
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


class Fine(Resize):
    """Resize with layers of 50×50 and 100×100 pixels beside its last: 1.7 M parameters from fc5.

    What they add is zero at first, so that training begins as Resize's would. Resize's own last
    layers are linear from 50 pixels on: blurred images need no more, sharp ones do.
    """

    widths: tuple[int, int] = (24, 12)  # channels at half the image's side and at the whole

    def _image(self, x: Array, train: bool) -> Image:
        coarse = super()._image(x, train)
        for channels, layer in zip(self.widths, ("half", "whole"), strict=True):
            x = self._normalised(InterpolatedConv(channels, name=layer)(x), layer, train)
        none = nn.initializers.zeros
        return coarse + nn.Dense(3, kernel_init=none, name="detail")(x)


class Pyramid(Resize):
    """Layers from 8 to 100 pixels that cost alike: 1.9 M parameters from fc5; 0.27 GFLOP forward.

    Interpolated maps are smooth, and textures hard to make of them: from 25 pixels on layers add
    noise before their ReLU (Karras et al. 2019), the same for every image.
    """

    stages: tuple[tuple[int, int], ...] = ((8, 192), (13, 96), (25, 48))

    def _image(self, x: Array, train: bool) -> Image:
        for channels, layer in ((24, "half"), (12, "whole")):
            x = self._normalised(InterpolatedConv(channels, name=layer)(x), layer, train)
        small = nn.initializers.variance_scaling(0.02, "fan_in", "normal")
        return nn.Dense(3, kernel_init=small, name="image")(x)

    def _normalised(self, x: Array, layer: str, train: bool) -> Array:
        if (side := x.shape[-2]) >= 25:
            noise = np.random.default_rng(side).normal(size=(side, side, _ROUGH))
            noise = jnp.asarray(noise.reshape((1,) * (x.ndim - 3) + noise.shape), x.dtype)
            x = x + nn.Dense(x.shape[-1], use_bias=False, name=f"{layer}_rough")(noise)
        return super()._normalised(x, layer, train)


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
