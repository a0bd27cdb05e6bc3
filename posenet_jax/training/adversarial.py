"""Adversarial training: the losses of generator and discriminator, and their configuration.

After Dosovitskiy & Brox (2016): an image loss, a loss in the features of a comparator, here the
encoder itself and, where one is given, another network, and an adversarial loss. With noise beside
the descriptor there are several images of each: the generator then draws from those that the
descriptor allows, and no single one has to be the original. What is compared pixel by pixel is
therefore the mean over draws (Ohayon et al. 2021); only the descriptor, which all of them share, is
compared image by image.

S draws of B images each, made [S, B, H, W, 3], and originals [B, H, W, 3], 1 = the full range;
`conditions` [B, ...] are descriptors as the networks read them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from posenet_jax.decoders.decoding import value_range
from posenet_jax.encoders.encoder import Tap
from posenet_jax.encoders.streetnet import TAPS
from posenet_jax.errors import InputError
from posenet_jax.nn.layers import initialised
from posenet_jax.training.discriminator import Discriminator

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class AdversarialConfig:
    """Weights of the generator's losses, and the discriminator's schedule.

    noise: numbers drawn beside a descriptor; draws: images made of each. layers: taps compared
    besides the descriptor. discriminator_lr_scale: the discriminator's learning rate as a multiple
    of the generator's. discriminator_pause_below: it is not updated while its loss is below this
    fraction of the generator's adversarial loss, both as cross-entropies (Dosovitskiy & Brox: 0.1;
    0: never).
    """

    image: float = 10.0
    descriptor: float = 1.0
    features: float = 1.0
    adversarial: float = 0.3
    noise: int = 64
    draws: int = 2
    layers: tuple[str, ...] = ("conv2", "conv4")
    discriminator_lr_scale: float = 2.0
    discriminator_pause_below: float = 0.0
    beta1: float = 0.5

    def __post_init__(self) -> None:
        for layer in self.layers:
            if layer not in TAPS:
                raise InputError(f"no tap {layer!r} to compare; there are {', '.join(TAPS)}")


@struct.dataclass
class DiscriminatorState:
    """The discriminator's weights and its optimiser's state."""

    variables: Any  # {"params": …, "batch_stats": …}
    opt_state: optax.OptState


def init_discriminator(
    optimizer: optax.GradientTransformation, shape: tuple[int, ...], side: int, key: Array
) -> DiscriminatorState:
    """Random weights, for descriptors [*shape] and images [side, side, 3]."""
    image, descriptor = jnp.zeros((side, side, 3)), jnp.zeros(shape)
    variables = dict(initialised(Discriminator(), key, image, descriptor))
    return DiscriminatorState(variables, jax.jit(optimizer.init)(variables["params"]))


def with_noise(conditions: Array, noise: Array) -> Array:
    """Inputs [S·B, ..., F + Z] of all draws, from descriptors [B, ..., F] and noise [B, S, Z]."""
    rows = jnp.moveaxis(noise, 1, 0)
    between = (1,) * (conditions.ndim - 2)
    rows = rows.reshape((*rows.shape[:2], *between, rows.shape[-1]))
    rows = jnp.broadcast_to(rows, (len(rows), *conditions.shape[:-1], rows.shape[-1]))
    drawn = jnp.broadcast_to(conditions, (len(rows), *conditions.shape))
    both = jnp.concatenate([drawn, rows], axis=-1)
    return both.reshape((-1, *both.shape[2:]))


def mean_error(made: Array, wanted: Array) -> Array:
    """Squared error of the mean over all draws there could be; without bias, of S of them.

    The square of S draws' own mean would count a fraction 1/S of their variance as error; products
    of two different draws' errors do not.
    """
    count = len(made)
    difference = made - wanted[None]
    squares = jnp.sum(jnp.square(difference), axis=0)
    if count > 1:
        products = jnp.square(jnp.sum(difference, axis=0)) - squares
        return jnp.mean(products) / (count * (count - 1))
    return jnp.mean(squares)


def generator_loss(
    made: Array,
    wanted: Array,
    truth: dict[str, Array],
    conditions: Array,
    discriminator: DiscriminatorState,
    tap: Tap,
    config: AdversarialConfig,
    comparator: Tap | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Returns (weighted sum, its parts). truth: the encoder's taps of the originals.

    comparator: a layer of another network, whose features are compared as those of `config.layers`.
    """
    inside = made * value_range(tap.preprocessing)
    seen: Any = tap.module.apply({"params": tap.params}, inside)
    off = seen[tap.layer] - truth[tap.layer][None]
    axes = tuple(range(2, off.ndim))
    squares = jnp.sum(jnp.square(truth[tap.layer]), axis=tuple(a - 1 for a in axes))
    compared = [(seen[layer], truth[layer]) for layer in config.layers]
    if comparator:
        original = wanted * value_range(tap.preprocessing)
        features, right = (
            comparator(tap.preprocessing.to_space(images, comparator.preprocessing))
            for images in (inside, original)
        )
        compared.append((features, right))
    parts = {
        "image_loss": mean_error(made, wanted),
        "descriptor_loss": jnp.mean(jnp.sum(jnp.square(off), axis=axes) / squares[None]),
        "feature_loss": sum(
            (
                mean_error(features, right) / jnp.mean(jnp.square(right))
                for features, right in compared
            ),
            jnp.zeros(()),
        ),
        "adversarial_loss": -jnp.mean(_logits(discriminator.variables, made, conditions)),
    }
    weights = (config.image, config.descriptor, config.features, config.adversarial)
    weighted = zip(weights, parts.values(), strict=True)
    return sum((weight * part for weight, part in weighted), jnp.zeros(())), parts


def discriminator_loss(
    params: Any, discriminator: DiscriminatorState, made: Array, wanted: Array, conditions: Array
) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """Returns the hinge loss and (state of the power iterations, metrics of its accuracy)."""
    variables = {**discriminator.variables, "params": params}
    both = jnp.concatenate([wanted[None], made])
    shown = jnp.broadcast_to(conditions, (len(both), *conditions.shape))
    logits: Any
    logits, changed = Discriminator().apply(
        variables, both, shown, update=True, mutable=["batch_stats"]
    )
    real, fake = logits[0], logits[1:]
    loss = jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake))
    against = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
    health = {
        "discriminator_loss": loss,
        "real_accuracy": jnp.mean(real > 0),
        "made_accuracy": jnp.mean(fake < 0),
        "loss_ratio": against / jnp.mean(jax.nn.softplus(-fake)),
    }
    return loss, (changed["batch_stats"], health)


def _logits(variables: Any, made: Array, conditions: Array) -> Array:
    shown = jnp.broadcast_to(conditions, (len(made), *conditions.shape))
    logits: Any = Discriminator().apply(variables, made, shown)
    return logits


def updated(
    discriminator: DiscriminatorState,
    updates: Any,
    opt_state: optax.OptState,
    stats: Any,
    loss_ratio: Array,
    config: AdversarialConfig,
) -> DiscriminatorState:
    """The discriminator after updates at the generator's rate, or as it was while it pauses."""
    updates = jax.tree.map(lambda update: config.discriminator_lr_scale * update, updates)
    params = optax.apply_updates(discriminator.variables["params"], updates)
    after = DiscriminatorState({"params": params, "batch_stats": stats}, opt_state)
    if not config.discriminator_pause_below:
        return after
    waits = loss_ratio < config.discriminator_pause_below
    return jax.tree.map(lambda old, new: jnp.where(waits, old, new), discriminator, after)
