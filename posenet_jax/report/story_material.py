"""Material of the report's story, besides the measurements of its details.

The bundled images and pictures of their descriptors, one descent step by step, a pair of views, and
streets inverted layer by layer. Images are uint8 RGB [N, H, W, 3].
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.analysis import findings, layer_retention
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.data.loading import LoadedImages
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.decoders import decoding
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.geometry import relative_poses
from posenet_jax.images.image_files import read_image
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import descent, grey_levels, recipes
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.traced_functions import as_argument
from posenet_jax.report import essence
from posenet_jax.report.essence import Prior

Array = jax.Array
Progress = Callable[[int], None]

LAYER = "fc5"
DEPTHS = ("conv1", "conv2", "conv3", "conv4", "fc5")
"""Layers from the first to the last, of which an encoder may have some."""
_DEMO_IMAGES = Path(__file__).parents[1] / "demo_images"


def demo_images(space: Preprocessing) -> LoadedImages:
    """Returns the bundled images, as an encoder reads them."""
    paths = sorted(path for path in _DEMO_IMAGES.iterdir() if path.suffix in (".jpg", ".png"))
    pixels = space.resize_all(read_image(path) for path in paths)
    stems = [path.stem for path in paths]
    return LoadedImages(pixels, [path.name for path in paths], stems, list(range(len(paths))), [])


class Essence(NamedTuple):
    """Images, and pictures made of their descriptors alone."""

    originals: LoadedImages
    columns: dict[str, np.ndarray]  # heading -> [N, H, W, 3]
    losses: dict[str, np.ndarray]  # heading -> relative loss [N]
    wrong: np.ndarray  # [N] relative loss of the next original
    left_open: tuple[float, float, float] | None  # see `left_open`; None without draws


def essence_of(
    encoder: Encoder,
    originals: LoadedImages,
    *,
    key: Array,
    steps: int,
    progress: Progress | None = None,
) -> Essence:
    """Returns all that is made of the originals' fc5; of an encoder without decoders less.

    steps: of each inversion at most. progress: called with numbers of image·steps, at most those of
    `essence_work`.
    """
    columns: dict[str, np.ndarray] = {}
    for prior in _priors(encoder):
        of = min(steps, int(prior.recipe.steps))
        columns[prior.title] = essence.inverted(
            encoder, LAYER, originals, prior, key=key, steps=of, progress=progress
        ).image
    if has_decoders(encoder):
        both = essence.decoders(encoder, LAYER, None, None)
        columns |= essence.drawn(encoder, LAYER, originals.pixels, *both, key=key)
    judged = {name: made for name, made in columns.items() if not name.startswith("deviation")}
    judged["another"] = np.roll(originals.pixels, 1, axis=0)
    losses = essence.losses(encoder, LAYER, originals.pixels, judged)
    draws = [made for name, made in columns.items() if name.startswith("draw ")]
    return Essence(
        originals,
        columns,
        {name: own for name, own in losses.items() if name != "another"},
        losses["another"],
        left_open(np.stack(draws), originals.pixels) if draws else None,
    )


def essence_work(encoder: Encoder, count: int, steps: int) -> int:
    """Number of image·steps that `essence_of` takes at most."""
    return count * sum(min(steps, int(prior.recipe.steps)) for prior in _priors(encoder))


def has_decoders(encoder: Encoder) -> bool:
    """Whether a decoder and a generator are bundled for the encoder's fc5."""
    own = f"{encoder.name}-{LAYER}" in decoding.bundled(encoder, LAYER)
    return own and decoding.bundled_generator(encoder, LAYER) is not None


def _priors(encoder: Encoder) -> list[Prior]:
    if not has_decoders(encoder):
        return [Prior("calibrated", recipes.CALIBRATED)]
    priors = essence.essence_priors(*essence.decoders(encoder, LAYER, None, None))
    return [one for one in priors if one.title in ("calibrated", "natural")]


def left_open(draws: np.ndarray, originals: np.ndarray) -> tuple[float, float, float]:
    """Returns how much draws of one descriptor differ, over how much different originals do.

    Ratio of mean squared differences of pixels, and its interval over images. draws: [S, N, H, W,
    3]. 0: all draws alike; 1: as different as images of different places.
    """
    own = draws.astype(np.float64).var(axis=0, ddof=1).mean(axis=(1, 2, 3))
    between = originals.astype(np.float64).var(axis=0, ddof=1).mean()
    value, low, high = metrics.bootstrap_interval(own / between)
    return float(value), float(low), float(high)


class Descent(NamedTuple):
    """One inversion, step by step."""

    original: np.ndarray  # [H, W, 3]
    pictures: dict[int, np.ndarray]  # steps done -> [H, W, 3]
    losses: np.ndarray  # [steps] relative loss of each iterate's best so far
    another: float  # relative loss between the original and another image


