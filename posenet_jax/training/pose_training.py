"""Training of the encoder on pairs of views: state, step, export.

Training runs in units of its own (`training_units`); `in_image_units` exports.

Arrays: P pairs, F descriptor length. Views 1 and 2 of a pair show the same target.
"""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh, PartitionSpec

from posenet_jax import numerics
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.encoders.encoder import Encoder, init_params
from posenet_jax.encoders.encoder_networks import NETWORKS, trainable
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.training import pair_losses, perturbations, pose_losses, training_units
from posenet_jax.training.pair_losses import poses_from_either_view
from posenet_jax.training.training_units import GAIN

Array = jax.Array

TASKS = ("pose", "match", "normal")
SOURCES = ("rendered", "photo", "room", "plain")
"""Sources of pairs, in the order of a step's batches; `TrainConfig` counts NAME_pairs of each."""


def check_tasks(names: Collection[str]) -> Collection[str]:
    """Returns the names of tasks; raises InputError where there are none, or one is not known."""
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        what = f"no task {unknown[0]!r}" if unknown else "an encoder learns one task or more"
        raise InputError(f"{what}; there are {', '.join(TASKS)}")
    return names


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights besides the data. Pairs are counted per step."""

    architecture: str = "streetnet"
    descriptor_size: int = 512
    steps: int = 11_000
    rendered_pairs: int = 24
    photo_pairs: int = 8
    room_pairs: int = 0
    plain_pairs: int = 0
    learning_rate: float = 7e-4
    warmup_steps: int = 500
    decay_share: float = 0.4
    weight_decay: float = 1e-2
    gradient_clip: float = 5.0
    ema_decay: float = 0.998
    pose_weight: float = 1.0
    match_weight: float = 1.0
    normal_weight: float = 0.5
    idle_weight: float = 1.0
    change_weight: float = 0.0  # of plain pairs' descriptors since the start
    active_share: float = 0.5
    photo_turns: bool = False  # whether of photographs' poses their turns alone count
    both_ways: bool = False  # whether a pair counts as seen from either view
    robust_radius: float = 0.0  # L2 norm of perturbations trained under, values from 0 to 1
    robust_steps: int = 2  # of gradient ascent to a perturbation
    robust_ramp: int = 400  # steps of training until the radius is reached
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in trainable():
            names = ", ".join(trainable())
            raise InputError(f"no architecture {self.architecture!r}; there are {names}")
        if self.change_weight and not self.plain_pairs:
            raise InputError("change_weight counts plain pairs: give plain_pairs")

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources of pairs in a step's batches, in their order."""
        return tuple(name for name in SOURCES if getattr(self, f"{name}_pairs"))

    def check_fits(self, mesh: Mesh) -> None:
        """Raises InputError unless every device gets whole scenes of two pairs, and negatives."""
        unit = max(2 * mesh.devices.size, 4)
        for name in (f"{source}_pairs" for source in SOURCES):
            if getattr(self, name) % unit:
                raise InputError(
                    f"{name} must be a multiple of {unit} on {mesh.devices.size} devices, "
                    f"received {getattr(self, name)}"
                )


@struct.dataclass
class TrainState:
    """Everything the next step needs."""

    step: Array  # [] int32
    params: Any  # {"encoder": …, "heads": …}, training units
    ema_params: Any
    opt_state: optax.OptState


def training_module(config: TrainConfig) -> nn.Module:
    """The encoder in training units."""
    return NETWORKS[config.architecture].for_training(config.descriptor_size, GAIN)


def learning_rate_schedule(config: TrainConfig) -> optax.Schedule:
    """Linear warm-up, constant, then a cosine over the last `decay_share` of the steps.

    The constant middle lets a run be lengthened or cut short by resuming it with other `steps`.
    """
    decay_steps = max(1, int(config.decay_share * config.steps))
    constant_until = max(config.warmup_steps, config.steps - decay_steps)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
            optax.constant_schedule(config.learning_rate),
            optax.cosine_decay_schedule(config.learning_rate, decay_steps, alpha=0.01),
        ],
        [config.warmup_steps, constant_until],
    )


@functools.lru_cache(maxsize=64)  # whose functions are compiled once
def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW behind clipping of the gradient's global norm."""
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip),
        optax.adamw(learning_rate_schedule(config), weight_decay=config.weight_decay),
    )


def init_state(config: TrainConfig) -> TrainState:
    """The state before the first step; `config.seed` decides the weights."""
    encoder, head_params = init_params(training_module(config), numerics.seed_key(config.seed))
    params = {"encoder": encoder, "heads": head_params}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=numerics.copied(params),
        opt_state=jax.jit(optimizer(config).init)(params),
    )


def start_from(encoder: Encoder, config: TrainConfig) -> TrainState:
    """The state before the first step, with the weights of a trained encoder with heads.

    The inverse of `in_image_units`. Raises InputError for another architecture, or without heads.
    """
    if encoder.module.architecture != config.architecture or encoder.head_params is None:
        raise InputError(
            f"training of {config.architecture} cannot begin with encoder {encoder.name!r}: it"
            f" is {encoder.module.architecture}{'' if encoder.predicts_poses else ' without heads'}"
        )
    # Copied: a step donates its state, and the encoder's own arrays are to stay.
    params = numerics.copied(
        {
            "encoder": training_units.enlarged(encoder.params, 1.0 / GAIN),
            "heads": training_units.reading_enlarged(encoder.head_params, 1.0 / GAIN),
        }
    )
    opt_state = jax.jit(optimizer(config).init)(params)
    return TrainState(jnp.zeros((), jnp.int32), params, numerics.copied(params), opt_state)


def pose_scale(poses: Array) -> PoseScale:
    """Mean and deviation of relative poses [P, 6]."""
    return PoseScale(mean=jnp.mean(poses, axis=0), std=jnp.std(poses, axis=0) + 1e-6)


