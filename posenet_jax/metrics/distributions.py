"""Distances between sets of images, of which none is another's original."""

import numpy as np
from jaxtyping import Float, UInt8

Made = Float[np.ndarray, "made features"]
Real = Float[np.ndarray, "real features"]
Pictures = UInt8[np.ndarray, "number height width 3"]


def kernel_distance(made: Made, real: Real) -> float:
    """Squared maximum mean discrepancy of two sets of features [N, D], [M, D]; about 0 for one set.

    Kernel and estimate are those of the KID of Bińkowski et al. (2018): (x·y / D + 1)³, without
    bias, so that it may be slightly negative. The KID averages it over subsets, which has the same
    expectation and more variance, and takes features as they are; here they are first divided by
    the real ones' root mean square, so that distances in different networks can be compared.
    """
    scale = np.sqrt(np.mean(np.square(real, dtype=np.float64)))
    a, b = made.astype(np.float64) / scale, real.astype(np.float64) / scale

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2.0 * float(kernel(a, b).mean())


def frechet_distance(made: Made, real: Real) -> float:
    """Squared Fréchet distance between Gaussians with the moments of two sets [N, D] and [M, D].

    ‖μ - ν‖² + tr(S + T - 2 (S T)^½) (Heusel et al. 2017), in the features' units squared. Moments
    of few features make it too large, by about the same for equal N and M, so that only figures of
    equal numbers can be compared. Raises ValueError for fewer than two features in a set.
    """
    if min(len(made), len(real)) < 2:
        raise ValueError("a covariance needs at least two features")
    (mean, root), (other_mean, other_root) = map(_moments, (made, real))
    # With S = RᵀR and T = QᵀQ the eigenvalues of S T are the squared singular values of R Qᵀ: no
    # root of a matrix that is singular, as S is where there are fewer features than dimensions.
    cross = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    squares = np.square(root).sum() + np.square(other_root).sum()
    return float(np.square(mean - other_mean).sum() + squares - 2.0 * cross)


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and a root R of the covariance RᵀR, [min(N, D), D]."""
    values = features.astype(np.float64)
    mean = values.mean(axis=0)
    root = (values - mean) / np.sqrt(len(values) - 1)
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return mean, root


def diversity(pictures: Pictures) -> float:
    """Mean deviation of a pixel's values over the set, of the range; 0: all pictures are one."""
    return float(np.mean(np.std(pictures, axis=0, dtype=np.float64)) / 255.0)
