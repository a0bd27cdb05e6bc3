"""Trains a decoder against a discriminator, to sharp images that have the same descriptor.

    posenet-jax train_adversarial --images=PHOTOS --val_images=OTHERS --rendered=16 \\
        --facades=FACADES --layer=fc5 --workdir=runs/adversarial

Starts from a decoder trained by train_decoder or by this script. Losses of the generator:
--image_weight × squared error of the mean over --draws of the noise (1 = from black to white), or
their energy score (--score) + --descriptor_weight × ‖φ - φ0‖² / ‖φ0‖² + --feature_weight × the
error, or the score, at other taps and in a --comparator, relative to their size +
--spectrum_weight × squared difference of log spectra + --pattern_weight × that of mean fine detail
at each place + --adversarial_weight × hinge loss of a discriminator that sees the descriptor too,
and --discriminator_taps of the comparator.

Writes what train_decoder writes, and to metrics.csv the health of the training: the discriminator's
accuracy on real and generated (made) images, both gradients' norms, its loss, and loss_ratio, its
cross-entropy over the generator's (2 when neither is better). Stops with an error when either side
has collapsed. health.png shows it.
"""

from absl import flags

from .common import (
    adversarial_options,
    buckets,
    decoder_options,
    decoder_run_options,
    options,
    runtime,
)

flags.set_default(decoder_run_options.LEARNING_RATE, 2e-4)
flags.set_default(decoder_options.NETWORK, "refined")
_DECODER = buckets.string(
    "decoder",
    None,
    "Decoder whose weights training starts from: a bundled one or a .safetensors file; the bundled"
    " ENCODER-LAYER-adversarial, where there is one, if not given; empty: random weights.",
)
_JUDGE = options.judge()
if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(
        renamed={
            "noise": "noise_numbers",
            "pace": "discriminator_lr_scale",
            "pause": "discriminator_pause_below",
        }
    )

from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.report.decoder_plots import health_figure
from posenet_jax.training import decoder_runs
from posenet_jax.training.decoder_training import DecoderConfig

from .common import decoder_inputs, decoder_run


def main() -> int:
    """Trains, or resumes, and writes the generator with its metrics; returns the exit code."""
    adversarial = adversarial_options.config()
    config = DecoderConfig(
        network=decoder_options.NETWORK.value,
        drops=decoder_run_options.drops(),
        adversarial=adversarial,
    )
    noise = adversarial.draws, adversarial.noise
    data = decoder_inputs.load(decoder_options.WORKDIR.value, noise)
    encoder, layer = data.encoder, data.tap.layer
    name = _DECODER.value
    if name is None:
        name = decoding.bundled_generator(encoder, layer)
    start = decoding.decoder_for(encoder, layer, name) if name else None
    judge, comparator = weights.load_encoder(_JUDGE.value), adversarial_options.comparator()
    data, first = decoder_runs.first_state(
        config, data, decoder_options.SEED.value, start, comparator
    )
    workdir, _ = decoder_run.run(config, data, first, comparator=comparator, judge=judge)
    health_figure(workdir / "health.png", workdir / "metrics.csv")
    print(f"wrote {workdir / 'decoder.safetensors'}, decoder.json, health.png and samples/")
    return 0


if __name__ == "__main__":
    runtime.run(main)
