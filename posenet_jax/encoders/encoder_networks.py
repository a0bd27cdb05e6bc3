"""Registry of the networks of encoders, by name; `network.Network` says how to add one."""

from posenet_jax.encoders.efficientnet import EfficientNetLite0
from posenet_jax.encoders.imagenet import AlexNet, SqueezeNet
from posenet_jax.encoders.network import Network
from posenet_jax.encoders.resnet import ResNet18, ResNet50
from posenet_jax.encoders.streetnet import Compact, StreetNet
from posenet_jax.encoders.vit import ViT

NETWORKS: dict[str, type[Network]] = {
    kind.architecture: kind
    for kind in (
        StreetNet,
        Compact,
        AlexNet,
        SqueezeNet,
        EfficientNetLite0,
        ResNet18,
        ResNet50,
        ViT,
    )
}
"""Classes of networks by the name of their architecture."""


def trainable() -> list[str]:
    """Names of the networks that can be trained for pose."""
    return [name for name, kind in NETWORKS.items() if kind.can_train]
