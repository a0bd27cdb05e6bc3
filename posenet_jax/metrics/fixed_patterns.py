"""Fine detail at places of its own: marks that a network lays into all of its pictures."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

Pictures = UInt8[np.ndarray, "number height width channels"]
Picture = UInt8[np.ndarray, "height width channels"]
Detail = Float[np.ndarray, "height width channels"]
Map = Float[np.ndarray, "rows columns"]


def fixed_pattern(pictures: Pictures, originals: Pictures) -> float:
    """Share of fine detail at the same places in all pictures; 0: as little as in originals.

    Of the differences of neighbouring pixels, along rows and columns: the map of their mean over
    all pictures [N, H, W, C], and that of their mean size, less its own mean over places; each over
    the root mean square of the set's differences. The squared distance of both maps from the
    originals' [M, H, W, C], mean of both and of both directions. Sharpness does not count. Without
    bias, by products of different pictures alone: a little below 0 is chance, or that pictures
    resemble each its own original (by at most 2 / N). NaN of a single picture or original, and of a
    set without any detail.
    """
    if min(len(pictures), len(originals)) < 2:
        return float("nan")
    pairs = zip(_maps(pictures), _maps(originals), strict=True)
    distances = [own + other - 2 * np.mean(a * b) for (a, own), (b, other) in pairs]
    return float(np.mean(distances))


def detail_map(pictures: Pictures) -> Map:
    """Mean size [H - 1, W - 1] of differences of neighbouring pixels at each place; 1 on average.

    Over pictures [N, H, W, C], channels and both directions. Where all is of one colour, zeros.
    """
    total = np.zeros((pictures.shape[1] - 1, pictures.shape[2] - 1))
    for picture in pictures:
        levels = picture.astype(np.float64)
        for axis in (0, 1):
            total += np.abs(np.diff(levels, axis=axis))[: len(total), : total.shape[1]].mean(-1)
    return total / (total.mean() or 1.0)


def _maps(pictures: Pictures) -> Iterator[tuple[Detail, float]]:
    """Yields each map with the mean square that it would have of infinitely many pictures."""
    count = len(pictures)
    for axis in (0, 1):
        for sized in (False, True):
            total = squares = np.zeros(())
            for picture in pictures:  # one at a time, as a set may be large
                detail = np.diff(picture.astype(np.float64), axis=axis)
                total = total + (np.abs(detail) if sized else detail)
                squares = squares + detail**2
            energy = float(np.mean(squares)) / count
            if not energy:
                yield total * np.nan, np.nan
                continue
            level = float(np.mean(total)) / count if sized else 0.0
            off, own = total - count * level, squares - 2 * level * total + count * level**2
            products = float(np.mean(off**2 - own)) / (count * (count - 1))
            yield off / (count * np.sqrt(energy)), products / energy
