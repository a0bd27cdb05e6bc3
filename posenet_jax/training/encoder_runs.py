"""A training run of the encoder: pairs of views in, weights with their metrics out.

The run's folder holds checkpoints/, metrics.csv and tensorboard/ (`training_loop`), and from each
evaluation weights.safetensors and weights.json: the metrics of these weights on held-out streets,
and on held-out photographs where there are some.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from posenet_jax import geometry, numerics
from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import (
    Pairs,
    PairSource,
    PhotoPairs,
    RenderedPairs,
    RoomPairs,
)
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.images.preprocessing import Preprocessing, channel_means
from posenet_jax.io import files
from posenet_jax.sharding import on_every_device
from posenet_jax.training import pose_training, training_loop
from posenet_jax.training.pose_training import SOURCES, TrainConfig, TrainState
from posenet_jax.training.training_loop import LoopConfig

Array = jax.Array

WEIGHTS = "weights.safetensors"

# Folded into the seed's key; the bundled weights rest on the numbers.
_PURPOSES = {
    "facades": 1,
    "pose scale": 2,
    "held out": 3,
    "colours": 4,
    "batches": 5,
    "held-out photographs": 6,
}
_POSE_DRAWS = 64


def key_of(seed: int, purpose: str) -> Array:
    """Returns the key of a purpose, one of `_PURPOSES`."""
    return jax.random.fold_in(numerics.seed_key(seed), _PURPOSES[purpose])


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderData:
    """Pairs to train and to evaluate on, and the units that follow from them."""

    sources: Mapping[str, PairSource]  # by the names of `TrainConfig.sources`
    held_out: Pairs  # of streets; host arrays
    held_out_photographs: Mapping[str, Pairs]  # by the beginning of their metrics' names
    space: Preprocessing  # of the encoder: mean colours of rendered pairs, or as it began
    scale: PoseScale  # mean and deviation of rendered pairs' poses, or as it began
    start: Encoder | None = None  # whose weights the run begins with; None: random ones


def prepare(
    seed: int,
    sources: Mapping[str, PairSource],
    held_out: RenderedPairs,
    held_out_pairs: int,
    *,
    held_out_photographs: Mapping[str, PhotoPairs | RoomPairs] | None = None,
    start: Encoder | None = None,
) -> EncoderData:
    """Returns the data of a run: draws the held-out pairs, and measures colours and poses.

    sources: by the names of `TrainConfig.sources`. Colours and poses are those of the `rendered`
    one, or of the encoder that the run begins with.
    """
    if start is None or start.pose_scale is None:
        rendered = sources["rendered"]
        if not isinstance(rendered, RenderedPairs):
            raise InputError("source rendered must be RenderedPairs, whose poses are drawn alone")
        sample = np.asarray(rendered(key_of(seed, "colours")).image)
        space = Preprocessing(means=channel_means(sample.reshape((-1, *sample.shape[2:]))))
        scale = _pose_scale(rendered, key_of(seed, "pose scale"))
    else:
        space, scale = start.preprocessing, start.pose_scale
    photograph_key = key_of(seed, "held-out photographs")
    return EncoderData(
        sources,
        training_pairs.drawn(held_out, key_of(seed, "held out"), held_out_pairs),
        {
            name: training_pairs.drawn(source, photograph_key, held_out_pairs)
            for name, source in (held_out_photographs or {}).items()
        },
        space,
        scale,
        start,
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


def source_keys(key: Array) -> dict[str, Array]:
    """Returns a key for each source; the bundled weights rest on the first two."""
    first = jax.random.split(key)
    others = (jax.random.fold_in(key, number) for number in range(2, len(SOURCES)))
    return dict(zip(SOURCES, (*first, *others), strict=True))


def train(
    config: TrainConfig,
    data: EncoderData,
    workdir: Path,
    mesh: Mesh,
    *,
    keep: Collection[int] = (),
) -> Iterator[tuple[int, dict[str, float], TrainState]]:
    """Trains to `config.steps`, or resumes; yields as `training_loop.train`, and raises as it.

    Batches follow from the seed and the step alone. keep: steps whose weights are kept, in
    weights-STEP.safetensors, whatever comes after.
    """

    def batch(number: int) -> tuple[Pairs, ...]:
        keys = source_keys(jax.random.fold_in(key_of(config.seed, "batches"), number))
        return tuple(data.sources[name](keys[name]) for name in config.sources)

    state = (
        pose_training.start_from(data.start, config)
        if data.start
        else pose_training.init_state(config)
    )
    first = jax.device_put(state, on_every_device(mesh))
    held = data.start and (config.change_weight or config.photo_turns)
    # Copied: the state's own arrays are donated to the first step.
    former = numerics.copied(first.params) if held else None

    def step(state: TrainState, batches: tuple[Pairs, ...]) -> tuple[TrainState, dict[str, Array]]:
        return pose_training.train_step(
            state, batches, data.scale, config=config, space=data.space, mesh=mesh, former=former
        )

    def evaluated(state: TrainState) -> dict[str, float]:
        encoder = jax.device_get(
            pose_training.in_image_units(
                state.ema_params, config, data.space, data.scale, config.architecture
            )
        )
        return evaluate(encoder, int(state.step), data, workdir, mesh, keep)

    return training_loop.train(
        first,
        step=step,
        batch=batch,
        evaluate=evaluated,
        workdir=workdir,
        config=LoopConfig(steps=config.steps, evaluate_at=tuple(keep)),
    )


def evaluate(
    encoder: Encoder,
    step: int,
    data: EncoderData,
    workdir: Path,
    mesh: Mesh,
    keep: Collection[int] = (),
) -> dict[str, float]:
    """Writes the weights of a step and their metrics on held-out pairs; returns the numbers.

    keep: steps whose weights are kept, in weights-STEP.safetensors, whatever comes after.
    """
    predictions = pose_evaluation.predict(encoder, data.held_out.image, mesh)
    metrics: dict[str, Any] = pose_evaluation.summary(predictions, data.held_out)
    for name, pairs in data.held_out_photographs.items():
        rotation = pose_evaluation.rotation_medians(encoder, pairs, mesh)
        metrics |= {f"{name}_{key}": value for key, value in rotation.items()}
    weights.save_encoder(workdir / WEIGHTS, encoder)
    if step in keep:
        weights.save_encoder(workdir / f"weights-{step}.safetensors", encoder)
    fingerprint = weights.load_encoder(workdir / WEIGHTS).fingerprint
    record = {"figures": metrics, "fingerprint": fingerprint, "steps": step}
    files.write_json(workdir / "weights.json", record)
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
