"""How like photographs a set of pictures is: its sharpness, its distribution, its diversity.

N pictures, uint8 RGB [N, H, W, 3] or grey [N, H, W, 1]; features [N, D]. No single
original is needed for any of it.
"""

from collections.abc import Mapping

import jax
import numpy as np

from posenet_jax import metrics
from posenet_jax.encoders.encoder import Tap, in_batches

Array = jax.Array

LEAST_HALVES = 4  # images, of which two halves can be compared
OF_HALVES = "_of_halves"  # ends the names of controls
_SHOWN_DRAWS = 3
_DEVIATION = 4  # times, in the page of draws


def features(tap: Tap, pictures: np.ndarray) -> np.ndarray:
    """[N, D] activations at a tap; of feature maps their means over the image.

    Pictures of another size than the network reads are resized.
    """
    return in_batches(lambda rows: _features(tap, tap.preprocessing.resize_all(rows)), pictures)


@jax.jit
def _features(tap: Tap, pictures: Array) -> Array:
    activations = tap(tap.preprocessing.to_network(pictures))
    return activations.mean(axis=tuple(range(1, activations.ndim - 1)))


def set_measures(
    pictures: np.ndarray, originals: np.ndarray, taps: Mapping[str, Tap] | None = None
) -> dict[str, float]:
    """Measures of a whole set.

    energy_ratio: mean gradient energy over that of the originals; 1 is as sharp. diversity_ratio
    likewise. grid_index: 1 without a grid. fixed_pattern, of two pictures or more: 0 where no
    detail stands at the same place in all of them. taps: layers in whose features the sets are
    compared, by the names that stand behind kernel_distance and frechet_distance; "": none does.
    """
    energy, wanted = (float(np.mean(metrics.gradient_energies(x))) for x in (pictures, originals))
    values = {
        "energy_ratio": energy / wanted if wanted else float("nan"),
        "diversity_ratio": float(
            np.divide(metrics.diversity(pictures), metrics.diversity(originals))
        ),
        "grid_index": metrics.grid_index(pictures, originals),
    }
    if min(len(pictures), len(originals)) > 1:
        values["fixed_pattern"] = metrics.fixed_pattern(pictures, originals)
    for name, tap in (taps or {}).items():
        made, real = (features(tap, x) for x in (pictures, originals))
        values[_named("kernel_distance", name)] = metrics.kernel_distance(made, real)
        if len(real) >= LEAST_HALVES:
            values[_named("frechet_distance", name)] = halves_frechet_distance(made, real)
    return values


def half_measures(originals: np.ndarray, taps: Mapping[str, Tap] | None = None) -> dict[str, float]:
    """Controls of `set_measures`, by its names and `OF_HALVES`: every second original beside the
    others; none where there are too few.
    """
    if len(originals) < LEAST_HALVES:
        return {}
    one, other = originals[::2], originals[1::2]
    values = {
        "grid_index": metrics.grid_index(one, other),
        "fixed_pattern": metrics.fixed_pattern(one, other),
    }
    for name, tap in (taps or {}).items():
        real = features(tap, originals)
        halves = real[::2], real[1::2]
        values[_named("kernel_distance", name)] = metrics.kernel_distance(*halves)
        values[_named("frechet_distance", name)] = halves_frechet_distance(real, real)
    return {f"{name}{OF_HALVES}": value for name, value in values.items()}


def halves_frechet_distance(made: np.ndarray, real: np.ndarray) -> float:
    """Fréchet distance of half the pictures to the other half of the originals, mean of both ways.

    Features [N, D] are divided by the real ones' root mean square. No picture meets its own
    original, and the originals' own halves are as many, so that their distance has the same bias.
    """
    scale = np.sqrt(np.mean(np.square(real, dtype=np.float64)))
    a, b = made / scale, real / scale
    pairs = (a[::2], b[1::2]), (a[1::2], b[::2])
    return float(np.mean([metrics.frechet_distance(*pair) for pair in pairs]))


def lines(values: Mapping[str, float]) -> list[str]:
    """Returns lines for a person: measures of a set, each beside the control of halves."""
    names = [name for name in values if not name.endswith(OF_HALVES) and name != "images"]
    width = max(27, *map(len, names))
    told = [f"{'':{width + 2}}{'set':>10}{'halves':>21}"]
    for name in names:
        control = values.get(f"{name}{OF_HALVES}")
        other = "" if control is None else f"{control:21.4f}"
        told.append(f"  {name:{width}}{values[name]:10.4f}{other}")
    return told


def _named(measure: str, features_of: str) -> str:
    return f"{measure}_{features_of}" if features_of else measure


def draw_measures(draws: np.ndarray, originals: np.ndarray) -> dict[str, float]:
    """Measures of S ≥ 2 draws [S, N, H, W, 3] of each original: what the descriptor leaves open.

    draw_variance: of a pixel's values over draws, 1 = the range squared. mean_error: squared error
    of the mean of all the draws there could be. Draws from all images that a descriptor allows
    have both alike.
    """
    count = len(draws)
    decoded = draws.astype(np.float64) / 255.0
    difference = decoded - originals / 255.0
    squares = np.sum(np.square(difference), axis=0)
    products = np.square(difference.sum(axis=0)) - squares
    return {
        "draw_variance": float(np.mean(np.var(decoded, axis=0, ddof=1))),
        "mean_error": float(np.mean(products) / (count * (count - 1))),
    }


def draw_columns(draws: np.ndarray, originals: np.ndarray) -> dict[str, np.ndarray]:
    """Heading -> uint8 [N, H, W, 3]: what S draws [S, N, H, W, 3] share, and what each invents."""
    made = draws.astype(np.float64)
    deviation = made.std(axis=0).mean(axis=-1, keepdims=True)
    deviation = np.clip(_DEVIATION * deviation, 0, 255).round().astype(np.uint8)
    columns = {"original": originals}
    columns |= {f"draw {i + 1}": draws[i] for i in range(min(_SHOWN_DRAWS, len(draws)))}
    columns["mean"] = made.mean(axis=0).round().astype(np.uint8)
    columns[f"deviation ×{_DEVIATION}"] = np.repeat(deviation, 3, axis=-1)
    return columns
