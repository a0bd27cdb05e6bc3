"""Training of a correction to the poses that an encoder's heads predict, the encoder left as it is.

What heads misread need not be missing from the descriptor. Pairs of views are encoded once, into a
pool; a small network on two descriptors (`heads.PoseCorrection`) then learns what to add to the
poses, or goes on from the correction that the encoder has. Descriptor, matching and normals stay as
they are by construction, and with them all that was measured or trained with the encoder.

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
from posenet_jax.training.pair_losses import poses_from_either_view
from posenet_jax.training.pose_losses import robust_distance, turns_alone, weighted_mean
from posenet_jax.training.training_loop import LoopConfig
from posenet_jax.training.training_units import GAIN, reading_enlarged

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
    parts, made_with = [], identity(encoder)
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
            write_tensors(path, vars(tree), {"encoder": made_with}, "float32")
        elif progress:
            progress(len(numbers))
        parts.append(_read(path, encoder, made_with, source.count * len(numbers)))
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def check(encoder: Encoder, config: CorrectionConfig) -> None:
    """Raises InputError for an encoder without heads, or whose correction has other units."""
    pose_evaluation.check_heads(encoder)
    known = encoder.head_params.get("correction")
    if known and len(known["fc_1"]["bias"]) != config.units:
        raise InputError(
            f"the heads of encoder {encoder.name!r} have a correction of"
            f" {len(known['fc_1']['bias'])} hidden units, and training goes on from it: give"
            " --hidden_units"
        )


def identity(encoder: Encoder) -> str:
    """Fingerprint of an encoder with its heads; raises InputError for one without."""
    pose_evaluation.check_heads(encoder)
    return fingerprint({**encoder.params, "heads": encoder.head_params})


def _encoded(encoder: Encoder, pairs: Any, mesh: Mesh) -> EncodedPairs:
    """Returns pairs of views, host arrays, as a pool holds them."""
    descriptors = pose_evaluation.descriptors(encoder, pairs.image, mesh)
    views = pairs.rotation, pairs.centre
    true = [geometry.relative_poses(*(x[:, order] for x in views)) for order in ([0, 1], [1, 0])]
    return EncodedPairs(
        descriptors=descriptors.astype(np.float16),
        predicted=np.asarray(poses_from_either_view(encoder.head_params, descriptors)),
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


def init_state(config: CorrectionConfig, encoder: Encoder) -> CorrectionState:
    """The state before the first step: the encoder's correction, or one that adds nothing."""
    known = encoder.head_params.get("correction")
    if known:
        # Copied: a step donates its state, and the encoder's own arrays are to stay.
        params = numerics.copied(reading_enlarged(known, 1.0 / GAIN))
    else:
        pair = jnp.zeros((2 * encoder.module.descriptor_size,))
        params = PoseCorrection(config.units).init(numerics.seed_key(config.seed), pair)["params"]
    return CorrectionState(jnp.zeros((), jnp.int32), params, _optimizer(config).init(params))


def _loss(
    params: Any,
    batches: Mapping[str, EncodedPairs],
    scale: PoseScale,
    config: CorrectionConfig,
    former: Any,
) -> tuple[Array, dict[str, Array]]:
    """Each source counts in proportion to its pairs; photographs, which only turn, by that.

    former: parameters of a correction that the pool's predictions have in them, or None.
    """
    correction = PoseCorrection(config.units)
    count = sum(len(pairs.weight) for pairs in batches.values())
    metrics = {}
    for name, pairs in batches.items():
        views = jnp.asarray(pairs.descriptors, jnp.float32) / GAIN
        weight = jnp.asarray(pairs.weight)
        losses = []
        for side, ordered in enumerate((views, views[:, ::-1])):
            pair = ordered.reshape((len(ordered), -1))
            added: Any = correction.apply({"params": params}, pair)
            if former is not None:
                added = added - correction.apply({"params": former}, pair)
            before, true = (jnp.asarray(x[:, side]) for x in (pairs.predicted, pairs.pose))
            predicted = before + added
            if name == "photo":
                losses.append(turns_alone(predicted, true, weight, scale, still=before))
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
    former: Any = None,
) -> tuple[CorrectionState, dict[str, Array]]:
    """One optimiser step on pairs of the pool, which follow from the seed and the step alone.

    former: parameters of the correction that training began with, where the encoder had one.
    """
    key = jax.random.fold_in(encoder_runs.key_of(config.seed, "batches"), state.step)
    keys = encoder_runs.source_keys(key)
    batches = {}
    for name, pairs in pool.items():
        wanted = (getattr(config, f"{name}_pairs"),)
        chosen = jax.random.randint(keys[name], wanted, 0, len(pairs.weight))
        batches[name] = jax.tree.map(lambda column, chosen=chosen: column[chosen], pairs)
    gradients, metrics = jax.grad(_loss, has_aux=True)(state.params, batches, scale, config, former)
    updates, opt_state = _optimizer(config).update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return CorrectionState(state.step + 1, params, opt_state), metrics


def corrected(encoder: Encoder, params: Any) -> Encoder:
    """Returns the encoder with a correction, trained on descriptors over GAIN, in its heads."""
    heads = encoder.head_params | {"correction": reading_enlarged(params, GAIN)}
    return dataclasses.replace(encoder, head_params=heads)


def train(
    config: CorrectionConfig,
    encoder: Encoder,
    pool: Mapping[str, EncodedPairs],
    data: encoder_runs.EncoderData,
    workdir: Path,
    mesh: Mesh,
) -> Iterator[tuple[int, dict[str, float], CorrectionState]]:
    """Trains to `config.steps`, or resumes; yields as `training_loop.train`, and raises as it.

    Raises InputError as `check` does.
    """
    check(encoder, config)
    pool, state = jax.device_put(dict(pool)), init_state(config, encoder)
    former = numerics.copied(state.params) if "correction" in encoder.head_params else None

    def step(state: CorrectionState, _: int) -> tuple[CorrectionState, dict[str, Array]]:
        return correction_step(state, pool, data.scale, config=config, former=former)

    return training_loop.train(
        state,
        step=step,
        batch=lambda number: number,
        evaluate=lambda state: encoder_runs.evaluate(
            corrected(encoder, jax.device_get(state.params)), int(state.step), data, workdir, mesh
        ),
        workdir=workdir,
        config=LoopConfig(steps=config.steps),
    )
