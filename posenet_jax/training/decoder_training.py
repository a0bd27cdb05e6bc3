"""Training of a decoder: images through the frozen encoder, back, and compared; state and step.

B images a batch, laid over the devices of a mesh with the one axis `AXIS`. The loss is the mean
squared error of all values, 1 = the full range from black to white (paper, section 3.2), or that
against a discriminator (`AdversarialConfig`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util
from jax.sharding import Mesh, PartitionSpec

from posenet_jax import numerics
from posenet_jax.decoders.decoder_network import SIDE, DecoderNetwork
from posenet_jax.decoders.decoding import Decoder, descriptor_shape, noise_shape, value_range
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import InputError
from posenet_jax.nn.layers import initialised
from posenet_jax.training import adversarial, image_losses
from posenet_jax.training.adversarial import AdversarialConfig, DiscriminatorState

Array = jax.Array

AXIS = "images"  # axis of the mesh
_DROP = 0.1


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Static configuration: with the batch's shape it decides the program of a step.

    drops: steps after which the learning rate is divided by ten. plateau: instead, average the
    training loss over this many steps, and after three averages without an improvement of 0.1 %
    divide the learning rate by ten; 0: off. adversarial: None trains on the squared error alone.
    """

    network: str = "mirror"
    drops: tuple[int, ...] = ()
    plateau: int = 0
    ema_decay: float = 0.999
    adversarial: AdversarialConfig | None = None

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
    opponent: DiscriminatorState | None = None  # named as in checkpoints on disk


@struct.dataclass
class DecoderBatch:
    """Images [B, H, W, 3] uint8 in one or several parts; descriptors [B, ...] of a single part."""

    images: tuple[Array, ...]
    descriptors: Array | None = None  # encoded from the images where there are none
    noise: Array | None = None  # [B, draws, ..., Z] in adversarial training
    keys: Array | None = None  # [B], by which the discriminator's views are augmented


def _network(config: DecoderConfig) -> DecoderNetwork:
    return NETWORKS[config.network](axis_name=AXIS)


@functools.lru_cache(maxsize=64)  # whose functions are compiled once
def _optimizer(config: DecoderConfig) -> optax.GradientTransformationExtraArgs:
    """Adam, and a schedule of the learning rate as a fraction of its first value."""
    schedule: optax.GradientTransformation
    if config.plateau:
        schedule = optax.contrib.reduce_on_plateau(
            factor=_DROP, patience=3, rtol=1e-3, accumulation_size=config.plateau
        )
    else:
        drops = dict.fromkeys(config.drops, _DROP)
        schedule = optax.scale_by_schedule(optax.piecewise_constant_schedule(1.0, drops))
    adam = optax.scale_by_adam(b1=config.adversarial.beta1 if config.adversarial else 0.9)
    return optax.with_extra_args_support(optax.chain(adam, schedule))


def init_state(
    config: DecoderConfig,
    shape: tuple[int, ...],
    seed: int | Array,
    comparator: Tap | None = None,
) -> DecoderState:
    """The state before the first step; the seed decides the weights. shape: of a descriptor.

    comparator: the network whose layers the discriminator sees, where the configuration names some.
    """
    key, opponent = numerics.seed_key(seed), None
    read = shape
    if config.adversarial:
        if config.adversarial.enlarge > 1.0 and comparator is None:
            raise InputError("what a comparator sees is enlarged, and there is no comparator")
        read = (*shape[:-1], shape[-1] + config.adversarial.noise)
        opponent = adversarial.init_discriminator(
            _optimizer(config),
            shape,
            SIDE,
            jax.random.fold_in(key, 1),
            _shapes(comparator, config.adversarial.discriminator_layers),
        )
    variables = dict(initialised(NETWORKS[config.network](), key, jnp.zeros(read)))
    return DecoderState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        average=numerics.copied(variables),
        opt_state=jax.jit(_optimizer(config).init)(variables["params"]),
        opponent=opponent,
    )


