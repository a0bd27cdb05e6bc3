"""The run that the scripts that train a decoder share."""

import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from experiments.common import decoder_options, decoder_run_options, run_sources
from experiments.common.decoder_inputs import DecoderInputs
from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.evaluation.decoder_evaluation import ImageSet
from posenet_jax.images import contact_sheet
from posenet_jax.io import files, output_folder, provenance
from posenet_jax.io.run_files import read_json
from posenet_jax.training import decoder_training, training_loop
from posenet_jax.training.decoder_training import DecoderConfig, DecoderState

_STEP = re.compile(r" *[0-9]{1,18} *")  # as --drops holds it
_SHOWN = 8
_DRAW = 0  # of the noise of a decoder that reads some


def _check_drops(workdir: Path, done: int) -> None:
    """InputError where a run would go on as if its learning rate had not dropped as it has."""
    record = workdir / "run.json"
    if not done or not record.exists():
        return
    remedy = "restore it, or give another --workdir"
    before = read_json(record, {"flags": {"drops": [_STEP]}}, remedy=remedy)["flags"]["drops"]
    past, now = (
        [drop for drop in of if drop < done]
        for of in (map(int, before), decoder_run_options.drops())
    )
    if past != now:
        said = ",".join(map(str, past)) or "no step"
        raise InputError(
            f"{workdir}: in the {done} steps done the learning rate has dropped after {said}: "
            "begin --drops with that, or give another --workdir"
        )


def _controls(data: DecoderInputs) -> dict[str, float]:
    """Errors of baselines that know less, on each set."""
    figures = {}
    for name, images in data.judged.items():
        mean = decoder_evaluation.mean_image_errors(data.known, images)
        figures[f"{name}_mean_image_mse"] = float(mean.mean())
        if name != "train":  # whose nearest neighbours are themselves
            near = decoder_evaluation.nearest_neighbour_errors(data.known, images)
            figures[f"{name}_nearest_neighbour_mse"] = float(near.mean())
    return figures


def run(
    config: DecoderConfig,
    data: DecoderInputs,
    first: DecoderState,
    *,
    comparator: Tap | None = None,
    judge: Callable[[Decoder, ImageSet], dict[str, float]] = lambda decoder, images: {},
    watch: Callable[[Path], None] = lambda workdir: None,
) -> tuple[Path, dict[str, float]]:
    """Trains, or resumes, and writes what the scripts say; returns (folder, controls' errors).

    comparator: of a game's losses. judge: further figures of a decoder on a set. watch: called
    after every line of metrics.csv; what it raises ends the run.
    """
    workdir = output_folder.prepare_workdir(decoder_options.WORKDIR.value)
    done = run_sources.steps_done(workdir, "decoder.safetensors")
    _check_drops(workdir, done)
    if done:
        run_sources.check(workdir / "run.json", f"the {done} steps done", data.sources)
    controls = _controls(data)
    record = {
        "encoder": data.encoder.name,
        "weights": data.encoder.fingerprint,
        "sources": data.sources,
        **controls,
    }
    files.write_json(
        workdir / "run.json", provenance.run_record(flags.FLAGS.flag_values_dict(), record)
    )
    everywhere = NamedSharding(data.mesh, PartitionSpec())
    first, tap, scale, rate, other = jax.device_put(
        (
            first,
            data.tap,
            data.scale,
            jnp.float32(decoder_run_options.LEARNING_RATE.value),
            comparator,
        ),
        everywhere,
    )

    def step(state, batch):
        return decoder_training.train_step(
            state, batch, tap, scale, rate, other, config=config, mesh=data.mesh
        )

    def evaluate(state: DecoderState) -> dict[str, float]:
        """Figures on every set; the weights that have them, and pictures, are written."""
        decoder = decoder_training.trained_decoder(
            jax.device_get(state.average),
            data.scale,
            config,
            data.encoder,
            decoder_options.LAYER.value,
        )
        decoding.save_decoder(workdir / "decoder.safetensors", decoder)
        decoder = decoding.load_decoder(workdir / "decoder.safetensors")
        figures = {}
        for name, images in data.judged.items():
            errors = decoder_evaluation.errors(decoder, images, _DRAW)
            figures[f"{name}_mse"] = float(errors.mean())
            more = judge(decoder, images)
            figures |= {f"{name}_{measure}": value for measure, value in more.items()}
        done = int(state.step)
        _write_samples(workdir / "samples", f"step-{done:06d}.png", decoder, data)
        files.write_json(workdir / "decoder.json", {"steps": done, **figures, **controls})
        return figures

    loop = training_loop.LoopConfig(
        steps=decoder_run_options.STEPS.value,
        evaluate_every=decoder_run_options.EVALUATE.value,
        checkpoint_every=decoder_run_options.CHECKPOINT.value,
    )
    with tqdm(
        total=decoder_run_options.STEPS.value,
        initial=done,
        unit="batch",
        mininterval=2.0,
        dynamic_ncols=True,
    ) as bar:
        for done, figures, _ in training_loop.train(
            first, step=step, batch=data.batches, evaluate=evaluate, workdir=workdir, config=loop
        ):
            bar.update(done - bar.n)
            if done % loop.log_every == 0:
                shown = {k: v for k, v in figures.items() if k == "loss" or k.endswith("_mse")}
                bar.set_postfix({k: f"{v:.4f}" for k, v in shown.items()}, refresh=False)
                watch(workdir)
    return workdir, controls


def _write_samples(folder: Path, file: str, decoder, data: DecoderInputs) -> None:
    folder.mkdir(exist_ok=True)
    shown = [images.take(_SHOWN) for images in data.judged.values()]
    columns = {
        "original": np.concatenate([images.images for images in shown]),
        "decoded": np.concatenate([decoder_evaluation.pictures(decoder, s) for s in shown]),
    }
    if decoder.noise:
        drawn = [decoder_evaluation.pictures(decoder, s, _DRAW) for s in shown]
        columns["drawn"] = np.concatenate(drawn)
    labels = [f"{name} {i + 1}" for name, s in zip(data.judged, shown, strict=True)
              for i in range(len(s.names))]  # fmt: skip
    contact_sheet.image_grid(folder / file, columns, row_labels=labels)
