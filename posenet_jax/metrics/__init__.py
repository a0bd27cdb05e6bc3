"""Fidelity of descriptors, visibility and naturalness of images, errors of poses.

Fidelity asks whether the network sees the same thing, visibility whether a person does:
the one says nothing about the other.
"""

from posenet_jax.metrics.pixels import (
    descriptor_error,
    gaussian_blur,
    luminance,
    luminance_correlation,
    luminance_pattern,
    mean_squared_error,
    pairwise_normalised_errors,
    psnr,
    relative_loss,
    spectral_deviation,
    ssim,
)

__all__ = [
    "descriptor_error",
    "gaussian_blur",
    "luminance",
    "luminance_correlation",
    "luminance_pattern",
    "mean_squared_error",
    "pairwise_normalised_errors",
    "psnr",
    "relative_loss",
    "spectral_deviation",
    "ssim",
]
