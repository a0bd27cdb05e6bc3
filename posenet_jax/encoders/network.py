"""The base class of encoders' networks: what a network says of itself beside its layers."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from flax import linen as nn

from posenet_jax.images.preprocessing import CUSTOMARY, Preprocessing


class Normalisation(NamedTuple):
    """Images that another framework's network reads: (value - mean) / deviation, RGB, 0-255."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def space(self, size: int) -> Preprocessing:
        """Returns the image space of the network once its first layer divides by `deviation`."""
        red, green, blue = self.mean
        return Preprocessing(means=(blue, green, red), size=size)


IMAGENET = Normalisation(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)
"""Normalisation of torchvision's networks, of DINOv2, and of most of timm's."""


class Network(nn.Module):
    """A function from images [..., H, W, C] in network space to {tap's name: activations}.

    A network with a tap `fc5`, its descriptor, can have pose heads. To add one: subclass it in a
    file of its own and list it in `encoder_networks.NETWORKS`. Of its fields a weights file keeps
    `descriptor_size` and those of `saved_fields` alone.
    """

    architecture: ClassVar[str]  # its name in flags and weight files
    taps: ClassVar[tuple[str, ...]]  # layers that can be inverted, from the image on
    # The space of images for random weights, where no weights of the architecture are bundled.
    image_space: ClassVar[Preprocessing] = CUSTOMARY
    can_train: ClassVar[bool] = False  # by `training.pose_training`, for pose
    # {field: schema of its value in a weights file, as in `io.run_files`}; lists become tuples.
    saved_fields: ClassVar[Mapping[str, Any]] = {}

    # Weights of PyTorch (`importing.from_torch`), for networks that others have too:
    # {layer, or array of no layer: its name there}.
    foreign: ClassVar[Mapping[str, str]] = {}
    # {convolution: name of the batch normalisation after it}, which becomes part of it.
    normed: ClassVar[Mapping[str, str]] = {}
    norm_epsilon: ClassVar[float] = 1e-5
    # Names of arrays that every file of the network has; none: the weights of all layers.
    signature: ClassVar[frozenset[str]] = frozenset()
    normalisation: ClassVar[Normalisation] = IMAGENET
    first: ClassVar[str] = "conv1"  # layer that reads the image
    # Whether the first dense layer reads an image flattened, rather than a vector.
    flattens: ClassVar[bool] = True

    @classmethod
    def for_training(cls, descriptor_size: int, gain: float) -> Any:
        """The network for images divided by `gain`, with biases divided likewise."""
        del gain
        return cls(descriptor_size=descriptor_size)  # type: ignore[call-arg]

    @classmethod
    def for_arrays(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """Returns the network that a `state_dict` of these shapes belongs to.

        Raises InputError where they belong to none that can be read.
        """
        del shapes
        return cls()

    def rearranged(self, arrays: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a `state_dict` in the form that `foreign` names.

        size: of the network's images, pixels. Raises InputError for arrays that cannot be read.
        """
        del size
        return dict(arrays)

    def at_size(self, params: Any, size: int) -> Any:
        """Returns the parameters for images of `size` pixels; of most networks the same."""
        del size
        return params
