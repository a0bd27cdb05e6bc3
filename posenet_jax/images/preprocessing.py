"""Between files and the network: what a `Preprocessing` record does to an image.

Images outside are uint8, RGB, [..., H, W, 3], 0-255. Images inside ("network space") are float32,
[..., H, W, 3], `scale * (value - channel mean)`, in the network's channel order. Zero is the mean
colour. Means are always listed blue, green, red, in 0-255 units, whatever the channel order.

The record belongs to an encoder and is stored beside its weights.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn, Self

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

Array = jax.Array

_FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_CHANNEL_ORDERS = ("BGR", "RGB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an encoder wants its images. Hashable, hence static under `jit`.

    means: blue, green and red mean of the data the encoder was trained on, 0-255.
    channel_order: order of the network's input channels, "BGR" or "RGB".
    scale: factor applied after the means are subtracted.
    size: height and width of the network's input, pixels.
    resize_filter: "area", "bilinear", "bicubic" or "lanczos"; all of them antialias.

    Raises ValueError, naming the option and the value received, when a value makes no sense.
    """

    means: tuple[float, float, float]
    channel_order: Literal["BGR", "RGB"] = "BGR"
    scale: float = 1.0
    size: int = 100
    resize_filter: str = "bicubic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", _checked_means(self.means))
        if self.channel_order not in _CHANNEL_ORDERS:
            _refuse("channel_order", "BGR or RGB", self.channel_order)
        if not _is_number(self.scale) or not (math.isfinite(self.scale) and self.scale > 0):
            _refuse("scale", "a positive number", self.scale)
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            _refuse("size", "a positive whole number of pixels", self.size)
        if self.resize_filter not in _FILTERS:
            _refuse("resize_filter", f"one of {', '.join(_FILTERS)}", self.resize_filter)

    def to_network(self, image: Array | np.ndarray) -> Array:
        """Network-space image, float32 [..., H, W, 3], of uint8 RGB [..., H, W, 3]."""
        if image.dtype != np.uint8 or image.ndim < 3 or image.shape[-1] != 3:
            _refuse("image", "uint8 [..., H, W, 3]", f"{image.dtype} {list(image.shape)}")
        ordered = self._reorder(jnp.asarray(image).astype(jnp.float32))
        return (ordered - self._means_like(ordered)) * jnp.float32(self.scale)

    def to_image(self, x: Array | np.ndarray) -> Array:
        """Image uint8 RGB [..., H, W, 3] of a network-space x [..., H, W, 3]: rounded, clipped.

        Undoes `to_network` exactly. NaN becomes the mean colour: what a cast would make of it
        differs from platform to platform.
        """
        if x.ndim < 3 or x.shape[-1] != 3:
            _refuse("x", "[..., H, W, 3]", list(x.shape))
        x = jnp.asarray(x, jnp.float32)
        values = jnp.where(jnp.isnan(x), 0, x) / jnp.float32(self.scale) + self._means_like(x)
        return self._reorder(jnp.clip(jnp.round(values), 0, 255).astype(jnp.uint8))

    def to_space(self, x: Array, other: "Preprocessing") -> Array:
        """A network-space x [..., H, W, 3] of this record in `other`'s space, not rounded."""
        values = self._reorder(x / jnp.float32(self.scale) + self._means_like(x))
        return (other._reorder(values) - other._means_like(x)) * jnp.float32(other.scale)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Image uint8 [size, size, 3] of uint8 [H, W, 3] of any size: resized, not cropped."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            _refuse("image", "uint8 [H, W, 3]", f"{image.dtype} {list(image.shape)}")
        if image.shape[:2] == (self.size, self.size):
            return image.copy()
        source = Image.fromarray(np.ascontiguousarray(image))
        return np.array(source.resize((self.size, self.size), _FILTERS[self.resize_filter]))

    def resize_all(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """Images uint8 [N, size, size, 3] of N images, each of any size."""
        return np.stack([self.resize(image) for image in images])

    def to_json(self) -> dict[str, Any]:
        """The record as plain values, for `json.dumps`."""
        return dataclasses.asdict(self) | {"means": list(self.means)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Raises ValueError for a missing or unknown key."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(record) - known):
            _refuse("preprocessing keys", f"among {', '.join(sorted(known))}", unknown)
        if "means" not in record:
            _refuse("preprocessing", "a record with means", dict(record))
        return cls(**record)

    def _reorder(self, image: Array) -> Array:
        """RGB to the network's order, or back: the same exchange both ways."""
        return image[..., ::-1] if self.channel_order == "BGR" else image

    def _means_like(self, image: Array) -> Array:
        """Means in the network's order, shaped to broadcast over an image [..., 3]."""
        means = self.means if self.channel_order == "BGR" else self.means[::-1]
        return jnp.asarray(means, jnp.float32).reshape((1,) * (image.ndim - 1) + (3,))


def channel_means(images: Iterable[np.ndarray]) -> tuple[float, float, float]:
    """Blue, green and red mean over all pixels of a stream of uint8 RGB [H, W, 3] images.

    Summed in float64, one image at a time. Raises ValueError when the stream holds no pixel.
    """
    total, pixels = np.zeros(3, np.float64), 0
    for image in images:
        total += image.sum(axis=(0, 1), dtype=np.float64)
        pixels += image.shape[0] * image.shape[1]
    if not pixels:
        raise ValueError("channel means need at least one image; received none")
    red, green, blue = (total / pixels).tolist()
    return blue, green, red


def _checked_means(means: Any) -> tuple[float, float, float]:
    """Means as a tuple of three floats within 0-255."""
    values = tuple(means) if isinstance(means, Iterable) and not isinstance(means, str) else ()
    if len(values) != 3 or not all(_is_number(v) and 0 <= v <= 255 for v in values):
        _refuse("means", "three numbers within 0-255 (blue, green, red)", means)
    blue, green, red = (float(v) for v in values)
    return blue, green, red


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _refuse(name: str, wanted: str, received: Any) -> NoReturn:
    raise ValueError(f"{name} must be {wanted}; received {received!r}")


CUSTOMARY = Preprocessing(means=(104.0, 117.0, 123.0))
"""Where nothing else is known: 100 pixels, BGR, channel means customary for Caffe's networks."""
