"""Trains a decoder against a discriminator, to sharp images that have the same descriptor.

    python -m experiments.train_adversarial --images=PHOTOS --val_images=OTHERS --rendered=16 \\
        --facades=FACADES --layer=fc5 --workdir=runs/adversarial

Starts from a decoder trained by train_decoder. Losses of the generator: --image_weight × squared
error of the mean over --draws of the noise (1 = from black to white) + --descriptor_weight ×
‖φ - φ0‖² / ‖φ0‖² + --feature_weight × the same at other taps, and in a --comparator, of the means +
--adversarial_weight × hinge loss of a discriminator that sees the descriptor too.

Writes what train_decoder writes, and to metrics.csv the health of the training: the discriminator's
accuracy on real and generated (made) images, both gradients' norms, its loss, and loss_ratio, its
cross-entropy over the generator's (2 when neither is better). Stops with an error when either side
has collapsed. health.png shows it.
"""

from absl import flags

from experiments.common import decoder_options, decoder_run_options, options, runtime

flags.set_default(decoder_run_options.LEARNING_RATE, 2e-4)
flags.set_default(decoder_options.NETWORK, "sharp")
_DECODER = flags.DEFINE_string(
    "decoder",
    None,
    "Decoder whose weights training starts from: a bundled one or a .safetensors file; the bundled"
    " one named ENCODER-LAYER if not given; empty: random weights.",
)
_JUDGE = options.judge()
_IMAGE = flags.DEFINE_float(
    "image_weight", 10.0, "Weight of the squared error of the mean over --draws."
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
_COMPARATOR = flags.DEFINE_string(
    "comparator",
    None,
    "Another network's layer whose features are compared too, as ENCODER/LAYER: squeezenet/fire5.",
)
_ADVERSARIAL = flags.DEFINE_float(
    "adversarial_weight", 0.3, "Weight of the adversarial hinge loss."
)
_NOISE = flags.DEFINE_integer(
    "noise_numbers",
    64,
    "Length of the noise vector that the decoder reads beside a descriptor.",
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

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(
        renamed={
            "noise": "noise_numbers",
            "pace": "discriminator_lr_scale",
            "pause": "discriminator_pause_below",
        }
    )

import dataclasses

from experiments.common import decoder_inputs, decoder_run
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Tap
from posenet_jax.report.decoder_plots import health_figure
from posenet_jax.training.adversarial import AdversarialConfig
from posenet_jax.training.decoder_training import DecoderConfig, init_state, initialised_from


def _adversarial() -> AdversarialConfig:
    return AdversarialConfig(
        image=_IMAGE.value,
        descriptor=_DESCRIPTOR.value,
        features=_FEATURES.value,
        adversarial=_ADVERSARIAL.value,
        noise=_NOISE.value,
        draws=_DRAWS.value,
        layers=tuple(_TAPS.value),
        discriminator_lr_scale=_LR_SCALE.value,
        discriminator_pause_below=_PAUSE_BELOW.value,
    )


def _comparator() -> Tap | None:
    if not _COMPARATOR.value:
        return None
    encoder, layer = weights.encoder_and_layer(_COMPARATOR.value)
    return encoder.tap(layer)


def main() -> int:
    """Trains, or resumes, and writes the generator with its metrics; returns the exit code."""
    adversarial = _adversarial()
    config = DecoderConfig(
        network=decoder_options.NETWORK.value,
        drops=decoder_run_options.drops(),
        adversarial=adversarial,
    )
    noise = adversarial.draws, adversarial.noise
    data = decoder_inputs.load(decoder_options.WORKDIR.value, noise)
    shape = decoding.descriptor_shape(data.encoder, data.tap.layer)
    first = init_state(config, shape, decoder_options.SEED.value)
    if _DECODER.value != "":
        decoder = decoding.decoder_for(data.encoder, data.tap.layer, _DECODER.value)
        first = initialised_from(first, decoder)
        data = dataclasses.replace(data, scale=decoder.descriptor_scale)
    judge = weights.load_encoder(_JUDGE.value)
    workdir, _ = decoder_run.run(config, data, first, comparator=_comparator(), judge=judge)
    health_figure(workdir / "health.png", workdir / "metrics.csv")
    print(f"wrote {workdir / 'decoder.safetensors'}, decoder.json, health.png and samples/")
    return 0


if __name__ == "__main__":
    runtime.run(main)
