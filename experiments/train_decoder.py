"""Trains an up-convolutional decoder: from a descriptor to the image it came from.

    posenet-jax train_decoder --images=PHOTOS --val_images=OTHERS --rendered=32 \\
        --facades=FACADES --layer=fc5 --steps=20000 --drops=12000,17000 --workdir=runs/fc5

Writes checkpoints/ (an interrupted run is resumed from there), metrics.csv and tensorboard/
(losses: mean squared errors, 1 = from black to white); at every evaluation samples/, pictures
beside their originals, and decoder.safetensors with decoder.json, its errors beside those of the
mean image and of the nearest training neighbour; at the end curve.png.
`--limit=8 --batch_size=8 --smallest_crop=1` overfits 8 images.
"""

from absl import flags

from .common import decoder_options, decoder_run_options, runtime

_PLATEAU = flags.DEFINE_integer(
    "plateau",
    0,
    "Plateau schedule instead of --drops: average the training loss over this many steps, and"
    " divide the learning rate by ten after three averages without an improvement of 0.1 %; 0: no.",
    lower_bound=0,
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax.report.decoder_plots import curve_figure
from posenet_jax.training import decoder_runs
from posenet_jax.training.decoder_training import DecoderConfig

from .common import decoder_inputs, decoder_run


def main() -> int:
    """Trains, or resumes, and writes the decoder with its metrics; returns the exit code."""
    config = DecoderConfig(
        network=decoder_options.NETWORK.value,
        drops=decoder_run_options.drops(),
        plateau=_PLATEAU.value,
    )
    data = decoder_inputs.load(decoder_options.WORKDIR.value)
    data, first = decoder_runs.first_state(config, data, decoder_options.SEED.value)
    workdir, baselines = decoder_run.run(config, data, first)
    curve_figure(workdir / "curve.png", workdir / "metrics.csv", baselines, config.drops)
    print(f"wrote {workdir / 'decoder.safetensors'}, decoder.json, curve.png and samples/")
    return 0


if __name__ == "__main__":
    runtime.run(main)