def moments(steps: int) -> list[int]:
    """Returns the numbers of steps after which a descent is shown, from 1 to all."""
    return sorted({max(1, round(steps * part)) for part in (0.0, 0.02, 0.07, 0.2, 1.0)})


def descended(
    encoder: Encoder,
    original: np.ndarray,
    other: np.ndarray,
    *,
    key: Array,
    recipe: Recipe,
    progress: Progress | None = None,
) -> Descent:
    """Returns the descent from noise to a picture with the original's fc5; both [H, W, 3].

    progress: called after each step, with 1.
    """
    tap, space = encoder.tap(LAYER), encoder.preprocessing
    targets = tap.describe(np.stack([original, other]))
    encode = as_argument(grey_levels.encoder_of(tap, space))
    state, target = descent.init(key, recipe, space), jnp.asarray(targets[0])
    pictures, losses, wanted = {}, [], moments(int(recipe.steps))
    for done in range(1, int(recipe.steps) + 1):
        state = _stepped(state, target, recipe, encode)
        losses.append(float(state.best.relative_loss))
        if done in wanted:
            image = np.asarray(space.from_levels(state.best.image))
            pictures[done] = np.asarray(space.to_image(image[None]))[0]
        if progress:
            progress(1)
        if int(state.status) != Status.RUNNING:
            break
    another = float(metrics.relative_loss(jnp.asarray(targets[1]), target))
    return Descent(original, pictures, np.array(losses), another)


@jax.jit
def _stepped(state: descent.State, target: Array, recipe: Recipe, encode: Any) -> descent.State:
    return descent.step(state, target, recipe, encode=encode)


class Pair(NamedTuple):
    """Two views of one place, and what an encoder and its heads make of them."""

    images: np.ndarray  # [2, H, W, 3]
    descriptors: np.ndarray  # [2, F]
    turned: float  # degrees between the cameras
    seen: float | None  # degrees that the heads see; None without heads
    error: float | None  # degrees between both rotations
    shapes: dict[str, tuple[int, ...]]  # layer -> shape of its activations


def paired(encoder: Encoder, source: RenderedPairs, key: Array) -> Pair:
    """Returns the first pair of a draw whose target both views see."""
    drawn = jax.device_get(source(key))
    row = int(np.argmax(drawn.pose_weight))
    images = np.asarray(drawn.image[row])
    pose = np.asarray(relative_poses(drawn.rotation[row][None], drawn.centre[row][None]))
    layers = {layer: encoder.tap(layer).describe(images) for layer in of_depth(encoder)}
    found = layers[LAYER]
    turned = float(metrics.rotation_errors(np.zeros_like(pose), pose)[0])
    seen = error = None
    if encoder.predicts_poses:
        predicted = np.asarray(encoder.poses(jnp.asarray(found[:1]), jnp.asarray(found[1:])))
        seen = float(metrics.rotation_errors(np.zeros_like(pose), predicted)[0])
        error = float(metrics.rotation_errors(predicted, pose)[0])
    shapes = {layer: values.shape[1:] for layer, values in layers.items()}
    return Pair(images, found, turned, seen, error, shapes)


def of_depth(encoder: Encoder) -> list[str]:
    """Returns the encoder's layers, from the first to the last."""
    return [layer for layer in DEPTHS if layer in encoder.taps]


class Layers(NamedTuple):
    """Streets inverted from each layer of an encoder and its control."""

    rows: list[dict[str, Any]]  # as `layer_retention.measure` has them
    originals: np.ndarray
    pictures: dict[str, np.ndarray]  # layer -> inverted from the trained encoder


def layer_by_layer(
    encoders: Sequence[Encoder],
    group: str,
    views: SceneSet,
    known: SceneSet,
    *,
    key: Array,
    recipe: Recipe,
    progress: Progress | None = None,
) -> Layers:
    """Returns what is left after each layer. known: scenes that linear probes are fitted on.

    progress: called with numbers of image·steps, of two encoders and all layers.
    """
    found = Layers([], views.images, {})
    for depth, layer in enumerate(of_depth(encoders[0]), start=1):
        of = {"encoder": encoders[0].name, "layer": layer, "depth": depth}
        made, random = (
            findings.invert(encoder, layer, views, key=key, recipe=recipe, progress=progress)
            for encoder in encoders
        )
        measured = [
            findings.measures(pictures, views)
            for pictures in (made, np.roll(made, 1, axis=0), random)
        ]
        rows = layer_retention.measure_rows(group, *measured)
        scores = [findings.probe_scores(encoder, layer, known) for encoder in encoders]
        rows += layer_retention.probe_rows(group, len(known) - 2 * len(known) // 3, *scores)
        found.rows.extend(of | row for row in rows)
        found.pictures[layer] = made
    return found
