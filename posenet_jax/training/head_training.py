"""Training of a correction to the poses that an encoder's heads predict, the encoder left as it is.

What heads misread need not be missing from the descriptor. Pairs of views are encoded once, into a
pool; a small network on two descriptors (`heads.PoseCorrection`) then learns what to add to the
poses. Descriptor, matching and normals stay as they are by construction, and with them all that was
measured or trained with the encoder.

Arrays: N pairs of a pool, F descriptor length. Corrections are trained on descriptors over GAIN.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh

from posenet_jax import geometry, numerics
from posenet_jax.data.training_pairs import PairSource
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.heads import PoseCorrection, PoseScale
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.io import storage
from posenet_jax.io.tensors import checked_tree, fingerprint, read_tensors, write_tensors
from posenet_jax.training import encoder_runs, training_loop
from posenet_jax.training.pose_losses import robust_distance, turning_distance, weighted_mean
from posenet_jax.training.pose_training import GAIN
from posenet_jax.training.training_loop import LoopConfig

Array = jax.Array

_CHUNK = 50  # draws of a source in a file


@dataclasses.dataclass(frozen=True)
class CorrectionConfig:
    """Everything that decides the correction besides the data."""

    steps: int = 3000
    units: int = 512
    rendered_pairs: int = 192  # a step
    plain_pairs: int = 256
    photo_pairs: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-2
    seed: int = 0


@struct.dataclass
class EncodedPairs:
    """Pairs of a pool, each from either side: of view 2 seen from view 1, and the other way."""

    descriptors: Array | np.ndarray  # [N, 2, F] float16
    predicted: Array | np.ndarray  # [N, 2, 6] z-scored poses of the heads as they are
    pose: Array | np.ndarray  # [N, 2, 6] true ones, radians and metres
    weight: Array | np.ndarray  # [N]


@struct.dataclass
class CorrectionState:
    """Everything the next step needs."""

    step: Array  # [] int32
    params: Any
    opt_state: optax.OptState


def encoded(
    encoder: Encoder,
    source: PairSource,
    name: str,
    draws: int,
    folder: Path,
    mesh: Mesh,
    *,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> EncodedPairs:
    """Returns the pairs of so many draws of a source, encoded; host arrays.

    Files of the folder hold what was encoded before. name: of the source, one of `SOURCES`; draws
    are those of as many training steps of the seed. progress: called with numbers of draws.
    """
    parts, identity = [], _identity(encoder)
    storage.make_folder(folder)
    for first in range(0, draws, _CHUNK):
        numbers = range(first, min(first + _CHUNK, draws))
        path = folder / f"{name}-{first:06d}-{numbers.stop:06d}.safetensors"
        if not storage.is_file(path):
            drawn = []
            for number in numbers:
                key = jax.random.fold_in(encoder_runs.key_of(seed, "batches"), number)
                pairs = jax.device_get(source(encoder_runs.source_keys(key)[name]))
                drawn.append(_encoded(encoder, pairs, mesh))
                if progress:
                    progress(1)
            tree = jax.tree.map(lambda *columns: np.concatenate(columns), *drawn)
            write_tensors(path, vars(tree), {"encoder": identity}, "float32")
        elif progress:
            progress(len(numbers))
        parts.append(_read(path, encoder, identity, source.count * len(numbers)))
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def check(encoder: Encoder) -> None:
    """Raises InputError for an encoder without heads, or whose heads are corrected already."""
    pose_evaluation.check_heads(encoder)
    if "correction" in encoder.head_params:
        raise InputError(
            f"the heads of encoder {encoder.name!r} are corrected already: give the encoder that it"
            " was made from"
        )


def _identity(encoder: Encoder) -> str:
    check(encoder)
    return fingerprint({**encoder.params, "heads": encoder.head_params})


def _encoded(encoder: Encoder, pairs: Any, mesh: Mesh) -> EncodedPairs:
    """Returns pairs of views, host arrays, as a pool holds them."""
    descriptors = pose_evaluation.descriptors(encoder, pairs.image, mesh)
    both = descriptors, descriptors[:, ::-1]
    said = [encoder.heads(*map(jnp.asarray, (x[:, 0], x[:, 1]))).pose for x in both]
    views = pairs.rotation, pairs.centre
    true = [geometry.relative_poses(*(x[:, order] for x in views)) for order in ([0, 1], [1, 0])]
    return EncodedPairs(
        descriptors=descriptors.astype(np.float16),
        predicted=np.stack(said, axis=1),
        pose=np.stack(true, axis=1),
        weight=np.asarray(pairs.pose_weight),
    )


def _read(path: Path, encoder: Encoder, identity: str, count: int) -> EncodedPairs:
    """Returns the pairs of a file; InputError where they are not that many of this encoder."""
    arrays, metadata = read_tensors(path)
    if metadata.get("encoder") != identity:
        raise InputError(f"{path} was made with another encoder; give another --workdir")
    size = encoder.module.descriptor_size
    shapes = {
        "descriptors": (count, 2, size),
        "predicted": (count, 2, 6),
        "pose": (count, 2, 6),
        "weight": (count,),
    }
    wanted = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    tree = checked_tree(path, arrays, wanted)
    half = np.asarray(tree.pop("descriptors"), np.float16)
    return EncodedPairs(descriptors=half, **{name: np.asarray(x) for name, x in tree.items()})


@functools.lru_cache(maxsize=64)  # whose functions are compiled once
def _optimizer(config: CorrectionConfig) -> optax.GradientTransformation:
    decayed = max(1, config.steps - config.warmup_steps)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.warmup_steps + decayed
    )
    return optax.adamw(rate, weight_decay=config.weight_decay)


def init_state(config: CorrectionConfig, descriptor_size: int) -> CorrectionState:
    """The state before the first step, whose correction is zero."""
    pair = jnp.zeros((2 * descriptor_size,))
    params = PoseCorrection(config.units).init(numerics.seed_key(config.seed), pair)["params"]
    return CorrectionState(jnp.zeros((), jnp.int32), params, _optimizer(config).init(params))


def _loss(
    params: Any, batches: Mapping[str, EncodedPairs], scale: PoseScale, config: CorrectionConfig
) -> tuple[Array, dict[str, Array]]:
    """Each source counts in proportion to its pairs; photographs, which only turn, by that."""
    count = sum(len(pairs.weight) for pairs in batches.values())
    metrics = {}
    for name, pairs in batches.items():
        views = jnp.asarray(pairs.descriptors, jnp.float32) / GAIN
        weight = jnp.asarray(pairs.weight)
        losses = []
        for side, ordered in enumerate((views, views[:, ::-1])):
            pair = ordered.reshape((len(ordered), -1))
            added: Any = PoseCorrection(config.units).apply({"params": params}, pair)
            predicted, true = pairs.predicted[:, side] + added, jnp.asarray(pairs.pose[:, side])
            if name == "photo":
                angles = scale.restore(predicted)[:, :3]
                # What nobody says of their positions stays as it is.
                still = weighted_mean(jnp.sum(jnp.square(added[:, 3:]), axis=-1), weight)
                losses.append(turning_distance(angles, true[:, :3], weight) + still)
            else:
                distance = robust_distance(predicted, scale.normalise(true))
                losses.append(weighted_mean(distance, weight))
        metrics[f"{name}_pose"] = 0.5 * (losses[0] + losses[1])
    total = sum(
        (len(batches[name].weight) / count * metrics[f"{name}_pose"] for name in batches),
        jnp.zeros(()),
    )
    return total, {"loss": total, **metrics}


@functools.partial(jax.jit, static_argnames="config", donate_argnums=0)
def correction_step(
    state: CorrectionState,
    pool: Mapping[str, EncodedPairs],
    scale: PoseScale,
    *,
    config: CorrectionConfig,
) -> tuple[CorrectionState, dict[str, Array]]:
    """One optimiser step on pairs of the pool, which follow from the seed and the step alone."""
    key = jax.random.fold_in(encoder_runs.key_of(config.seed, "batches"), state.step)
    keys = encoder_runs.source_keys(key)
    batches = {}
    for name, pairs in pool.items():
        wanted = (getattr(config, f"{name}_pairs"),)
        chosen = jax.random.randint(keys[name], wanted, 0, len(pairs.weight))
        batches[name] = jax.tree.map(lambda column, chosen=chosen: column[chosen], pairs)
    gradients, metrics = jax.grad(_loss, has_aux=True)(state.params, batches, scale, config)
    updates, opt_state = _optimizer(config).update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return CorrectionState(state.step + 1, params, opt_state), metrics


def corrected(encoder: Encoder, params: Any) -> Encoder:
    """Returns the encoder with a correction, trained on descriptors over GAIN, in its heads."""
    first = params["fc_1"] | {"kernel": params["fc_1"]["kernel"] / GAIN}
    heads = encoder.head_params | {"correction": params | {"fc_1": first}}
    return dataclasses.replace(encoder, head_params=heads)


def train(
    config: CorrectionConfig,
    encoder: Encoder,
    pool: Mapping[str, EncodedPairs],
    data: encoder_runs.EncoderData,
    workdir: Path,
    mesh: Mesh,
) -> Iterator[tuple[int, dict[str, float], CorrectionState]]:
    """Trains to `config.steps`, or resumes; yields as `training_loop.train`, and raises as it."""
    pool = jax.device_put(dict(pool))
    return training_loop.train(
        init_state(config, encoder.module.descriptor_size),
        step=lambda state, _: correction_step(state, pool, data.scale, config=config),
        batch=lambda number: number,
        evaluate=lambda state: encoder_runs.evaluate(
            corrected(encoder, jax.device_get(state.params)), int(state.step), data, workdir, mesh
        ),
        workdir=workdir,
        config=LoopConfig(steps=config.steps),
    )