def _shapes(comparator: Tap | None, layers: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a comparator's layers. Raises InputError where one has no places."""
    if not layers:
        return {}
    if comparator is None:
        raise InputError("a discriminator that sees features needs a comparator, whose they are")
    image = jnp.zeros(comparator.preprocessing.shape)
    seen: Any = jax.eval_shape(comparator.module.apply, {"params": comparator.params}, image)
    for layer in layers:
        if layer not in seen or seen[layer].ndim != 3:
            maps = ", ".join(name for name, found in seen.items() if found.ndim == 3)
            raise InputError(f"the comparator has no feature maps {layer!r}; it has {maps}")
    return {layer: seen[layer].shape for layer in layers}


@functools.partial(jax.jit, static_argnames=("config", "mesh"), donate_argnums=0)
def train_step(
    state: DecoderState,
    batch: DecoderBatch,
    tap: Tap,
    descriptor_scale: Array,
    learning_rate: Array,
    comparator: Tap | None = None,
    *,
    config: DecoderConfig,
    mesh: Mesh,
) -> tuple[DecoderState, dict[str, Array]]:
    """One step of Adam; in adversarial training the discriminator's too, from the same state.

    The learning rate is an argument: trials of a search share the program. Each device encodes and
    decodes its own images; what normalises the batch, and the gradients, are means over devices.
    comparator: in adversarial training, as in `adversarial.generator_loss`.
    """
    module, settings = _network(config), config.adversarial

    def on_device(
        variables: Any,
        opponent: DiscriminatorState | None,
        batch: DecoderBatch,
        tap: Tap,
        descriptor_scale: Array,
        other: Tap | None,
    ) -> tuple[Any, ...]:
        images = jnp.concatenate(batch.images)
        inside = tap.preprocessing.to_network(images)
        truth: Any = tap.module.apply({"params": tap.params}, inside)
        descriptors = truth[tap.layer] if batch.descriptors is None else batch.descriptors
        conditions = descriptors / descriptor_scale
        wanted = inside / value_range(tap.preprocessing)
        keys = batch.keys

        def decoded(params: Any) -> tuple[Array, Any]:
            read = conditions
            if settings and batch.noise is not None:
                read = adversarial.with_noise(conditions, batch.noise)
            made, changed = module.apply(
                {**variables, "params": params}, read, train=True, mutable=["batch_stats"]
            )
            return made.reshape((-1, *wanted.shape)), changed["batch_stats"]

        def objective(made: Array) -> tuple[Array, tuple[dict[str, Array], Any]]:
            if settings:
                assert opponent is not None
                return adversarial.generator_loss(
                    made,
                    wanted,
                    truth,
                    conditions,
                    opponent,
                    tap,
                    settings,
                    other,
                    AXIS,
                    keys,
                )
            return image_losses.mean_error(made, wanted), ({}, None)

        made, pull, stats = jax.vjp(decoded, variables["params"], has_aux=True)
        (value, (figures, views)), slope = jax.value_and_grad(objective, has_aux=True)(made)
        gradients, against = pull(slope)[0], None
        bounds = None
        if settings:
            assert opponent is not None
            differentiate = jax.grad(adversarial.discriminator_loss, has_aux=True)
            against, (bounds, health) = differentiate(
                opponent.variables["params"], opponent, views, conditions
            )
            figures = figures | health
        means = jax.lax.pmean((value, figures, gradients, against), AXIS)
        return *means, stats, bounds

    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
    value, figures, gradients, against, stats, bounds = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(everywhere, everywhere, split, everywhere, everywhere, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )(state.variables, state.opponent, batch, tap, descriptor_scale, comparator)

    def updates(
        gradients: Any, opt_state: optax.OptState, params: Any
    ) -> tuple[Any, optax.OptState]:
        found, after = _optimizer(config).update(gradients, opt_state, params, value=value)
        return jax.tree.map(lambda update: -learning_rate * update, found), after

    params, opponent = state.variables["params"], state.opponent
    moves, opt_state = updates(gradients, state.opt_state, params)
    variables = {"params": optax.apply_updates(params, moves), "batch_stats": stats}
    # Debiased by a ramp, so that the average forgets the random start within the first steps.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = optax.incremental_update(variables, state.average, 1.0 - decay)
    metrics = {"loss": value, "gradient_norm": optax.tree.norm(gradients), **figures}
    if settings:
        assert opponent is not None
        metrics["discriminator_gradient_norm"] = optax.tree.norm(against)
        moves, memory = updates(against, opponent.opt_state, opponent.variables["params"])
        ratio = figures["loss_ratio"]
        opponent = adversarial.updated(opponent, moves, memory, bounds, ratio, settings)
    return DecoderState(state.step + 1, variables, average, opt_state, opponent), metrics


def trained_decoder(
    variables: Any,
    scale: Array,
    config: DecoderConfig,
    encoder: Encoder,
    layer: str,
    name: str = "",
) -> Decoder:
    """The decoder with these variables: a state's `average`, or its `variables`."""
    shape = descriptor_shape(encoder, layer)
    return Decoder(
        variables=variables,
        descriptor_scale=scale,
        module=NETWORKS[config.network](),
        descriptor_shape=shape,
        layer=layer,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        preprocessing=encoder.preprocessing,
        noise=noise_shape(shape, config.adversarial.noise if config.adversarial else 0),
        name=name,
    )


def initialised_from(state: DecoderState, decoder: Decoder) -> DecoderState:
    """Returns the state with a trained decoder as its generator; noise has no effect at first.

    A network with further layers keeps what `state` has for them. Raises InputError where a layer
    of the decoder has no place in it.
    """
    flat, known = (
        traverse_util.flatten_dict(tree, sep="/") for tree in (state.variables, decoder.variables)
    )
    for name, old in known.items():
        shape = flat[name].shape if name in flat else ()
        extra = [a - b for a, b in zip(shape, old.shape, strict=True)] if name in flat else [-1]
        if min(extra, default=0) < 0:
            raise InputError(f"decoder {decoder.name!r} does not fit this network, at {name}")
        # Zeros where a kernel reads noise besides.
        flat[name] = jnp.pad(old, [(0, rows) for rows in extra])
    variables = traverse_util.unflatten_dict(flat, sep="/")
    average = numerics.copied(variables)
    return dataclasses.replace(state, variables=variables, average=average)
