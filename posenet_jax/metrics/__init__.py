"""Fidelity of descriptors, visibility and naturalness of images, errors of poses.

Fidelity asks whether the network sees the same thing, visibility whether a person does:
the one says nothing about the other.
"""

from posenet_jax.metrics.bootstrap import bootstrap_interval, bootstrap_summary
from posenet_jax.metrics.descriptors import (
    descriptor_error,
    pairwise_normalised_errors,
    relative_loss,
    relative_losses,
)
from posenet_jax.metrics.distributions import diversity, frechet_distance, kernel_distance
from posenet_jax.metrics.fixed_patterns import detail_map, fixed_pattern
from posenet_jax.metrics.perceptual import lpips
from posenet_jax.metrics.pixels import (
    gaussian_blur,
    gradient_energies,
    luminance,
    luminance_correlation,
    luminance_correlations,
    luminance_pattern,
    mean_squared_error,
    psnr,
    spectral_deviation,
    spread,
    ssim,
)
from posenet_jax.metrics.poses import (
    PairErrors,
    false_positive_rate,
    normal_errors,
    pair_errors,
    roc,
    rotation_errors,
    yaw_correlation,
    yaw_slope,
)
from posenet_jax.metrics.ranks import own_ranks
from posenet_jax.metrics.spectra import grid_index, line_spectrum

__all__ = [
    "PairErrors",
    "bootstrap_interval",
    "bootstrap_summary",
    "descriptor_error",
    "detail_map",
    "diversity",
    "false_positive_rate",
    "fixed_pattern",
    "frechet_distance",
    "gaussian_blur",
    "gradient_energies",
    "grid_index",
    "kernel_distance",
    "line_spectrum",
    "lpips",
    "luminance",
    "luminance_correlation",
    "luminance_correlations",
    "luminance_pattern",
    "mean_squared_error",
    "normal_errors",
    "own_ranks",
    "pair_errors",
    "pairwise_normalised_errors",
    "psnr",
    "relative_loss",
    "relative_losses",
    "roc",
    "rotation_errors",
    "spectral_deviation",
    "spread",
    "ssim",
    "yaw_correlation",
    "yaw_slope",
]
