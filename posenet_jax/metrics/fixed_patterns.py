"""Fine detail at places of its own: marks that a network lays into all of its pictures."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

Pictures = UInt8[np.ndarray, "number height width channels"]
Picture = UInt8[np.ndarray, "height width channels"]
Detail = Float[np.ndarray, "height width channels"]


def fixed_pattern(pictures: Pictures, originals: Pictures) -> float:
    """Share of fine detail at the same places in all pictures; 0: as little as in originals.

    Of the differences of neighbouring pixels, along rows and columns, with their sign and without:
    the squared distance between the means of all pictures [N, H, W, C] and of all originals
    [M, H, W, C] at each place, over the originals' mean square. Without bias, by products of
    different pictures alone, so that a little below 0 is chance; NaN of one picture or original,
    and of originals without any detail.
    """
    if min(len(pictures), len(originals)) < 2:
        return float("nan")
    made, real = _Moments(pictures), _Moments(originals)
    shares = []
    for a, b, own, other, size in zip(
        made.sums, real.sums, made.squares, real.squares, real.sizes, strict=True
    ):
        n, m = len(pictures), len(originals)
        within = np.mean(a**2 - own) / (n * (n - 1)) + np.mean(b**2 - other) / (m * (m - 1))
        shares.append((within - 2 * np.mean(a * b) / (n * m)) / size if size else float("nan"))
    return float(np.mean(shares))


class _Moments:
    """Sums over pictures of each kind of detail and of its square, and its mean square."""

    sums: list[Detail]
    squares: list[Detail]

    def __init__(self, pictures: Pictures) -> None:
        self.sums, self.squares = ([0.0 * x for x in _details(pictures[0])] for _ in range(2))
        for picture in pictures:  # one at a time, as a set may be large
            for kind, detail in enumerate(_details(picture)):
                self.sums[kind] += detail
                self.squares[kind] += detail**2
        self.sizes = [float(np.mean(x)) / len(pictures) for x in self.squares]


def _details(picture: Picture) -> Iterator[Detail]:
    for axis in (0, 1):
        difference = np.diff(picture.astype(np.float64), axis=axis)
        yield difference
        yield np.abs(difference)
