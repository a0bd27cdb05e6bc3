"""The discriminator of adversarial training: an image, or a decoder's, of this descriptor?

It answers at several scales, each with a logit of its own: of the whole with its descriptor, of
patches, and of features that a frozen network has found (Sauer et al. 2021, Projected GANs).

Convolutions of stride 1 on blocks of pixels and means of four for every halving: strided ones have
slow input gradients in XLA's CPU backend.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from posenet_jax.decoders.decoder_network import SIDE
from posenet_jax.nn.layers import UnitStrideConv, blocks

Array = jax.Array

_BLOCK = 5
_GRID = SIDE // _BLOCK // 4  # cells a side of the logits


class Discriminator(nn.Module):
    """0.4 M parameters of its own and 0.4 M that read fc5; 0.06 GFLOP an image forward.

    Every linear map is divided by its largest singular value (spectral normalisation, Miyato et al.
    2018). The first logit is of the whole image, with the descriptor by projection (Miyato & Koyama
    2018), one product at each of 5×5 places whose mean it is. The second is a mean over patches of
    15×15 pixels; then there is one of each of the features, a mean over their places.
    """

    features: int = 64
    projected: int = 32

    @nn.compact
    def __call__(
        self,
        image: Array,
        descriptor: Array,
        features: Mapping[str, Array] | None = None,
        *,
        update: bool = False,
    ) -> Array:
        """[..., 100, 100, 3], 1 = the full range, and [..., F] or [..., 6, 6, C] → [..., logits].

        features: maps [..., h, w, C] that another network has of the image, by layer, each with a
        root mean square of one in originals. `update`: a step of the power iterations, whose state
        is the collection `batch_stats`.
        """

        def bounded(layer: nn.Module, x: Array) -> Array:
            return nn.SpectralNorm(layer, name=f"{layer.name}_bounded")(x, update_stats=update)

        def conv(x: Array, features: int, name: str, size: int = 3) -> Array:
            layer = UnitStrideConv(features, size, padding=size // 2, tile=4, name=name)
            return nn.leaky_relu(bounded(layer, x), 0.2)

        def likely(x: Array, name: str) -> Array:
            return bounded(nn.Dense(1, name=name), x)[..., 0]

        x = conv(blocks(image, _BLOCK), self.features, "look1", size=1)
        patches = x = conv(x, self.features, "look2")
        x = conv(block_means(x, 2), 2 * self.features, "look3")
        x = conv(block_means(x, 2), 4 * self.features, "look4")
        places = (*x.shape[:-1], self.projected)
        wanted = bounded(nn.Dense(_GRID**2 * self.projected, name="wanted"), _flat(descriptor))
        seen = bounded(nn.Dense(self.projected, name="seen"), x)
        logits = [likely(x, "likely") + jnp.sum(seen * wanted.reshape(places), axis=-1)]
        logits.append(likely(patches, "likely_patch"))
        for layer, maps in (features or {}).items():
            mixed = conv(maps, self.features, f"mixed_{layer}", size=1)
            logits.append(likely(conv(mixed, self.features, f"look_{layer}"), f"likely_{layer}"))
        return jnp.stack([logit.mean(axis=(-2, -1)) for logit in logits], axis=-1)


def _flat(descriptor: Array) -> Array:
    """Feature maps, 6×6, as vectors of the means over 2×2 blocks."""
    if descriptor.shape[-3:-1] != (6, 6):
        return descriptor
    x = block_means(descriptor, 2)
    return x.reshape((*x.shape[:-3], -1))


def block_means(x: Array, side: int) -> Array:
    """Means [..., H / side, W / side, C] of blocks of pixels."""
    *batch, height, width, channels = x.shape
    return x.reshape((*batch, height // side, side, width // side, side, channels)).mean((-4, -2))
