"""The up-convolutional decoders: networks from a descriptor to an image.

`Mirror` is streetnet upside down, `Deep` the same with further 256-channel convolutions (paper,
sections 3.2 and 5.3); `resizing.Resize` enlarges by interpolation instead. A ReLU,
then batch normalisation, follows every layer but the last.
`decoder_network.DecoderNetwork` says what goes in and comes out, and how to add a network.
"""

import functools
from collections.abc import Callable

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from posenet_jax.decoders.decoder_network import DecoderNetwork, Descriptor, Image
from posenet_jax.decoders.resizing import Resize
from posenet_jax.nn.layers import UnitStrideConv, blocks
from posenet_jax.nn.upconvolution import (
    UpsampledConv,
    UpsampledConvTranspose,
    deal_out,
)

Maps = Float[Array, "*batch height width channels"]
Values = Float[Array, "*batch channels"]  # of a dense layer, or of every pixel of a map

_BLOCK = 4  # side of the blocks of pixels that `Refined` reads


class _Normalised(nn.Module):
    """ReLU, then batch normalisation over all but the channels."""

    axis_name: str | None

    @nn.compact
    def __call__(self, x: Values, train: bool) -> Values:
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            axis_name=self.axis_name if train else None,
            name="norm",
        )
        # Kept as it is: XLA would compute it again, in another order, for the weights' gradient.
        return jax.lax.optimization_barrier(norm(nn.relu(x)))


class Mirror(DecoderNetwork):
    """2.4 M parameters from fc5, 1.2 M from conv4; 0.15 GFLOP an image forward.

    extra: further 3×3 convolutions with 256 channels, at 8×8 pixels.
    """

    extra: int = 0

    @nn.compact
    def __call__(self, descriptor: Descriptor, *, train: bool = False) -> Image:
        def normalised(x: Values, layer: str) -> Values:
            return _Normalised(self.axis_name, name=f"{layer}_norm")(x, train)

        def conv(features: int, name: str) -> UnitStrideConv:
            return UnitStrideConv(features, 3, padding=1, tile=4, name=name)

        x = normalised(self._eight_by_eight(descriptor, normalised), "up4")
        for number in range(self.extra):
            x = normalised(conv(256, f"extra{number}")(x), f"extra{number}")
        x = normalised(conv(128, "up3")(x), "up3")
        x = normalised(UpsampledConv(96, 5, tile=4, name="up2")(x), "up2")
        return self._image(x, normalised)

    def _image(self, x: Maps, normalised: Callable[..., Values]) -> Image:
        """[..., 100, 100, 3] of feature maps of 16×16 pixels."""
        # Small at first, so that training begins near the mean image.
        small = nn.initializers.variance_scaling(0.02, "fan_in", "normal")
        return UpsampledConvTranspose(3, 7, stride=3, repeat=2, kernel_init=small, name="up1")(x)

    def _eight_by_eight(self, descriptor: Descriptor, normalised: Callable[..., Values]) -> Maps:
        if descriptor.shape[-3:-1] == (6, 6):
            return UpsampledConvTranspose(256, 3, name="up4")(descriptor)
        dense = nn.Dense(3 * 3 * 256, kernel_init=nn.initializers.he_normal(), name="up5")
        x = dense(descriptor).reshape((*descriptor.shape[:-1], 3, 3, 256))
        return UpsampledConvTranspose(256, 3, repeat=2, name="up4")(normalised(x, "up5"))


class Deep(Mirror):
    """Mirror with two further 256-channel convolutions: 3.6 M parameters from fc5."""

    extra: int = 2


class Sharp(Mirror):
    """Mirror with one more layer, of 32×32 pixels, beside its last: 2.4 M parameters from fc5.

    The added layer's output is zero at first, so that training begins as Mirror's would. Mirror's
    last layer adds one 12×12 kernel, every 6 pixels, for each value of a feature map: blurred
    images hide the grid that this makes (Odena et al. 2016), sharp ones show it.
    """

    fine: int = 48

    def _image(self, x: Maps, normalised: Callable[..., Values]) -> Image:
        coarse = super()._image(x, normalised)
        x = normalised(UpsampledConv(self.fine, 3, tile=4, name="fine2")(x), "fine2")
        none = nn.initializers.zeros
        fine = UpsampledConvTranspose(3, 7, stride=3, tile=4, kernel_init=none, name="fine1")
        return coarse + fine(x)


class Refined(Sharp):
    """Sharp, and three convolutions that see the finished image: 2.5 M parameters from fc5.

    They read it as blocks of 4×4 pixels and add to it; what they add is zero at first. Sharp's
    layers each see a part of the features, and none sees how their sum looks.
    """

    mended: int = 64

    def _image(self, x: Maps, normalised: Callable[..., Values]) -> Image:
        image = super()._image(x, normalised)
        conv = functools.partial(UnitStrideConv, kernel_size=3, padding=1, tile=4)
        x = blocks(image, _BLOCK)
        for name in ("mend1", "mend2"):
            x = normalised(conv(self.mended, name=name)(x), name)
        last = conv(3 * _BLOCK**2, kernel_init=nn.initializers.zeros, name="mend3")
        return image + deal_out(last(x), _BLOCK)


NETWORKS: dict[str, type[DecoderNetwork]] = {
    "mirror": Mirror,
    "deep": Deep,
    "sharp": Sharp,
    "refined": Refined,
    "resize": Resize,
}
