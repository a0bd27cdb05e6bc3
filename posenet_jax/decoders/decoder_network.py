"""The base class of decoders' networks: from a descriptor to an image."""

from flax import linen as nn
from jaxtyping import Array, Float

Descriptor = Float[Array, "*batch_and_layer"]
Image = Float[Array, "*batch 100 100 3"]

SIDE = 100  # pixels


class DecoderNetwork(nn.Module):
    """A function from fc5 [..., F] or conv4 [..., 6, 6, C] to images [..., 100, 100, 3].

    Images are in the encoder's space, 1 = its full range of values. To add a network: subclass this
    in a file of its own and list it in `networks.NETWORKS`; a weights file keeps its name, and none
    of its fields. It normalises batches and keeps their statistics in `batch_stats`.

    axis_name: of the devices whose batches are normalised as one in training.
    """

    axis_name: str | None = None

    def __call__(self, descriptor: Descriptor, *, train: bool = False) -> Image:
        """`train`: normalises by the batch [B, ...] and updates the collection `batch_stats`."""
        raise NotImplementedError
