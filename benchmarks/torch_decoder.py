"""The decoders in plain PyTorch: an oracle for the tests, a peer for the benchmark.

Layers as they read: nearest-neighbour upsampling, convolutions, transposed convolutions. Needs
PyTorch when it is imported.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

Tensor = torch.Tensor


class Decoder(nn.Module):
    """[B, F] or [B, C, 6, 6] → [B, 3, 100, 100]."""

    def __init__(
        self, descriptor_shape: tuple[int, ...], extra: int = 0, fine: int = 0, mended: int = 0
    ) -> None:
        """`descriptor_shape`: (F,) or (6, 6, C). `fine`: channels of the layer of 32×32 pixels.

        `mended`: of those that read blocks of 4×4 pixels of the image.
        """
        super().__init__()
        self.from_vector = len(descriptor_shape) == 1
        channels = 256 if self.from_vector else descriptor_shape[-1]
        if self.from_vector:
            self.up5 = nn.Linear(descriptor_shape[0], 3 * 3 * 256)
            self.up5_norm = _norm(256)
        self.up4 = nn.ConvTranspose2d(channels, 256, 3)
        self.up4_norm = _norm(256)
        self.extra = extra
        for number in range(extra):
            setattr(self, f"extra{number}", nn.Conv2d(256, 256, 3, padding=1))
            setattr(self, f"extra{number}_norm", _norm(256))
        self.up3 = nn.Conv2d(256, 128, 3, padding=1)
        self.up3_norm = _norm(128)
        self.up2 = nn.Conv2d(128, 96, 5, padding=2)
        self.up2_norm = _norm(96)
        self.up1 = nn.ConvTranspose2d(96, 3, 7, stride=3)
        self.fine = fine
        if fine:
            self.fine2 = nn.Conv2d(96, fine, 3, padding=1)
            self.fine2_norm = _norm(fine)
            self.fine1 = nn.ConvTranspose2d(fine, 3, 7, stride=3)
        self.mended = mended
        if mended:
            self.mend1 = nn.Conv2d(48, mended, 3, padding=1)
            self.mend1_norm = _norm(mended)
            self.mend2 = nn.Conv2d(mended, mended, 3, padding=1)
            self.mend2_norm = _norm(mended)
            self.mend3 = nn.Conv2d(mended, 48, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.from_vector:
            x = self.up5(x).reshape(len(x), 256, 3, 3)
            x = self.up5_norm(x.contiguous(memory_format=torch.channels_last).relu())
            x = _twice(x)
        x = self.up4_norm(self.up4(x).relu())
        for number in range(self.extra):
            x = getattr(self, f"extra{number}_norm")(getattr(self, f"extra{number}")(x).relu())
        x = self.up3_norm(self.up3(x).relu())
        x = self.up2_norm(self.up2(_twice(x)).relu())
        image = self.up1(_twice(x))
        if self.fine:
            image = image + self.fine1(self.fine2_norm(self.fine2(_twice(x)).relu()))
        if self.mended:
            x = self.mend1_norm(self.mend1(_blocks(image)).relu())
            x = self.mend2_norm(self.mend2(x).relu())
            image = image + _pixels(self.mend3(x))
        return image

    def load_flax(self, variables: Mapping[str, Any]) -> "Decoder":
        """Takes over a Flax decoder's `params` and `batch_stats`."""
        with torch.no_grad():
            for name, values in variables["params"].items():
                layer = getattr(self, name)
                if name.endswith("_norm"):
                    statistics = variables["batch_stats"][name]["norm"]
                    _copy(layer.weight, values["norm"]["scale"])
                    _copy(layer.bias, values["norm"]["bias"])
                    _copy(layer.running_mean, statistics["mean"])
                    _copy(layer.running_var, statistics["var"])
                else:
                    _copy(layer.weight, flax_kernel(layer, np.asarray(values["kernel"])))
                    _copy(layer.bias, flax_bias(layer, np.asarray(values["bias"])))
        return self


def peer_of(module: Any, descriptor_shape: tuple[int, ...]) -> Decoder:
    """Returns PyTorch's network of the same layers as one of `decoders.networks.Mirror`'s kind."""
    return Decoder(descriptor_shape, *(getattr(module, k, 0) for k in ("extra", "fine", "mended")))


def flax_kernel(layer: nn.Module, kernel: np.ndarray) -> np.ndarray:
    """A Flax kernel, or its gradient, as this layer's weight."""
    if isinstance(layer, nn.Linear):  # Flax's output is [3, 3, 256], PyTorch's [256, 3, 3]
        return kernel.reshape(-1, 3, 3, 256).transpose(3, 1, 2, 0).reshape(-1, len(kernel))
    if not isinstance(layer, nn.ConvTranspose2d):
        return kernel.transpose(3, 2, 0, 1)
    return kernel.transpose(2, 3, 0, 1)


def flax_bias(layer: nn.Module, bias: np.ndarray) -> np.ndarray:
    """A Flax bias, or its gradient, as this layer's."""
    if isinstance(layer, nn.Linear):
        return bias.reshape(3, 3, 256).transpose(2, 0, 1).reshape(-1)
    return bias


def _norm(channels: int) -> nn.BatchNorm2d:
    # Flax's momentum is the share kept, PyTorch's the share taken.
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def _blocks(x: Tensor) -> Tensor:
    """[B, 48, 25, 25] of images: channels in Flax's order, rows, then columns, then colours."""
    x = nn.functional.pixel_unshuffle(x, 4)  # colours first
    return x.reshape(-1, 3, 16, 25, 25).transpose(1, 2).reshape(-1, 48, 25, 25)


def _pixels(x: Tensor) -> Tensor:
    """The inverse of `_blocks`."""
    x = x.reshape(-1, 16, 3, 25, 25).transpose(1, 2).reshape(-1, 48, 25, 25)
    return nn.functional.pixel_shuffle(x, 4)


def _copy(parameter: Tensor, values: Any) -> None:
    parameter.copy_(torch.from_numpy(np.array(values)))


def losses(
    decoder: Decoder, descriptors: Tensor, wanted: Tensor, learning_rate: float
) -> Iterator[float]:
    """Trains for ever on one batch, as one would; yields each step's loss.

    Channels last, Adam, and an average of the weights, as ours keeps.
    """
    decoder = decoder.to(memory_format=torch.channels_last).train()
    descriptors, wanted = (
        x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        for x in (descriptors, wanted)
    )
    optimizer = torch.optim.Adam(decoder.parameters(), learning_rate)
    average = [parameter.detach().clone() for parameter in decoder.parameters()]
    while True:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(decoder(descriptors), wanted)
        loss.backward()
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in decoder.parameters()], 1e-3)
        yield float(loss.detach())
