"""Descriptor surgery: take something from a descriptor, and see what is lost with it.

N descriptors of F units (fc5: after its ReLU, never below zero), float32. Whatever an operation
must know of descriptors in general (a unit's range, its mean, principal components) is fitted on M
others, of other images. Host arrays; keys as everywhere.

Two measures, beside what another image's descriptor scores: the relative loss (eq. 3), and the pose
heads' disagreement: degrees between the rotations that they predict to a partner from the original
descriptor and from what is left of it. Where the true pose is known, also the error of the latter.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.decoders.decoding import Decoder, decode
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.geometry import relative_poses

Array = jax.Array

BITS = (1, 2, 3, 4, 5, 6, 8)
DEVIATIONS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
KEPT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# What the amount of an operation is.
AMOUNTS = {
    "quantised": "bits a unit",
    "on or off": "bits a unit",
    "noise": "relative standard deviation",
    "best units": "units kept",
    "random units": "units kept",
    "best units, rest at mean": "units kept",
    "components": "components kept",
    "random directions": "directions kept",
    "mean descriptor": "",
    "another image": "",
}


# What pictures are made of: operation, amount, heading.
SHOWN: tuple[tuple[str, float | None, str], ...] = (
    ("on or off", 1, "on or off"),
    ("quantised", 2, "2 bits"),
    ("noise", 0.5, "noise 0.5"),
    ("noise", 1.0, "noise 1"),
    ("best units", 128, "best 128"),
    ("random units", 128, "random 128"),
    ("best units, rest at mean", 128, "128, mean"),
    ("components", 4, "4 components"),
    ("components", 16, "16 comp."),
    ("components", 64, "64 comp."),
    ("mean descriptor", None, "mean"),
    ("another image", None, "another's"),
)


class Images(NamedTuple):
    """Images and what the encoder makes of them."""

    image: np.ndarray  # [N, H, W, 3] uint8 RGB
    descriptor: np.ndarray  # [N, F]
    partner: np.ndarray  # [N, F] descriptors to which the heads are asked the pose
    pose: np.ndarray | None = None  # [N, 6] the true one, radians and metres


class Operated(NamedTuple):
    """Descriptors after an operation."""

    operation: str
    amount: float | None  # see AMOUNTS
    descriptor: np.ndarray  # [N, F]


class Components(NamedTuple):
    """Principal components of descriptors, of most variance first; R of them."""

    mean: np.ndarray  # [F]
    axes: np.ndarray  # [R, F] unit, orthogonal
    variance: np.ndarray  # [R] along each


def photographs(encoder: Encoder, images: np.ndarray) -> Images:
    """Images uint8 RGB [N, H, W, 3]; the partner is the next one, and nobody knows its pose."""
    found = encoder.tap("fc5").describe(images)
    return Images(images, found, np.roll(found, -1, axis=0))


def halves(encoder: Encoder, images: np.ndarray) -> tuple[Images, np.ndarray]:
    """Every other of images uint8 RGB [N, H, W, 3], from the first, and the others' descriptors.

    Raises InputError for fewer than four: two are operated on, and two fitted on.
    """
    if len(images) < 4:
        raise InputError(f"surgery needs four readable images, received {len(images)}")
    return photographs(encoder, images[::2]), photographs(encoder, images[1::2]).descriptor


def rendered(
    encoder: Encoder,
    source: RenderedPairs,
    *,
    key: Array,
    count: int,
    progress: Callable[[int], object] | None = None,
) -> Images:
    """First views of `count` pairs, or a few less where targets are hidden; partners: the second.

    progress: called with the number of pairs done.
    """
    parts = []
    for start in range(0, count, source.count):
        drawn = source(jax.random.fold_in(key, start))
        parts.append(jax.device_get((drawn.image, drawn.rotation, drawn.centre, drawn.pose_weight)))
        if progress:
            progress(min(source.count, count - start))
    image, rotation, centre, weight = (np.concatenate(x)[:count] for x in zip(*parts, strict=True))
    image, rotation, centre = (x[weight > 0] for x in (image, rotation, centre))
    tap = encoder.tap("fc5")
    first, second = (tap.describe(image[:, view]) for view in (0, 1))
    pose = np.asarray(relative_poses(jnp.asarray(rotation), jnp.asarray(centre)))
    return Images(image[:, 0], first, second, pose)


def quantise(descriptors: np.ndarray, largest: np.ndarray, bits: int) -> np.ndarray:
    """[N, F] rounded to 2^bits levels from 0 to each unit's `largest` [F]; what is above is cut."""
    step = np.where(largest > 0, largest, 1.0) / (2**bits - 1)
    inside = np.clip(descriptors, 0.0, largest)
    return (np.round(inside / step) * step).astype(np.float32)


