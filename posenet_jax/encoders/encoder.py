"""An encoder: a network, its weights, the images it reads, and its layers as functions.

`Encoder.tap` gives a layer as a function of an image, which is what is inverted; `Tap.describe`
applies it to many images. `Encoder.poses` and `Encoder.matches` ask the heads.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from posenet_jax import numerics
from posenet_jax.encoders.heads import HeadOutputs, PoseScale, SiameseHeads, outputs
from posenet_jax.errors import InputError, one_line
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io.tensors import fingerprint

Array = jax.Array

# Pixels: a file that says more is damaged, and layers are laid out pixel by pixel.
LARGEST_SIDE = 8192


def in_batches(function: Callable[[Any], Array], rows: np.ndarray, batch: int = 16) -> np.ndarray:
    """[N, …] of `function` of all rows [N, …], `batch` at a time; the last row pads the last batch.

    The batch is fixed, so that few rows do not wait for many, nor for another program.
    """
    parts = []
    for start in range(0, len(rows), batch):
        numbers = np.minimum(np.arange(start, start + batch), len(rows) - 1)
        parts.append(np.asarray(function(rows[numbers]))[: len(rows) - start])
    return np.concatenate(parts)


@struct.dataclass(eq=False)
class Tap:
    """One layer of an encoder as a function from one image (or a batch) to one descriptor.

    A pytree: passed into a jitted function its parameters are arguments, not constants, so that
    two taps of one architecture share a compilation.
    """

    params: Any
    module: nn.Module = struct.field(pytree_node=False)
    layer: str = struct.field(pytree_node=False)
    preprocessing: Preprocessing = struct.field(pytree_node=False)
    evaluated: Any = struct.field(default_factory=dict)

    def __call__(self, image: Array) -> Array:
        """[..., H, W, C] image in network space → the tap's activations."""
        variables = {"params": self.params, "evaluated": self.evaluated}
        taps: Any = self.module.apply(variables, numerics.as_float32(image))
        return taps[self.layer]

    def describe(self, images: np.ndarray) -> np.ndarray:
        """[N, …] activations of uint8 images [N, H, W, C]: RGB, grey, or of channels of its own.

        Raises InputError for images of another size than `preprocessing` says, or other channels.
        """
        space = self.preprocessing
        if images.shape[1:3] != space.shape[:2]:
            size = "×".join(map(str, images.shape[1:3]))
            raise InputError(
                f"the encoder reads {space.height}×{space.width} pixels; the images are {size}"
            )
        if images.shape[3:] != space.shape[2:]:
            raise InputError(
                f"the encoder reads {space.channels} channels; the images have the shape "
                f"{list(images.shape)}: its preprocessing.resize_all makes grey of colours"
            )
        return in_batches(lambda rows: _encode(self, space.to_network(rows)), images)

    def prepared(self) -> "Tap":
        """The same function, with all that depends on the weights alone worked out beforehand."""
        return self.replace(evaluated=_evaluated(self))  # type: ignore[attr-defined]


@jax.jit
def _evaluated(tap: Tap) -> Any:
    image = jnp.zeros(tap.preprocessing.shape, jnp.float32)
    _, variables = tap.module.apply({"params": tap.params}, image, mutable=["evaluated"])
    return variables.get("evaluated", {})


@struct.dataclass
class Encoder:
    """A network, its weights, the image space it reads and, if trained here, its heads."""

    params: Any
    head_params: Any
    pose_scale: PoseScale | None
    module: nn.Module = struct.field(pytree_node=False)
    preprocessing: Preprocessing = struct.field(pytree_node=False)
    name: str = struct.field(pytree_node=False, default="")

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the layers that can be inverted, from the image on."""
        return self.module.taps

    def tap(self, layer: str) -> Tap:
        """The function to invert. InputError names the taps there are."""
        if layer not in self.taps:
            raise InputError(
                f"no layer {layer!r} in encoder {self.name!r}; its taps are {', '.join(self.taps)}"
            )
        return Tap(self.params, self.module, layer, self.preprocessing)

    def heads(self, first: Array, second: Array) -> HeadOutputs:
        """Heads' outputs for two batches of fc5 descriptors [..., F]; pose still z-scored."""
        if self.head_params is None:
            raise InputError(f"encoder {self.name!r} has no heads")
        return _ask(self.head_params, first, second)

    @property
    def predicts_poses(self) -> bool:
        """Whether the encoder has heads, and the scale of the poses that they predict."""
        return self.head_params is not None and self.pose_scale is not None

    def poses(self, first: Array, second: Array) -> Array:
        """[..., 6] relative poses, radians and metres, that the heads predict from descriptors.

        Raises InputError where the encoder does not predict poses.
        """
        if self.head_params is None or self.pose_scale is None:
            raise InputError(f"encoder {self.name!r} has no heads to predict poses with")
        return _poses(self.head_params, self.pose_scale, first, second)

    def matches(self, first: Array, second: Array) -> Array:
        """[...] logits that two descriptors show the same target; InputError without heads."""
        if self.head_params is None:
            raise InputError(f"encoder {self.name!r} has no heads")
        return _matches(self.head_params, first, second)

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the encoder's parameters."""
        return fingerprint(self.params)


def init_params(
    module: nn.Module, key: Array, size: int | tuple[int, int, int] = 100
) -> tuple[Any, Any]:
    """Random parameters of an encoder and of its heads, None where it has no fc5 to put them on.

    size: side of square images of three channels, or height, width and channels.
    """
    return _init(module, key, (size, size, 3) if isinstance(size, int) else size)


@functools.partial(jax.jit, static_argnums=(0, 2))  # nothing but shapes is left of the forward pass
def _init(module: nn.Module, key: Array, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    encoder_key, head_key = jax.random.split(key)
    image = jnp.zeros(shape, jnp.float32)
    taps, variables = module.init_with_output(encoder_key, image)
    if "fc5" not in taps:
        return variables["params"], None
    head_variables = SiameseHeads().init(head_key, taps["fc5"], taps["fc5"])
    return variables["params"], head_variables["params"]


@functools.lru_cache(maxsize=64)
def parameter_shapes(module: nn.Module, size: int | tuple[int, int, int]) -> tuple[Any, Any]:
    """Returns the shapes of `init_params`' result, of the same arguments.

    Raises InputError for images too small for the network, or of more than `LARGEST_SIDE` pixels a
    side.
    """
    kind = type(module).__name__
    height, width, channels = (size, size, 3) if isinstance(size, int) else size
    side = max(height, width)
    if side > LARGEST_SIDE:
        raise InputError(f"images of {side} pixels a side are more than the {LARGEST_SIDE} allowed")
    try:
        return jax.eval_shape(lambda: init_params(module, jax.random.key(0), size))
    except Exception as error:  # each layer fails in its own way on what is left of the image
        pixels = f"{height}×{width} pixels" + (f", {channels} channels" * (channels != 3))
        raise InputError(f"a {kind} cannot read images of {pixels} ({one_line(error)})") from error


@jax.jit
def _encode(tap: Tap, images: Array) -> Array:
    return tap(images)


@jax.jit
def _poses(head_params: Any, scale: PoseScale, first: Array, second: Array) -> Array:
    return scale.restore(_ask(head_params, first, second).pose)


@jax.jit
def _matches(head_params: Any, first: Array, second: Array) -> Array:
    return _ask(head_params, first, second).match


def _ask(head_params: Any, first: Array, second: Array) -> HeadOutputs:
    return outputs(head_params, numerics.as_float32(first), numerics.as_float32(second))
