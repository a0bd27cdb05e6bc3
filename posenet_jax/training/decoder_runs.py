"""A training run of a decoder: descriptors and images in, weights with their metrics out.

The run's folder holds checkpoints/, metrics.csv and tensorboard/ (`training_loop`), and from each
evaluation decoder.safetensors, decoder.json with the metrics of these weights, and a page of
samples/, pictures beside their originals.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.evaluation.decoder_evaluation import ImageSet
from posenet_jax.images import contact_sheet
from posenet_jax.io import files, storage
from posenet_jax.sharding import on_every_device
from posenet_jax.training import collapse, decoder_training, training_loop
from posenet_jax.training.decoder_data import DecoderData
from posenet_jax.training.decoder_training import DecoderBatch, DecoderConfig, DecoderState
from posenet_jax.training.training_loop import LoopConfig

Array = jax.Array

Data = TypeVar("Data", bound=DecoderData)

WEIGHTS = "decoder.safetensors"

_SHOWN = 8
_DRAW = 0  # of the noise of a decoder that reads some


def first_state(
    config: DecoderConfig,
    data: Data,
    seed: int,
    start: Decoder | None = None,
    comparator: Tap | None = None,
) -> tuple[Data, DecoderState]:
    """Returns the data and the state that a training begins with.

    start: a decoder of this layer whose weights it has; descriptors are then scaled as for it.
    comparator: as in `decoder_training.init_state`. Raises InputError where the decoder does not
    fit the network.
    """
    shape = decoding.descriptor_shape(data.encoder, data.tap.layer)
    state = decoder_training.init_state(config, shape, seed, comparator)
    if start is None:
        return data, state
    scaled = dataclasses.replace(data, scale=start.descriptor_scale)
    return scaled, decoder_training.initialised_from(state, start)


def train(
    config: DecoderConfig,
    data: DecoderData,
    state: DecoderState,
    workdir: Path,
    loop: LoopConfig,
    *,
    learning_rate: float,
    comparator: Tap | None = None,
    judge: Encoder | None = None,
    baselines: Mapping[str, float] | None = None,
) -> Iterator[tuple[int, dict[str, float], DecoderState]]:
    """Trains to `loop.steps`, or resumes; yields as `training_loop.train`, and raises as it.

    comparator: of adversarial losses (`adversarial.generator_loss`). judge: an encoder for
    `decoder_evaluation.perceptual_measures`, which are left out without one. baselines: metrics to
    note in decoder.json beside the decoder's. Raises Collapsed where an adversarial training has.
    """
    state, tap, scale, rate, other = jax.device_put(
        (state, data.tap, data.scale, jnp.float32(learning_rate), comparator),
        on_every_device(data.mesh),
    )

    def step(state: DecoderState, batch: DecoderBatch) -> tuple[DecoderState, dict[str, Array]]:
        return decoder_training.train_step(
            state, batch, tap, scale, rate, other, config=config, mesh=data.mesh
        )

    def evaluate(state: DecoderState) -> dict[str, float]:
        decoder = _saved(state, config, data, workdir)
        metrics = _evaluated(decoder, data, judge)
        steps = int(state.step)
        storage.make_folder(workdir / "samples")
        _write_samples(workdir / "samples" / f"step-{steps:06d}.png", decoder, data.judged)
        record = {"steps": steps, **metrics, **(baselines or {})}
        files.write_json(workdir / "decoder.json", record)
        return metrics

    for reached in training_loop.train(
        state, step=step, batch=data.batches, evaluate=evaluate, workdir=workdir, config=loop
    ):
        if config.adversarial and reached[0] % loop.log_every == 0:
            collapse.check(workdir / "metrics.csv")
        yield reached


def _saved(state: DecoderState, config: DecoderConfig, data: DecoderData, workdir: Path) -> Decoder:
    """Returns the decoder of the averaged weights, written and read again."""
    average = jax.device_get(state.average)
    decoder = decoder_training.trained_decoder(
        average, data.scale, config, data.encoder, data.tap.layer
    )
    decoding.save_decoder(workdir / WEIGHTS, decoder)
    return decoding.load_decoder(workdir / WEIGHTS)


def _evaluated(decoder: Decoder, data: DecoderData, judge: Encoder | None) -> dict[str, float]:
    """Returns the metrics of a decoder on every set."""
    metrics: dict[str, float] = {}
    for name, images in data.judged.items():
        metrics[f"{name}_mse"] = float(decoder_evaluation.errors(decoder, images, _DRAW).mean())
        if judge:
            more = decoder_evaluation.perceptual_measures(decoder, images, data.tap, judge)
            metrics |= {f"{name}_{measure}": value for measure, value in more.items()}
    return metrics


def _write_samples(path: Path, decoder: Decoder, sets: Mapping[str, ImageSet]) -> None:
    """Writes a page of a few images of each set, decoded; with noise drawn besides, if it is read.

    The first pictures have no noise.
    """
    shown = {name: images.take(_SHOWN) for name, images in sets.items()}

    def joined(draw: int | None) -> np.ndarray:
        return np.concatenate(
            [decoder_evaluation.pictures(decoder, images, draw) for images in shown.values()]
        )

    originals = np.concatenate([images.images for images in shown.values()])
    columns: dict[str, Any] = {"original": originals, "decoded": joined(None)}
    if decoder.noise:
        columns["drawn"] = joined(_DRAW)
    labels = [
        f"{name} {number + 1}"
        for name, images in shown.items()
        for number in range(len(images.names))
    ]
    contact_sheet.image_grid(path, columns, row_labels=labels)
