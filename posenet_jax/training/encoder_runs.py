"""A training run of the encoder: pairs of views in, weights with their metrics out.

The run's folder holds checkpoints/, metrics.csv and tensorboard/ (`training_loop`), and from each
evaluation weights.safetensors and weights.json: the metrics of these weights on held-out streets.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from posenet_jax import geometry, numerics
from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import Pairs, PhotoPairs, RenderedPairs
from posenet_jax.encoders import weights
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.images.preprocessing import Preprocessing, channel_means
from posenet_jax.io import files
from posenet_jax.sharding import on_every_device
from posenet_jax.training import pose_training, training_loop
from posenet_jax.training.pose_training import TrainConfig, TrainState
from posenet_jax.training.training_loop import LoopConfig

Array = jax.Array

WEIGHTS = "weights.safetensors"

# Folded into the seed's key; the bundled weights rest on the numbers.
_PURPOSES = {"facades": 1, "pose scale": 2, "held out": 3, "colours": 4, "batches": 5}
_POSE_DRAWS = 64


def key_of(seed: int, purpose: str) -> Array:
    """Returns the key of a purpose: facades, pose scale, held out, colours or batches."""
    return jax.random.fold_in(numerics.seed_key(seed), _PURPOSES[purpose])


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderData:
    """Pairs to train and to evaluate on, and the units that follow from them."""

    rendered: RenderedPairs
    photographs: PhotoPairs | None
    held_out: Pairs  # host arrays
    space: Preprocessing  # of the encoder: mean colours of rendered pairs
    scale: PoseScale  # mean and deviation of rendered pairs' poses


def prepare(
    seed: int,
    rendered: RenderedPairs,
    photographs: PhotoPairs | None,
    held_out: RenderedPairs,
    held_out_pairs: int,
) -> EncoderData:
    """Returns the data of a run: draws the held-out pairs, and measures colours and poses."""
    sample = np.asarray(rendered(key_of(seed, "colours")).image)
    return EncoderData(
        rendered,
        photographs,
        training_pairs.drawn(held_out, key_of(seed, "held out"), held_out_pairs),
        Preprocessing(means=channel_means(sample.reshape((-1, *sample.shape[2:])))),
        _pose_scale(rendered, key_of(seed, "pose scale")),
    )


def _pose_scale(rendered: RenderedPairs, key: Array) -> PoseScale:
    """Returns mean and deviation of the relative poses of pairs whose target is seen."""
    draws = [rendered.poses(jax.random.fold_in(key, i)) for i in range(_POSE_DRAWS)]
    rotation, centre, visible = (
        np.concatenate([np.asarray(draw[i]) for draw in draws]) for i in range(3)
    )
    return pose_training.pose_scale(
        geometry.relative_poses(jnp.asarray(rotation[visible]), jnp.asarray(centre[visible]))
    )


def train(
    config: TrainConfig, data: EncoderData, workdir: Path, mesh: Mesh
) -> Iterator[tuple[int, dict[str, float], TrainState]]:
    """Trains to `config.steps`, or resumes; yields as `training_loop.train`, and raises as it.

    Batches follow from the seed and the step alone.
    """

    def batch(number: int) -> tuple[Pairs, ...]:
        key = jax.random.fold_in(key_of(config.seed, "batches"), number)
        rendered_key, photo_key = jax.random.split(key)
        rendered = data.rendered(rendered_key)
        return (rendered, data.photographs(photo_key)) if data.photographs else (rendered,)

    def step(state: TrainState, batches: tuple[Pairs, ...]) -> tuple[TrainState, dict[str, Array]]:
        return pose_training.train_step(
            state, batches, data.scale, config=config, space=data.space, mesh=mesh
        )

    first = jax.device_put(pose_training.init_state(config), on_every_device(mesh))
    return training_loop.train(
        first,
        step=step,
        batch=batch,
        evaluate=lambda state: _evaluate(state, config, data, workdir, mesh),
        workdir=workdir,
        config=LoopConfig(steps=config.steps),
    )


def _evaluate(
    state: TrainState, config: TrainConfig, data: EncoderData, workdir: Path, mesh: Mesh
) -> dict[str, float]:
    """Writes the averaged weights and their metrics on held-out streets; returns the numbers."""
    encoder = jax.device_get(
        pose_training.in_image_units(
            state.ema_params, config, data.space, data.scale, config.architecture
        )
    )
    predictions = pose_evaluation.predict(encoder, data.held_out.image, mesh)
    metrics: dict[str, Any] = pose_evaluation.summary(predictions, data.held_out)
    weights.save_encoder(workdir / WEIGHTS, encoder)
    fingerprint = weights.load_encoder(workdir / WEIGHTS).fingerprint
    record = {"figures": metrics, "fingerprint": fingerprint, "steps": int(state.step)}
    files.write_json(workdir / "weights.json", record)
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
