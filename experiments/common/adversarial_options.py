"""Flags of adversarial training: its losses, its noise, its discriminator."""

import sys
from typing import TYPE_CHECKING

from absl import flags

from . import buckets

if TYPE_CHECKING:
    from posenet_jax.encoders.encoder import Tap
    from posenet_jax.training.adversarial import AdversarialConfig

_IMAGE = flags.DEFINE_float(
    "image_weight", 10.0, "Weight of the comparison of draws with their original (--score)."
)
_DESCRIPTOR = flags.DEFINE_float(
    "descriptor_weight", 1.0, "Weight of the descriptor's relative squared error."
)
_FEATURES = flags.DEFINE_float(
    "feature_weight", 1.0, "Weight of the relative squared errors at --feature_taps."
)
_TAPS = flags.DEFINE_list(
    "feature_taps",
    ["conv2", "conv4"],
    "Taps of the encoder, separated by commas, whose features are compared besides the descriptor.",
)
_COMPARATOR = buckets.string(
    "comparator",
    None,
    "Another network's layer whose features are compared too, as ENCODER/LAYER: squeezenet/fire5.",
)
_SCORE = flags.DEFINE_enum(
    "score",
    "mean",
    ["mean", "energy"],
    "Comparison of draws with their original: mean, squared error of the mean over draws;"
    " energy, the energy score, least where draws spread as originals do.",
)
_DISCRIMINATOR_TAPS = flags.DEFINE_list(
    "discriminator_taps",
    [],
    "Layers of the --comparator, separated by commas, whose feature maps the discriminator sees"
    " besides the image: fire3,fire5,fire9; empty: none.",
)
_AUGMENT = flags.DEFINE_bool(
    "augment",
    False,
    "Show the discriminator originals and generated images in other colours, moved, and with a"
    " square hidden, so that it does not learn the originals by heart (DiffAugment).",
)
_ENLARGE = flags.DEFINE_float(
    "enlarge",
    1.0,
    "Largest factor by which a part of each image is enlarged before the --comparator sees it, for"
    " its loss and for --discriminator_taps; the same part of an original and of the images"
    " generated from it; 1: the whole image.",
    lower_bound=1.0,
)
_ADVERSARIAL = flags.DEFINE_float(
    "adversarial_weight", 0.3, "Weight of the adversarial hinge loss."
)
_SPECTRUM = flags.DEFINE_float(
    "spectrum_weight",
    0.0,
    "Weight of the difference between the spectra of generated images and of originals, by which"
    " lines that strided layers leave are seen; 0: not computed.",
    lower_bound=0.0,
)
_PATTERN = flags.DEFINE_float(
    "pattern_weight",
    0.0,
    "Weight of the difference between the mean fine detail of generated images and of originals at"
    " each place, by which marks that are laid into all images are seen; 0: not computed.",
    lower_bound=0.0,
)
_NOISE = flags.DEFINE_integer(
    "noise_numbers",
    64,
    "Numbers of noise that the decoder reads beside a vector, or each place of a feature map.",
    lower_bound=1,
)
_DRAWS = flags.DEFINE_integer(
    "draws", 2, "Images generated from each descriptor in a training step.", lower_bound=1
)
_LR_SCALE = flags.DEFINE_float(
    "discriminator_lr_scale",
    2.0,
    "Learning rate of the discriminator, as a multiple of --learning_rate.",
)
_PAUSE_BELOW = flags.DEFINE_float(
    "discriminator_pause_below",
    0.0,
    "Value of loss_ratio below which the discriminator is not updated (Dosovitskiy & Brox: 0.1).",
    lower_bound=0.0,
)


def config() -> "AdversarialConfig":
    """Returns the configuration that the flags say."""
    from posenet_jax.training.adversarial import AdversarialConfig  # not for --help

    return AdversarialConfig(
        image=_IMAGE.value,
        descriptor=_DESCRIPTOR.value,
        features=_FEATURES.value,
        adversarial=_ADVERSARIAL.value,
        spectrum=_SPECTRUM.value,
        pattern=_PATTERN.value,
        noise=_NOISE.value,
        draws=_DRAWS.value,
        energy=_SCORE.value == "energy",
        layers=tuple(_TAPS.value),
        discriminator_layers=tuple(_DISCRIMINATOR_TAPS.value),
        augment=_AUGMENT.value,
        enlarge=_ENLARGE.value,
        discriminator_lr_scale=_LR_SCALE.value,
        discriminator_pause_below=_PAUSE_BELOW.value,
    )


def comparator() -> "Tap | None":
    """Returns the layer of --comparator. Raises InputError where there is no such layer.

    Of a network that `decode` measures pictures by, says which one is left to judge these.
    """
    if not _COMPARATOR.value:
        return None
    from posenet_jax.decoders.decoder_network import SIDE  # not for --help
    from posenet_jax.encoders import weights
    from posenet_jax.encoders.packaged import PACKAGED

    encoder, layer = weights.encoder_and_layer(_COMPARATOR.value, size=SIDE)
    if encoder.name in PACKAGED:
        left = ",".join(name for name in PACKAGED if name != encoder.name)
        print(
            f"{encoder.name} is in the loss and cannot judge these decoders' pictures; measure them"
            f" with decode --feature_networks={left}",
            file=sys.stderr,
        )
    return encoder.tap(layer)
