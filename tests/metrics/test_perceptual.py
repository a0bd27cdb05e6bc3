"""LPIPS of feature maps against the sums of PyTorch."""

import numpy as np
import pytest

from posenet_jax import metrics


def test_lpips_is_that_of_pytorch(torch):
    rng = np.random.default_rng(0)
    shapes = (7, 5, 4), (3, 2, 6)
    maps, others = ([rng.gamma(0.3, size=s).astype(np.float32) for s in shapes] for _ in range(2))
    maps[0][1, 1] = 0.0  # a pixel where no channel is on
    weights = [rng.uniform(size=shape[-1]).astype(np.float32) for shape in shapes]
    expected = 0.0
    for x, y, weight in zip(maps, others, weights, strict=True):
        x, y, weight = (torch.from_numpy(v).double() for v in (x, y, weight))
        apart = torch.nn.functional.normalize(x, dim=-1) - torch.nn.functional.normalize(y, dim=-1)
        expected += (apart.square() @ weight).mean().item()
    assert float(metrics.lpips(maps, others, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(metrics.lpips(maps, maps, weights)) == 0.0