def _preactivations(
    params: Any, image: Array, moved: Array | None, config: TrainConfig, space: Preprocessing
) -> Array:
    """[P, 2, F] fc5 before its ReLU, of images [P, 2, H, W, 3] uint8.

    moved: perturbations of them, grey levels; what leaves an image's range is cut off.
    """
    flat = image.reshape((-1, *image.shape[2:]))
    levels = space.to_network(flat)
    if moved is not None:
        low, high = (
            space.to_network(np.full((1, 1, 1, flat.shape[-1]), end, np.uint8)) for end in (0, 255)
        )
        levels = jnp.clip(levels + moved.reshape(levels.shape), low, high)
    scaled = levels / GAIN
    taps: Any = training_module(config).apply({"params": params["encoder"]}, scaled)
    return taps["fc5_linear"].reshape((image.shape[0], 2, -1))


def _loss(
    params: Any,
    batches: tuple[Pairs, ...],
    scale: PoseScale,
    config: TrainConfig,
    space: Preprocessing,
    moved: tuple[Array, ...] | None = None,
    former: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Each source of pairs counts in proportion to its pairs; negatives stay inside a source.

    Sources are encoded apart: joining batches that are spread over devices would move every image.
    moved: perturbations of each source's images, grey levels. former: parameters near whose answers
    plain pairs' descriptors stay (`config.change_weight`), and positions in photographs of which
    turns alone count.
    """
    count = sum(pairs.image.shape[0] for pairs in batches)
    parts: dict[str, Array] = {}
    weights: dict[str, float] = {}
    shifts = moved or (None,) * len(batches)
    for name, pairs, shift in zip(config.sources, batches, shifts, strict=True):
        linear = _preactivations(params, pairs.image, shift, config, space)
        descriptors = jax.nn.relu(linear)
        turns = name == "photo" and config.photo_turns
        changes = name == "plain" and config.change_weight > 0
        known = still = None
        if former is not None and (turns or changes):
            known = jax.nn.relu(_preactivations(former, pairs.image, None, config, space))
        if known is not None and turns:
            still = poses_from_either_view(former["heads"], known)
        terms = pair_losses.pair_losses(
            params["heads"],
            descriptors,
            pairs,
            scale,
            both_ways=config.both_ways,
            turns=turns,
            still=still,
        )
        terms["idle"] = pose_losses.idleness(
            linear.reshape((-1, linear.shape[-1])), config.active_share
        )
        if known is not None and changes:
            terms["change"] = jnp.mean(pose_losses.change(descriptors, known))
        share = pairs.image.shape[0] / count
        for task, value in terms.items():
            parts[f"{name}_{task}"] = value
            weights[f"{name}_{task}"] = getattr(config, f"{task}_weight") * share
    total = sum((weights[name] * value for name, value in parts.items()), jnp.zeros(()))
    return total, {"loss": total, **parts}


def _perturbed(
    params: Any,
    batches: tuple[Pairs, ...],
    scale: PoseScale,
    config: TrainConfig,
    space: Preprocessing,
    step: Array,
) -> tuple[Array, ...] | None:
    """Returns the perturbations that the tasks stand worst, grey levels; None where none is asked.

    The radius grows from zero: at its full size from the start, matching stays at chance.
    """
    if not config.robust_radius:
        return None
    tasks = dataclasses.replace(config, idle_weight=0.0, change_weight=0.0)
    radius = 255.0 * config.robust_radius * jnp.minimum(1.0, (step + 1) / config.robust_ramp)
    none = tuple(jnp.zeros(pairs.image.shape, jnp.float32) for pairs in batches)
    return perturbations.strongest(
        lambda moved: _loss(params, batches, scale, tasks, space, moved)[0],
        none,
        radius,
        config.robust_steps,
    )


@functools.partial(jax.jit, static_argnames=("config", "space", "mesh"), donate_argnums=0)
def train_step(
    state: TrainState,
    batches: tuple[Pairs, ...],
    scale: PoseScale,
    *,
    config: TrainConfig,
    space: Preprocessing,
    mesh: Mesh,
    former: Any = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step on a batch of each of `config.sources`.

    former: parameters in training units, where `config.change_weight` is given. Each device finds
    the gradient of its own pairs, negatives included; only the mean of the gradients passes between
    devices.
    """

    def on_device(
        params: Any, batches: tuple[Pairs, ...], scale: PoseScale, step: Array, former: Any
    ) -> tuple[Any, dict[str, Array]]:
        moved = _perturbed(params, batches, scale, config, space, step)
        (_, metrics), gradients = jax.value_and_grad(_loss, has_aux=True)(
            params, batches, scale, config, space, moved, former
        )
        return jax.lax.pmean((gradients, metrics), mesh.axis_names)

    everywhere, pairs = PartitionSpec(), PartitionSpec(mesh.axis_names)
    gradients, metrics = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(everywhere, pairs, everywhere, everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )(state.params, batches, scale, state.step, former)
    updates, opt_state = optimizer(config).update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # Debiased by a ramp, so that the average forgets the random start within the first steps.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, state.ema_params, params)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    return TrainState(state.step + 1, params, ema, opt_state), metrics


def in_image_units(
    params: Any, config: TrainConfig, space: Preprocessing, scale: PoseScale, name: str
) -> Encoder:
    """The trained encoder in 0-255 units, heads included."""
    return Encoder(
        params=training_units.enlarged(params["encoder"], GAIN),
        head_params=training_units.reading_enlarged(params["heads"], GAIN),
        pose_scale=scale,
        module=NETWORKS[config.architecture].for_training(config.descriptor_size, gain=1.0),
        preprocessing=space,
        name=name,
    )
