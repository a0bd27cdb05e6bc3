"""The peer: inversion as a plain batched PyTorch loop, written to run well, where JAX runs.

Images [B, 3, H, W] channels last in memory, weights frozen, gradients of all images in one backward
pass. Eager: a person's own loop, not `torch.compile`.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import torch

from benchmarks.torch_networks import NETWORKS, Weights

Tensor = torch.Tensor
Loss = Callable[..., Tensor]
Threshold = Callable[[Tensor, float], Tensor]


class Reached(NamedTuple):
    """Relative losses [B]. Where the priors weigh most the two are of different steps."""

    least: Tensor  # of all iterates
    best: Tensor  # of the iterate of the least objective, which an inversion returns


def device() -> torch.device:
    """The GPU, where JAX has one."""
    return torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")


def wait() -> None:
    """Until a GPU has done what it was given."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def full_precision() -> None:
    """Products in float32 on a GPU too, where either library would round what it multiplies."""
    if device().type == "cpu":
        return
    jax.config.update("jax_default_matmul_precision", "highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def freeze(weights: Weights) -> Weights:
    """Weights laid out for channels-last convolutions, without gradients."""
    layouts = {4: torch.channels_last}
    return {
        name: w.to(device()).contiguous(memory_format=layouts.get(w.ndim, torch.contiguous_format))
        for name, w in weights.items()
    }


def paper_loss(images: Tensor, descriptors: Tensor, targets: Tensor, recipe) -> Tensor:
    """[B] eq. 2 with the sixth power; eq. 1's border replicates, so that its differences are 0."""
    data = torch.sqrt(torch.sum((descriptors - targets).flatten(1) ** 2, 1) + 1e-12)
    return data + _priors(images, recipe)


def calibrated_loss(images: Tensor, descriptors: Tensor, targets: Tensor, recipe) -> Tensor:
    """[B] the loss of recipe `calibrated`: relative, priors as means over the pixels."""
    data = ((descriptors - targets).flatten(1) ** 2).sum(1) / (targets.flatten(1) ** 2).sum(1)
    return data + _priors(images / 127.5, recipe) / (images.shape[2] * images.shape[3])


def _priors(images: Tensor, recipe) -> Tensor:
    right = torch.zeros_like(images)
    right[..., :-1] = images[..., 1:] - images[..., :-1]
    below = torch.zeros_like(images)
    below[..., :-1, :] = images[..., 1:, :] - images[..., :-1, :]
    variation = torch.sqrt(right * right + below * below + 1e-8).sum((1, 2, 3))
    square = images * images
    sixth = (square * square * square).sum((1, 2, 3))
    return recipe.priors["tv"] * variation + recipe.priors["l6"] * sixth


def relative_losses(descriptors: Tensor, targets: Tensor) -> Tensor:
    """[B] eq. 3."""
    a, b = descriptors.flatten(1), targets.flatten(1)
    return (a - b).norm(dim=1) / (a.norm(dim=1) + b.norm(dim=1))


def by_selection(contribution: Tensor, percentile: float) -> Tensor:
    """[B, 1] the first order statistic at or above the percentile's position."""
    position = percentile / 100 * (contribution.shape[1] - 1)
    return contribution.kthvalue(math.ceil(position) + 1, dim=1, keepdim=True).values


def by_quantile(contribution: Tensor, percentile: float) -> Tensor:
    """[B, 1] the interpolated percentile: the same pixels lie below it."""
    return contribution.quantile(percentile / 100, dim=1, keepdim=True)


def faster_threshold(pixels: int = 10_000, batch: int = 16) -> Threshold:
    """The quicker of the two on this machine."""
    contribution = torch.rand(batch, pixels, device=device())

    def seconds(threshold: Threshold) -> float:
        threshold(contribution, 21.4)
        wait()
        start = time.perf_counter()
        for _ in range(5):
            threshold(contribution, 21.4)
        wait()
        return time.perf_counter() - start

    return min((by_selection, by_quantile), key=seconds)


def losses(
    architecture: str,
    layer: str,
    weights: Weights,
    start: Tensor,
    targets: Tensor,
    recipe,
    threshold: Threshold,
) -> Iterator[Tensor]:
    """Steps of Table 1 without end; yields the loss [B] of the iterate that each step evaluated."""
    network = NETWORKS[architecture]
    images, targets = _leaf(start), targets.to(device())
    optimiser = torch.optim.Adam(
        [images],
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
        fused=True,
    )
    while True:
        optimiser.zero_grad(set_to_none=True)
        loss = paper_loss(images, network(weights, images)[layer], targets, recipe)
        loss.sum().backward()
        optimiser.step()
        _clip(images, threshold, recipe.clip_percentile)
        yield loss.detach()


def calibrated(
    architecture: str,
    layer: str,
    weights: Weights,
    start: Tensor,
    targets: Tensor,
    recipe,
    steps: int,
) -> Reached:
    """Returns the relative losses that so many steps of recipe `calibrated` reach."""
    network = NETWORKS[architecture]
    images, targets = _leaf(start), targets.to(device())
    betas = (recipe.beta1, recipe.beta2)
    optimiser = torch.optim.Adam([images], betas=betas, eps=recipe.epsilon, fused=True)
    least, best, lowest = (torch.full((len(start),), math.inf, device=device()) for _ in range(3))
    for step in range(steps):
        decay = 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))
        share = recipe.final_rate + (1.0 - recipe.final_rate) * decay
        rise = min(1.0, (step + 1) / max(recipe.warmup, 1))
        optimiser.param_groups[0]["lr"] = recipe.learning_rate * rise * share
        optimiser.zero_grad(set_to_none=True)
        descriptors = network(weights, images)[layer]
        loss = calibrated_loss(images, descriptors, targets, recipe)
        loss.sum().backward()
        optimiser.step()
        with torch.no_grad():
            relative = relative_losses(descriptors, targets)
            least = torch.minimum(least, relative)
            best = torch.where(loss < lowest, relative, best)
            lowest = torch.minimum(lowest, loss)
    return Reached(least.cpu(), best.cpu())


def _leaf(start: Tensor) -> Tensor:
    images = start.to(device()).clone(memory_format=torch.channels_last)
    return images.requires_grad_(True)


@torch.no_grad()
def _clip(images: Tensor, threshold: Threshold, percentile: float) -> None:
    """Zeroes the pixels of small contribution: gradient from before the step, pixels from after."""
    contribution = (images.grad * images).sum(1).abs()
    flat = contribution.flatten(1)
    images.mul_((flat >= threshold(flat, percentile)).view_as(contribution)[:, None])
