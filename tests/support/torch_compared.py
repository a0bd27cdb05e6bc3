"""Our networks beside the same ones in torch.nn: every tap, and every tap's input gradient.

Differences are shares of the largest value. float32 rounds each of a sum's n products and partial
sums by 2^-24, which adds up to about √n·2^-24: 3e-6 for the largest of these sums, 2,304 products;
along a dozen layers the shares grow by the root of their number at most.
"""

import jax
import jax.numpy as jnp
import numpy as np

FORWARD = 1e-5
GRADIENT = 1e-5


def images(size: int, count: int = 2) -> np.ndarray:
    """[count, size, size, 3] uint8 RGB: coarse shapes and noise."""
    rng = np.random.default_rng(size)
    coarse = rng.integers(0, 256, (count, 5, 5, 3)).repeat(-(-size // 5), 1)
    coarse = coarse.repeat(-(-size // 5), 2)[:, :size, :size]
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def draw(torch, network) -> None:
    """Weights that keep the activations' size, and biases, means and variances that matter."""
    generator = torch.Generator().manual_seed(0)

    def normal(tensor, deviation, mean=0.0):
        tensor.copy_(mean + deviation * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.ndim > 1 and name.endswith("weight"):
                normal(tensor, (2 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                normal(tensor, 0.2, mean=1.0 if name.endswith(("weight", "gamma")) else 0.0)


def compare(torch, encoder, taps, pixels: np.ndarray, mean, deviation) -> None:
    """Asserts that all taps and their gradients agree with those that `taps` computes.

    taps: from [B, 3, H, W], (value - mean)/deviation of 0-255, to activations by name, channels
    first where they have three axes and more and are no tokens.
    """
    forward = jax.tree_util.Partial(jax.jit(encoder.module.apply), {"params": encoder.params})
    ours, pull = jax.vjp(forward, encoder.preprocessing.to_network(pixels))

    x = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    x.requires_grad_(True)
    mean, deviation = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, deviation))
    theirs = taps((x - mean) / deviation)
    assert set(ours) == set(theirs) == set(encoder.taps)
    for layer in encoder.taps:
        oracle = _channels_last(theirs[layer])
        assert ours[layer].shape == oracle.shape, layer
        assert np.std(oracle) > 0.05 * np.abs(oracle).mean(), layer
        assert largest_difference(ours[layer], oracle) <= FORWARD, layer

        cotangent = np.random.default_rng(1).standard_normal(oracle.shape).astype(np.float32)
        zeros = jax.tree.map(jnp.zeros_like, ours)
        (gradient,) = pull(zeros | {layer: jnp.asarray(cotangent)})
        upstream = torch.from_numpy(cotangent)
        upstream = upstream.permute(0, 3, 1, 2) if upstream.ndim == 4 else upstream
        (oracle,) = torch.autograd.grad(theirs[layer], x, upstream, retain_graph=True)
        oracle = _channels_last(oracle)[..., ::-1]
        # A unit at a corner, or two equal in a window, may go another way in each framework.
        difference = np.quantile(np.abs(np.asarray(gradient) - oracle), 0.98)
        assert difference <= GRADIENT * np.abs(oracle).max(), layer
        off = np.linalg.norm(np.asarray(gradient) - oracle) / np.linalg.norm(oracle)
        assert off <= 0.02, layer


def _channels_last(tensor) -> np.ndarray:
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def largest_difference(ours, oracle) -> float:
    return float(np.abs(np.asarray(ours) - oracle).max() / np.abs(oracle).max())


def state(network) -> dict[str, np.ndarray]:
    """The network's `state_dict` as NumPy arrays."""
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}
