"""How like photographs a set of pictures is: its sharpness, its distribution, its diversity.

N pictures, uint8 RGB [N, H, W, 3]; features [N, D]. No single original is needed for any of it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.encoders.weights import Tap

Array = jax.Array

_BATCH = 16  # fixed, so that few images do not wait for many or for another program


@jax.jit
def gradient_energies(pictures: Array) -> Array:
    """[N] mean squared difference of neighbouring grey values, across and down, of each picture."""

    def energy(picture: Array) -> Array:
        grey = metrics.luminance(picture)
        across, down = jnp.diff(grey, axis=1), jnp.diff(grey, axis=0)
        return 0.5 * (jnp.mean(jnp.square(across)) + jnp.mean(jnp.square(down)))

    return jax.lax.map(energy, pictures)


def features(tap: Tap, pictures: np.ndarray) -> np.ndarray:
    """[N, D] activations at a tap; of feature maps their means over the image."""
    parts = []
    for start in range(0, len(pictures), _BATCH):
        rows = np.minimum(np.arange(start, start + _BATCH), len(pictures) - 1)
        parts.append(np.asarray(_features(tap, pictures[rows]))[: len(pictures) - start])
    return np.concatenate(parts)


@jax.jit
def _features(tap: Tap, pictures: Array) -> Array:
    seen = tap(tap.preprocessing.to_network(pictures))
    return seen.mean(axis=tuple(range(1, seen.ndim - 1)))


def kernel_distance(made: np.ndarray, real: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two sets of features [N, D], [M, D]; about 0 for one set.

    The KID of Bińkowski et al. (2018): kernel (x·y / D + 1)³, estimated without bias, so that it
    may be slightly negative. Features are first divided by the real ones' root mean square.
    """
    scale = np.sqrt(np.mean(np.square(real, dtype=np.float64)))
    a, b = made.astype(np.float64) / scale, real.astype(np.float64) / scale

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2.0 * float(kernel(a, b).mean())


def diversity(pictures: np.ndarray) -> float:
    """Mean deviation of a pixel's values over the set, of the range; 0: all pictures are one."""
    return float(np.mean(np.std(pictures, axis=0, dtype=np.float64)) / 255.0)


def measures(
    pictures: np.ndarray, originals: np.ndarray, judge: Tap | None = None
) -> dict[str, float]:
    """Of a whole set. energy_ratio: mean gradient energy over that of the originals; 1 is as sharp.

    diversity_ratio likewise. kernel_distance: in the judge's features.
    """
    energy, wanted = (float(np.mean(gradient_energies(x))) for x in (pictures, originals))
    found = {
        "energy_ratio": energy / wanted if wanted else float("nan"),
        "diversity_ratio": float(np.divide(diversity(pictures), diversity(originals))),
    }
    if judge is not None:
        seen, truth = (features(judge, x) for x in (pictures, originals))
        found["kernel_distance"] = kernel_distance(seen, truth)
    return found


def draw_measures(draws: np.ndarray, originals: np.ndarray) -> dict[str, float]:
    """Of S ≥ 2 draws [S, N, H, W, 3] of each original: how much the descriptor leaves open.

    draw_variance: of a pixel's values over draws, 1 = the range squared. mean_error: squared error
    of the mean of all the draws there could be. Draws from all images that a descriptor allows
    have both alike.
    """
    count = len(draws)
    made = draws.astype(np.float64) / 255.0
    difference = made - originals / 255.0
    squares = np.sum(np.square(difference), axis=0)
    products = np.square(difference.sum(axis=0)) - squares
    return {
        "draw_variance": float(np.mean(np.var(made, axis=0, ddof=1))),
        "mean_error": float(np.mean(products) / (count * (count - 1))),
    }
