"""Adversarial training: the losses of generator and discriminator, and their configuration.

After Dosovitskiy & Brox (2016): an image loss, a loss in the features of a comparator, here the
encoder itself and, where one is given, another network, and an adversarial loss. With noise beside
the descriptor there are several images of each: the generator then draws from those that the
descriptor allows, and no single one has to be the original. What is compared pixel by pixel is
therefore the mean over draws (Ohayon et al. 2021), or all of them by the energy score (Gneiting &
Raftery 2007), which is least where draws spread as originals do; only the descriptor, which all of
them share, is compared image by image.

S draws of B images each, made [S, B, H, W, 3], and originals [B, H, W, 3], 1 = the full range;
`conditions` [B, ...] are descriptors as the networks read them.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
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
from posenet_jax.training import augmentation
from posenet_jax.training.discriminator import Discriminator
from posenet_jax.training.image_losses import (
    energy_score,
    image_energy,
    mean_error,
    pattern_error,
    root_mean_square,
    spectrum_error,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class AdversarialConfig:
    """Weights of the generator's losses, and the discriminator's schedule.

    spectrum, pattern: weights of `spectrum_error` and `pattern_error`; 0: not computed. noise:
    numbers drawn at each place of a descriptor; draws: images made of each. energy: whether draws
    are compared with the original by `energy_score` instead of `mean_error`. layers: taps compared
    besides the descriptor.
    discriminator_layers: layers of the comparator whose maps the discriminator sees too.
    augment: whether what the discriminator sees is augmented. enlarge: how many times the
    comparator sees a part of an image enlarged, at most (`augmentation.enlarged`).
    discriminator_lr_scale: the discriminator's learning rate as a multiple of the generator's.
    discriminator_pause_below: it is not updated while its loss is below this fraction of the
    generator's adversarial loss, both as cross-entropies (Dosovitskiy & Brox: 0.1; 0: never).
    """

    image: float = 10.0
    descriptor: float = 1.0
    features: float = 1.0
    adversarial: float = 0.3
    spectrum: float = 0.0
    pattern: float = 0.0
    noise: int = 64
    draws: int = 2
    energy: bool = False
    layers: tuple[str, ...] = ("conv2", "conv4")
    discriminator_layers: tuple[str, ...] = ()
    augment: bool = False
    enlarge: float = 1.0
    discriminator_lr_scale: float = 2.0
    discriminator_pause_below: float = 0.0
    beta1: float = 0.5

    def __post_init__(self) -> None:
        if not self.enlarge >= 1.0:
            raise InputError(f"enlarge must be 1 or more, received {self.enlarge}")
        for layer in self.layers:
            if layer not in TAPS:
                raise InputError(f"no tap {layer!r} to compare; there are {', '.join(TAPS)}")


@struct.dataclass
class DiscriminatorState:
    """The discriminator's weights and its optimiser's state."""

    variables: Any  # {"params": …, "batch_stats": …}
    opt_state: optax.OptState


def init_discriminator(
    optimizer: optax.GradientTransformation,
    shape: tuple[int, ...],
    side: int,
    key: Array,
    features: Mapping[str, tuple[int, ...]] | None = None,
) -> DiscriminatorState:
    """Random weights, for descriptors [*shape], images [side, side, 3] and features of a shape."""
    image, descriptor = jnp.zeros((side, side, 3)), jnp.zeros(shape)
    maps = {name: jnp.zeros(of_layer) for name, of_layer in (features or {}).items()}
    variables = dict(initialised(Discriminator(), key, image, descriptor, maps))
    return DiscriminatorState(variables, jax.jit(optimizer.init)(variables["params"]))


def with_noise(conditions: Array, noise: Array) -> Array:
    """Inputs [S·B, ..., F + Z] of all draws, from descriptors [B, ..., F], noise [B, S, ..., Z]."""
    rows = jnp.moveaxis(noise, 1, 0)
    drawn = jnp.broadcast_to(conditions, (len(rows), *conditions.shape))
    both = jnp.concatenate([drawn, rows], axis=-1)
    return both.reshape((-1, *both.shape[2:]))


def features_of(
    images: Array, tap: Tap, comparator: Tap | None, layers: tuple[str, ...]
) -> dict[str, Array]:
    """Returns layers of the comparator for images [..., H, W, 3] of the tap's space."""
    if not comparator or not layers:
        return {}
    inside = images * value_range(tap.preprocessing)
    seen: Any = comparator.module.apply(
        {"params": comparator.params},
        tap.preprocessing.to_space(inside, comparator.preprocessing),
    )
    return {layer: seen[layer] for layer in layers}


@struct.dataclass
class DiscriminatorViews:
    """Images as the discriminator sees them, and a comparator's maps of them.

    The maps are divided by the root mean square of the originals'.
    """

    made: Array  # [S, B, H, W, 3]
    wanted: Array  # [B, H, W, 3]
    made_maps: dict[str, Array]
    wanted_maps: dict[str, Array]


