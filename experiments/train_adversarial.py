"""Trains a decoder to make sharp images that keep the descriptor, against a discriminator.

    python -m experiments.train_adversarial --images=PHOTOS --val_images=OTHERS --rendered=16 \\
        --facades=FACADES --layer=fc5 --workdir=runs/adversarial

Begins with the decoder trained by train_decoder. Losses of the generator: --image_weight × squared
error of the mean over --draws of the noise (1 = from black to white) + --descriptor_weight ×
‖φ - φ0‖² / ‖φ0‖² + --feature_weight × the same at other taps, and in a --comparator, of the means +
--adversarial_weight × hinge loss of a discriminator that sees the descriptor too.

Writes what train_decoder writes, and to metrics.csv the health of the training: the discriminator's
accuracy on real and made images, both gradients' norms, its loss, loss_ratio (its cross-entropy by
the generator's; 2 at a draw). Stops with a sentence when one side has won. health.png shows it.
"""

from absl import flags

from experiments.common import decoder_options, decoder_run_options, options, runtime

flags.set_default(decoder_run_options.LEARNING_RATE, 2e-4)
flags.set_default(decoder_options.NETWORK, "sharp")
_DECODER = flags.DEFINE_string(
    "decoder",
    None,
    "Decoder that training begins with: a bundled one or a .safetensors file; ENCODER-LAYER if not"
    " given, random weights if empty.",
)
_JUDGE = options.judge()
_IMAGE = flags.DEFINE_float(
    "image_weight", 10.0, "Weight of the squared error of the mean over draws; 0: not in the loss."
)
_DESCRIPTOR = flags.DEFINE_float(
    "descriptor_weight", 1.0, "Weight of the descriptor's relative loss; 0: not in the loss."
)
_FEATURES = flags.DEFINE_float(
    "feature_weight", 1.0, "Weight of the relative losses at --feature_taps; 0: not in the loss."
)
_TAPS = flags.DEFINE_list(
    "feature_taps", ["conv2", "conv4"], "Taps of the encoder whose features are compared besides."
)
_COMPARATOR = flags.DEFINE_string(
    "comparator",
    None,
    "ENCODER/LAYER whose features are compared besides, such as squeezenet/fire5.",
)
_ADVERSARIAL = flags.DEFINE_float(
    "adversarial_weight", 0.3, "Weight of the loss that the discriminator gives."
)
_NOISE = flags.DEFINE_integer(
    "noise_numbers", 64, "Random numbers that the decoder reads beside a descriptor.", lower_bound=1
)
_DRAWS = flags.DEFINE_integer(
    "draws", 2, "Images made of each descriptor in a training step.", lower_bound=1
)
_PACE = flags.DEFINE_float(
    "pace", 2.0, "Learning rate of the discriminator, as a multiple of --learning_rate."
)
_PAUSE = flags.DEFINE_float(
    "pause",
    0.0,
    "Ratio loss_ratio below which the discriminator waits (Dosovitskiy & Brox: 0.1); 0: never.",
    lower_bound=0.0,
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"noise": "noise_numbers"})

import numpy as np

from experiments.common import decoder_inputs, decoder_run
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import Collapsed
from posenet_jax.evaluation import decoder_evaluation, image_sets
from posenet_jax.evaluation.decoder_evaluation import ImageSet
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.report.decoder_plots import health_figure
from posenet_jax.training import decoder_training
from posenet_jax.training.adversarial import AdversarialConfig
from posenet_jax.training.collapse import collapse
from posenet_jax.training.training_loop import read_metrics


def _adversarial() -> AdversarialConfig:
    return AdversarialConfig(
        image=_IMAGE.value,
        descriptor=_DESCRIPTOR.value,
        features=_FEATURES.value,
        adversarial=_ADVERSARIAL.value,
        noise=_NOISE.value,
        draws=_DRAWS.value,
        layers=tuple(_TAPS.value),
        discriminator_lr_scale=_PACE.value,
        discriminator_pause_below=_PAUSE.value,
    )


def _comparator() -> Tap | None:
    if not _COMPARATOR.value:
        return None
    encoder, layer = weights.encoder_and_layer(_COMPARATOR.value)
    return encoder.tap(layer)


def main() -> int:
    """Trains, or resumes, and writes the generator with its figures; returns the exit code."""
    adversarial = _adversarial()
    config = decoder_training.DecoderConfig(
        network=decoder_options.NETWORK.value,
        drops=decoder_run_options.drops(),
        adversarial=adversarial,
    )
    data = decoder_inputs.load(
        decoder_options.WORKDIR.value, (adversarial.draws, adversarial.noise)
    )
    layer = decoder_options.LAYER.value
    shape = decoding.descriptor_shape(data.encoder, layer)
    first = decoder_training.init_state(config, shape, decoder_options.SEED.value)
    if _DECODER.value != "":
        begin = decoding.decoder_for(data.encoder, layer, _DECODER.value)
        first = decoder_training.initialised_from(first, begin)
        data = data._replace(scale=begin.descriptor_scale)
    judge, comparator = weights.load_encoder(_JUDGE.value), _comparator()

    def figures(decoder: decoding.Decoder, images: ImageSet) -> dict[str, float]:
        draws = np.stack([decoder_evaluation.pictures(decoder, images, draw) for draw in (0, 1)])
        pictures = draws[0]
        context = Context(data.tap, images.descriptors, pictures, images.images, judge.tap("fc5"))
        found = measured(context, ("picture_relative_loss", "judge_relative_loss"))
        return {
            "relative_loss": float(found["picture_relative_loss"].mean()),
            "judge_relative_loss": float(found["judge_relative_loss"].mean()),
            **image_sets.set_measures(pictures, images.images, judge.tap("conv4")),
            **image_sets.draw_measures(draws, images.images),
        }

    def watch(workdir) -> None:
        sentence = collapse(read_metrics(workdir / "metrics.csv"))
        if sentence:
            raise Collapsed(sentence)

    workdir, _ = decoder_run.run(
        config, data, first, comparator=comparator, judge=figures, watch=watch
    )
    health_figure(workdir / "health.png", workdir / "metrics.csv")
    print(f"wrote {workdir / 'decoder.safetensors'}, decoder.json, health.png and samples/")
    return 0


if __name__ == "__main__":
    runtime.run(main)
