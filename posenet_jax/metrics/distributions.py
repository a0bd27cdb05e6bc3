"""Distances between sets of images, of which none is another's original."""

import numpy as np
from jaxtyping import Float, UInt8

Made = Float[np.ndarray, "made features"]
Real = Float[np.ndarray, "real features"]
Pictures = UInt8[np.ndarray, "number height width 3"]


def kernel_distance(made: Made, real: Real) -> float:
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


def diversity(pictures: Pictures) -> float:
    """Mean deviation of a pixel's values over the set, of the range; 0: all pictures are one."""
    return float(np.mean(np.std(pictures, axis=0, dtype=np.float64)) / 255.0)
