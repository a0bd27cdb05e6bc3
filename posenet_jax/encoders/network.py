"""The base class of encoders' networks: what a network says of itself beside its layers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from flax import linen as nn

from posenet_jax.images.preprocessing import CUSTOMARY, Preprocessing


class Network(nn.Module):
    """A function from images [..., H, W, 3], mean-subtracted, to {tap's name: activations}.

    A network with a tap `fc5`, its descriptor, can have pose heads. To add one: subclass it in a
    file of its own and list it in `encoder_networks.NETWORKS`. Of its fields a weights file keeps
    `descriptor_size` alone.
    """

    architecture: ClassVar[str]  # its name in flags and weight files
    taps: ClassVar[tuple[str, ...]]  # layers that can be inverted, from the image on
    # The space of images for random weights, where no weights of the architecture are bundled.
    image_space: ClassVar[Preprocessing] = CUSTOMARY
    # {layer: torchvision's name}, for networks that torchvision has too.
    foreign: ClassVar[Mapping[str, str]] = {}
    can_train: ClassVar[bool] = False  # by `training.pose_training`, for pose

    @classmethod
    def for_training(cls, descriptor_size: int, gain: float) -> Any:
        """The network for images divided by `gain`, with biases divided likewise."""
        del gain
        return cls(descriptor_size=descriptor_size)  # type: ignore[call-arg]
