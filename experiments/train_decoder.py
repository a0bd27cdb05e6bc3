"""Trains an up-convolutional decoder: from a descriptor to the image it came from.

    python -m experiments.train_decoder --images=PHOTOS --val_images=OTHERS --rendered=32 \\
        --facades=FACADES --layer=fc5 --steps=20000 --drops=12000,17000 --workdir=runs/fc5

Writes checkpoints/ (a killed run resumes there), metrics.csv and tensorboard/ (losses: mean squared
errors, 1 = from black to white), at every evaluation samples/, pictures beside their originals, and
decoder.safetensors with decoder.json, its errors beside those of the mean image and of the nearest
training neighbour; last curve.png. `--limit=8 --batch_size=8 --smallest_crop=1` overfits 8 images.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from experiments import decoder_inputs, runtime
from posenet_jax import decoder_evaluation, decoder_training, decoding, reporting, training_loop
from posenet_jax.decoder import NETWORKS
from posenet_jax.decoder_figures import curve_figure
from posenet_jax.errors import InputError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_NETWORK = flags.DEFINE_enum("network", "mirror", list(NETWORKS), "Which decoder.")
_STEPS = flags.DEFINE_integer(
    "steps", 20_000, "Batches. A run resumed with another number goes on to it.", lower_bound=1
)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 2e-3, "Adam's rate.", lower_bound=0.0)
_DROPS = flags.DEFINE_list("drops", [], "Steps after which the learning rate is divided by ten.")
_PLATEAU = flags.DEFINE_integer(
    "plateau",
    0,
    "Divide it instead when the training loss, averaged over so many steps, has not fallen for"
    " three such averages; 0: not.",
    lower_bound=0,
)
_EVALUATE = flags.DEFINE_integer(
    "evaluate_every", 1000, "Steps between evaluations, multiple of 50.", lower_bound=50
)
_CHECKPOINT = flags.DEFINE_integer(
    "checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1
)
_SHOWN = 8


def _config() -> decoder_training.DecoderConfig:
    try:
        drops = tuple(int(drop) for drop in _DROPS.value)
    except ValueError as error:
        raise InputError(f"--drops takes numbers of steps, received {_DROPS.value}") from error
    return decoder_training.DecoderConfig(
        network=_NETWORK.value, drops=drops, plateau=_PLATEAU.value
    )


def _controls(data: decoder_inputs.DecoderInputs) -> dict[str, float]:
    """What knowing less scores on each set."""
    figures = {}
    for name, images in data.judged.items():
        mean = decoder_evaluation.mean_image_errors(data.known, images)
        figures[f"{name}_mean_image_mse"] = float(mean.mean())
        if name != "train":  # whose nearest neighbours are themselves
            near = decoder_evaluation.nearest_neighbour_errors(data.known, images)
            figures[f"{name}_nearest_neighbour_mse"] = float(near.mean())
    return figures


def main() -> int:
    """Trains, or resumes, and writes the decoder with its figures; returns the exit code."""
    config = _config()
    workdir = reporting.prepare_output(_WORKDIR.value)
    data = decoder_inputs.load()
    shape = decoding.descriptor_shape(data.encoder, decoder_inputs.LAYER.value)
    controls = _controls(data)
    record = {"encoder": data.encoder.name, "weights": data.encoder.fingerprint, **controls}
    reporting.write_json(
        workdir / "run.json", reporting.run_record(flags.FLAGS.flag_values_dict(), record)
    )
    everywhere = NamedSharding(data.mesh, PartitionSpec())
    tap, scale, rate = jax.device_put(
        (data.tap, data.scale, jnp.float32(_LEARNING_RATE.value)), everywhere
    )

    def step(state, batch):
        return decoder_training.train_step(
            state, batch, tap, scale, rate, config=config, mesh=data.mesh
        )

    def evaluate(state) -> dict[str, float]:
        """Figures on every set; the weights that have them, and pictures, are written."""
        decoder = decoder_training.trained_decoder(
            jax.device_get(state.average), data.scale, config, data.encoder,
            decoder_inputs.LAYER.value,
        )  # fmt: skip
        decoding.save_decoder(workdir / "decoder.safetensors", decoder)
        decoder = decoding.load_decoder(workdir / "decoder.safetensors")
        figures = {
            f"{name}_mse": float(decoder_evaluation.errors(decoder, images).mean())
            for name, images in data.judged.items()
        }
        done = int(state.step)
        _write_samples(workdir / "samples", f"step-{done:06d}.png", decoder, data)
        reporting.write_json(workdir / "decoder.json", {"steps": done, **figures, **controls})
        return figures

    first = jax.device_put(
        decoder_training.init_state(config, shape, decoder_inputs.SEED.value), everywhere
    )
    loop = training_loop.LoopConfig(
        steps=_STEPS.value,
        evaluate_every=_EVALUATE.value,
        checkpoint_every=_CHECKPOINT.value,
    )
    done = training_loop.steps_done(workdir)
    with tqdm(
        total=_STEPS.value, initial=done, unit="batch", mininterval=2.0, dynamic_ncols=True
    ) as bar:
        for done, figures, _ in training_loop.train(
            first, step=step, batch=data.batches, evaluate=evaluate, workdir=workdir, config=loop
        ):
            bar.update(done - bar.n)
            if done % loop.log_every == 0:
                shown = {k: v for k, v in figures.items() if k == "loss" or k.endswith("_mse")}
                bar.set_postfix({k: f"{v:.4f}" for k, v in shown.items()}, refresh=False)
    curve_figure(workdir / "curve.png", workdir / "metrics.csv", controls)
    print(f"wrote {workdir / 'decoder.safetensors'}, decoder.json, curve.png and samples/")
    return 0


def _write_samples(folder: Path, file: str, decoder, data: decoder_inputs.DecoderInputs) -> None:
    folder.mkdir(exist_ok=True)
    shown = [images.take(_SHOWN) for images in data.judged.values()]
    originals = np.concatenate([images.images for images in shown])
    decoded = np.concatenate([decoder_evaluation.pictures(decoder, images) for images in shown])
    labels = [f"{name} {i + 1}" for name, s in zip(data.judged, shown, strict=True)
              for i in range(len(s.names))]  # fmt: skip
    reporting.image_grid(
        folder / file, {"original": originals, "decoded": decoded}, row_labels=labels
    )


if __name__ == "__main__":
    runtime.run(main)