def _views(
    made: Array, wanted: Array, features: dict[str, Array], right: dict[str, Array]
) -> DiscriminatorViews:
    sizes = {layer: root_mean_square(maps) for layer, maps in right.items()}
    made_maps, wanted_maps = (
        {layer: maps / sizes[layer] for layer, maps in both.items()} for both in (features, right)
    )
    return DiscriminatorViews(made, wanted, made_maps, wanted_maps)


def generator_loss(
    made: Array,
    wanted: Array,
    truth: dict[str, Array],
    conditions: Array,
    discriminator: DiscriminatorState,
    tap: Tap,
    config: AdversarialConfig,
    comparator: Tap | None = None,
    axis_name: str | None = None,
    keys: Array | None = None,
) -> tuple[Array, tuple[dict[str, Array], DiscriminatorViews]]:
    """Returns (weighted sum, (its parts, views of the discriminator)).

    truth: the encoder's taps of the originals. comparator: a layer of another network, whose
    features are compared as those of `config.layers`. axis_name: of the devices that share the
    batch, whose spectra and patterns are one. keys: [B], by which views are augmented and parts
    enlarged, where the configuration says so.
    """
    inside = made * value_range(tap.preprocessing)
    seen: Any = tap.module.apply({"params": tap.params}, inside)
    off = seen[tap.layer] - truth[tap.layer][None]
    axes = tuple(range(2, off.ndim))
    squares = jnp.sum(jnp.square(truth[tap.layer]), axis=tuple(a - 1 for a in axes))
    compared = [(seen[layer], truth[layer]) for layer in config.layers]
    layers = config.discriminator_layers
    look = functools.partial(features_of, tap=tap, comparator=comparator)

    def closer(images: Array) -> Array:
        if config.enlarge == 1.0:
            return images
        assert keys is not None
        return augmentation.enlarged(images, keys, config.enlarge)

    own = (comparator.layer,) if comparator else ()
    features, right = (look(closer(images), layers=(*own, *layers)) for images in (made, wanted))
    compared.extend((features[layer], right[layer]) for layer in own)
    shown = made, wanted
    if config.augment:
        assert keys is not None
        every = augmentation.augmented_draws(jnp.concatenate([wanted[None], made]), keys)
        shown = every[1:], every[0]
        features, right = (look(closer(images), layers=layers) for images in shown)
    views = _views(*shown, *({layer: x[layer] for layer in layers} for x in (features, right)))
    logits = _logits(discriminator.variables, views.made, conditions, views.made_maps)
    parts = {
        "image_loss": (image_energy if config.energy else mean_error)(made, wanted),
        "descriptor_loss": jnp.mean(jnp.sum(jnp.square(off), axis=axes) / squares[None]),
        "feature_loss": sum(
            (_relative_error(*pair, energy=config.energy) for pair in compared), jnp.zeros(())
        ),
        "adversarial_loss": -jnp.mean(logits),
    }
    weights = [config.image, config.descriptor, config.features, config.adversarial]
    if config.spectrum:
        parts["spectrum_loss"] = spectrum_error(made, wanted, axis_name)
        weights.append(config.spectrum)
    if config.pattern:
        parts["pattern_loss"] = pattern_error(made, wanted, axis_name)
        weights.append(config.pattern)
    weighted = zip(weights, parts.values(), strict=True)
    total = sum((weight * part for weight, part in weighted), jnp.zeros(()))
    return total, (parts, views)


def _relative_error(features: Array, right: Array, *, energy: bool) -> Array:
    """Relative to the originals' mean square, or to the root of that of a place's vector."""
    if energy:
        return energy_score(features, right) / (
            root_mean_square(right) * math.sqrt(right.shape[-1])
        )
    return mean_error(features, right) / jnp.mean(jnp.square(right))


def discriminator_loss(
    params: Any, discriminator: DiscriminatorState, views: DiscriminatorViews, conditions: Array
) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """Returns the hinge loss and (state of the power iterations, metrics of its accuracy).

    Losses and accuracies are means over the discriminator's logits.
    """
    variables = {**discriminator.variables, "params": params}
    both = jnp.concatenate([views.wanted[None], views.made])
    maps = {
        layer: jnp.concatenate([right[None], views.made_maps[layer]])
        for layer, right in views.wanted_maps.items()
    }
    shown = jnp.broadcast_to(conditions, (len(both), *conditions.shape))
    logits: Any
    logits, changed = Discriminator().apply(
        variables, both, shown, maps, update=True, mutable=["batch_stats"]
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


def _logits(variables: Any, made: Array, conditions: Array, features: Mapping[str, Array]) -> Array:
    shown = jnp.broadcast_to(conditions, (len(made), *conditions.shape))
    logits: Any = Discriminator().apply(variables, made, shown, features)
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
