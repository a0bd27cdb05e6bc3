"""Training of a decoder: images through the frozen encoder, back, and compared; state and step.

B images a batch, laid over the devices of a mesh with the one axis `AXIS`. The loss is the mean
squared error of all values, 1 = the full range from black to white (report, section 3.2).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh, PartitionSpec

from posenet_jax.decoder import NETWORKS, Mirror
from posenet_jax.decoding import Decoder, descriptor_shape, value_range
from posenet_jax.errors import InputError
from posenet_jax.weights import Encoder, Tap

Array = jax.Array

AXIS = "images"  # of the mesh
_DROP = 0.1


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """What decides the program of a step, besides the batch's shape.

    drops: steps after which the learning rate is divided by ten. plateau: instead, divide it
    whenever the training loss, averaged over so many steps, has not fallen by a thousandth for
    three such averages; 0: not.
    """

    network: str = "mirror"
    drops: tuple[int, ...] = ()
    plateau: int = 0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise InputError(f"no decoder {self.network!r}; there are {', '.join(NETWORKS)}")
        if self.drops and self.plateau:
            raise InputError("the learning rate drops at given steps or on a plateau, not both")


@struct.dataclass
class DecoderState:
    """Everything the next step needs."""

    step: Array  # [] int32
    variables: Any  # {"params": …, "batch_stats": …}
    average: Any  # the same, exponentially averaged over steps
    opt_state: optax.OptState


@struct.dataclass
class DecoderBatch:
    """Images [B, H, W, 3] uint8 in one or several parts; descriptors [B, ...] of a single part."""

    images: tuple[Array, ...]
    descriptors: Array | None = None  # encoded from the images where there are none


def _network(config: DecoderConfig) -> Mirror:
    return NETWORKS[config.network](axis_name=AXIS)


def _optimizer(config: DecoderConfig) -> optax.GradientTransformationExtraArgs:
    """Adam, and the learning rate's share of its first value."""
    share: optax.GradientTransformation
    if config.plateau:
        share = optax.contrib.reduce_on_plateau(
            factor=_DROP, patience=3, rtol=1e-3, accumulation_size=config.plateau
        )
    else:
        drops = dict.fromkeys(config.drops, _DROP)
        share = optax.scale_by_schedule(optax.piecewise_constant_schedule(1.0, drops))
    return optax.with_extra_args_support(optax.chain(optax.scale_by_adam(), share))


def init_state(config: DecoderConfig, shape: tuple[int, ...], seed: int | Array) -> DecoderState:
    """The state before the first step; the seed decides the weights."""
    module = NETWORKS[config.network]()
    variables = dict(module.init(jax.random.key(seed), jnp.zeros(shape)))
    return DecoderState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        average=jax.tree.map(jnp.copy, variables),
        opt_state=_optimizer(config).init(variables["params"]),
    )


@functools.partial(jax.jit, static_argnames=("config", "mesh"), donate_argnums=0)
def train_step(
    state: DecoderState,
    batch: DecoderBatch,
    tap: Tap,
    descriptor_scale: Array,
    learning_rate: Array,
    *,
    config: DecoderConfig,
    mesh: Mesh,
) -> tuple[DecoderState, dict[str, Array]]:
    """One step of Adam. The learning rate is an argument: trials of a search share the program.

    Each device encodes and decodes its own images; what normalises the batch, and the gradients,
    are means over all devices.
    """
    module = _network(config)

    def on_device(variables, batch: DecoderBatch, tap, descriptor_scale):
        images = jnp.concatenate(batch.images)
        inside = tap.preprocessing.to_network(images)
        descriptors = tap(inside) if batch.descriptors is None else batch.descriptors
        wanted = inside / value_range(tap.preprocessing)

        def loss(params):
            decoded, changed = module.apply(
                {**variables, "params": params},
                descriptors / descriptor_scale,
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.mean(optax.losses.squared_error(decoded, wanted)), changed["batch_stats"]

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return *jax.lax.pmean((value, gradients), AXIS), stats

    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
    value, gradients, stats = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(everywhere, split, everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )(state.variables, batch, tap, descriptor_scale)
    params = state.variables["params"]
    updates, opt_state = _optimizer(config).update(gradients, state.opt_state, params, value=value)
    updates = jax.tree.map(lambda update: -learning_rate * update, updates)
    variables = {"params": optax.apply_updates(params, updates), "batch_stats": stats}
    # Debiased by a ramp, so that the average forgets the random start within the first steps.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = optax.incremental_update(variables, state.average, 1.0 - decay)
    metrics = {"loss": value, "gradient_norm": optax.tree.norm(gradients)}
    return DecoderState(state.step + 1, variables, average, opt_state), metrics


def trained_decoder(
    variables: Any,
    scale: Array,
    config: DecoderConfig,
    encoder: Encoder,
    layer: str,
    name: str = "",
) -> Decoder:
    """The decoder with these variables: a state's `average`, or its `variables`."""
    return Decoder(
        variables=variables,
        descriptor_scale=scale,
        module=NETWORKS[config.network](),
        descriptor_shape=descriptor_shape(encoder, layer),
        layer=layer,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        preprocessing=encoder.preprocessing,
        name=name,
    )