def on_or_off(descriptors: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """[N, F] each unit zero, or where it is on, its mean over those of the others where it is."""
    active = fitted > 0
    level = fitted.sum(axis=0) / np.maximum(active.sum(axis=0), 1)
    return np.where(descriptors > 0, level, 0.0).astype(np.float32)


def add_noise(key: Array, descriptors: np.ndarray, deviation: float) -> np.ndarray:
    """[N, F] with Gaussian noise in every unit, of `deviation` times the descriptor's own RMS.

    The noise's length is about `deviation` times the descriptor's. Results may be below zero.
    """
    scale = deviation * np.sqrt(np.mean(np.square(descriptors), axis=1, keepdims=True))
    return descriptors + scale * np.asarray(jax.random.normal(key, descriptors.shape, jnp.float32))


def best_order(fitted: np.ndarray) -> np.ndarray:
    """[F] units by their mean over [M, F], greatest first."""
    return np.argsort(-fitted.mean(axis=0), kind="stable")


def random_orders(key: Array, fitted: np.ndarray, count: int) -> np.ndarray:
    """[count, F] units at random, another order each; those that never fire in [M, F] last."""
    drawn = np.asarray(jax.random.uniform(key, (count, fitted.shape[1]), jnp.float32))
    return np.argsort(drawn + 2.0 * ~np.any(fitted > 0, axis=0), axis=1)


def mask(
    descriptors: np.ndarray, order: np.ndarray, kept: int, rest: np.ndarray | float = 0.0
) -> np.ndarray:
    """[N, F] of which the first `kept` units of `order` ([F], or [N, F]: each its own) stay.

    rest: what the others become, a number or one a unit [F].
    """
    stays = np.zeros(descriptors.shape, bool)
    chosen = np.broadcast_to(order, descriptors.shape)[:, :kept]
    np.put_along_axis(stays, chosen, True, axis=1)
    return np.where(stays, descriptors, rest).astype(np.float32)


def fit_components(fitted: np.ndarray) -> Components:
    """Fits to M descriptors [M, F], by the eigenvectors of their covariance; R = min(M - 1, F)."""
    mean = fitted.mean(axis=0, dtype=np.float64)
    away = fitted - mean
    variance, axes = np.linalg.eigh(away.T @ away / (len(fitted) - 1))
    rank = min(len(fitted) - 1, fitted.shape[1])
    return Components(mean, axes.T[::-1][:rank], variance[::-1][:rank])


def random_directions(key: Array, fitted: np.ndarray) -> Components:
    """The control: about the same mean, orthogonal axes [F, F] at random, in no order."""
    drawn = np.asarray(jax.random.normal(key, (fitted.shape[1],) * 2, jnp.float32), np.float64)
    axes = np.linalg.qr(drawn)[0].T
    mean = fitted.mean(axis=0, dtype=np.float64)
    return Components(mean, axes, np.var((fitted - mean) @ axes.T, axis=0, ddof=1))


def project(descriptors: np.ndarray, components: Components, kept: int) -> np.ndarray:
    """[N, F] of which `kept` components stay; the rest becomes the mean."""
    axes = components.axes[:kept]
    return (((descriptors - components.mean) @ axes.T) @ axes + components.mean).astype(np.float32)


def operations(
    key: Array,
    descriptors: np.ndarray,
    fitted: np.ndarray,
    *,
    bits: Sequence[int] = BITS,
    deviations: Sequence[float] = DEVIATIONS,
    kept: Sequence[int] = KEPT,
) -> Iterator[Operated]:
    """Every operation on descriptors [N, F], with every amount; the controls are the last two.

    kept: those beyond F, or the components' number, are left out. Raises InputError where one
    descriptor, or one to fit on, is all there is.
    """
    if min(len(descriptors), len(fitted)) < 2:
        raise InputError("surgery needs two images or more to operate on, and two others to fit on")
    noise_key, order_key, axes_key = jax.random.split(key, 3)
    largest, mean = fitted.max(axis=0), fitted.mean(axis=0)
    best, components = best_order(fitted), fit_components(fitted)
    directions = random_directions(axes_key, fitted)
    shuffled = random_orders(order_key, fitted, len(descriptors))
    yield Operated("on or off", 1, on_or_off(descriptors, fitted))
    for number in bits:
        yield Operated("quantised", number, quantise(descriptors, largest, number))
    for number, deviation in enumerate(deviations):
        drawn = jax.random.fold_in(noise_key, number)
        yield Operated("noise", deviation, add_noise(drawn, descriptors, deviation))
    for number in (k for k in kept if k <= descriptors.shape[1]):
        yield Operated("best units", number, mask(descriptors, best, number))
        yield Operated("random units", number, mask(descriptors, shuffled, number))
        filled = mask(descriptors, best, number, mean)
        yield Operated("best units, rest at mean", number, filled)
        if number <= len(components.axes):
            yield Operated("components", number, project(descriptors, components, number))
        aside = project(descriptors, directions, number)
        yield Operated("random directions", number, aside)
    yield Operated("mean descriptor", None, np.broadcast_to(mean, descriptors.shape))
    yield Operated("another image", None, np.roll(descriptors, 1, axis=0))


@jax.jit
def _relative_losses(operated: Array, descriptors: Array) -> Array:
    return jax.vmap(metrics.relative_loss)(operated, descriptors)


def measures(encoder: Encoder, images: Images, operated: np.ndarray) -> dict[str, np.ndarray]:
    """[N] each, of what is left [N, F]: relative_loss; with heads pose_disagreement, degrees; and
    where the pose is known rotation_error, degrees."""
    losses = _relative_losses(jnp.asarray(operated), jnp.asarray(images.descriptor))
    found = {"relative_loss": np.asarray(losses)}
    if not encoder.predicts_poses:
        return found
    before, after = (
        np.asarray(encoder.poses(jnp.asarray(first), jnp.asarray(images.partner)))
        for first in (images.descriptor, operated)
    )
    found["pose_disagreement"] = metrics.rotation_errors(after, before)
    if images.pose is not None:
        found["rotation_error"] = metrics.rotation_errors(after, images.pose)
    return found


def mean_rotation(images: Images) -> float | None:
    """Mean angle of the true rotations, degrees: the error of who says that there is none."""
    if images.pose is None:
        return None
    return float(metrics.rotation_errors(np.zeros_like(images.pose), images.pose).mean())


def table(
    encoder: Encoder, images: Images, operated: Sequence[Operated], *, seed: int = 0
) -> list[dict[str, Any]]:
    """One row an operation and amount: means over images, with intervals of 95 % (_low, _high)."""
    rows = []
    for one in operated:
        row: dict[str, Any] = {
            "operation": one.operation,
            "amount": one.amount,
            "unit": AMOUNTS[one.operation],
            "images": len(images.descriptor),
        }
        for name, values in measures(encoder, images, one.descriptor).items():
            found = metrics.bootstrap_summary(values.astype(np.float64), seed)
            row[name] = found["mean"]
            row |= {f"{name}_{end}": found[end] for end in ("low", "high")}
        rows.append(row)
    return rows


def pictures(
    decoder: Decoder,
    images: Images,
    operated: Sequence[Operated],
    *,
    count: int = 8,
    shown: Sequence[tuple[str, float | None, str]] = SHOWN,
) -> dict[str, np.ndarray]:
    """Heading -> uint8 RGB [n, H, W, 3]: the first images, decoded, and decoded after `shown`."""
    found = {(one.operation, one.amount): one.descriptor for one in operated}
    chosen = {"decoded": images.descriptor}
    for operation, amount, heading in shown:
        if (operation, amount) in found:
            chosen[heading] = found[operation, amount]
    space = decoder.preprocessing
    made = {
        heading: np.asarray(space.to_image(decode(decoder, descriptor[:count])))
        for heading, descriptor in chosen.items()
    }
    return {"original": images.image[:count]} | made
