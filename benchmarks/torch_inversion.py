"""The peer: Table 1's inversion as a plain batched PyTorch loop, written to run well on a CPU.

Images [B, 3, H, W] channels last in memory, weights frozen, gradients of all images in one backward
pass. Eager: a person's own loop, not `torch.compile`.
"""

import math
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.torch_networks import NETWORKS, Weights

Tensor = torch.Tensor
Threshold = Callable[[Tensor, float], Tensor]


def freeze(weights: Weights) -> Weights:
    """Weights laid out for channels-last convolutions, without gradients."""
    return {
        name: w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w.contiguous()
        for name, w in weights.items()
    }


def paper_loss(images: Tensor, descriptors: Tensor, targets: Tensor, recipe) -> Tensor:
    """[B] eq. 2 with the sixth power; eq. 1's border replicates, so that its differences are 0."""
    data = torch.sqrt(torch.sum((descriptors - targets).flatten(1) ** 2, 1) + 1e-12)
    right = torch.zeros_like(images)
    right[..., :-1] = images[..., 1:] - images[..., :-1]
    below = torch.zeros_like(images)
    below[..., :-1, :] = images[..., 1:, :] - images[..., :-1, :]
    variation = torch.sqrt(right * right + below * below + 1e-8).sum((1, 2, 3))
    square = images * images
    sixth = (square * square * square).sum((1, 2, 3))
    return data + recipe.tv_weight * variation + recipe.l6_weight * sixth


def by_selection(contribution: Tensor, percentile: float) -> Tensor:
    """[B, 1] the first order statistic at or above the percentile's position."""
    position = percentile / 100 * (contribution.shape[1] - 1)
    return contribution.kthvalue(math.ceil(position) + 1, dim=1, keepdim=True).values


def by_quantile(contribution: Tensor, percentile: float) -> Tensor:
    """[B, 1] the interpolated percentile: the same pixels lie below it."""
    return contribution.quantile(percentile / 100, dim=1, keepdim=True)


def faster_threshold(pixels: int = 10_000, batch: int = 16) -> Threshold:
    """The quicker of the two on this machine."""
    contribution = torch.rand(batch, pixels)

    def seconds(threshold: Threshold) -> float:
        threshold(contribution, 21.4)
        start = time.perf_counter()
        for _ in range(5):
            threshold(contribution, 21.4)
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
    """Steps without end; yields the loss [B] of the iterate that each step evaluated."""
    network = NETWORKS[architecture]
    images = start.clone(memory_format=torch.channels_last).requires_grad_(True)
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


@torch.no_grad()
def _clip(images: Tensor, threshold: Threshold, percentile: float) -> None:
    """Zeroes the pixels of small contribution: gradient from before the step, pixels from after."""
    contribution = (images.grad * images).sum(1).abs()
    flat = contribution.flatten(1)
    images.mul_((flat >= threshold(flat, percentile)).view_as(contribution)[:, None])
