"""Between files and the network: what a `Preprocessing` record does to an image.

Images outside are uint8, [..., H, W, C], 0-255: RGB of three channels, grey of one, of other
numbers in the network's own order. Images inside ("network space") are float32, [..., H, W, C],
`scale * (value - channel mean)`, in the network's channel order. Means are always listed blue,
green, red where there are three, in 0-255 units, whatever the channel order.

Every affine range is such a record. A network that reads 0 to 1, -1 to 1, or metres of depth, where
a picture's black is 2 m and its white 10 m:

    Preprocessing.of_range(0, 1, channels=3, channel_order="RGB", size=224)
    Preprocessing.of_range(-1, 1, channels=3, channel_order="RGB", size=224)
    Preprocessing.of_range(2, 10, size=(240, 320))  # one channel

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

from posenet_jax.errors import InputError

Array = jax.Array

_FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORDERS = {1: ("L",), 3: ("BGR", "RGB")}  # by the number of channels
_OWN = ("own",)  # that of all other numbers
# Means of data sets lie within; a mean beyond them is the end of a range.
_MIDDLE = (64.0, 191.0)
_MID_GREY = 127.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an encoder wants its images. Hashable, hence static under `jit`.

    means: of each channel, 0-255 units, those of the data that the encoder was trained on: blue,
        green and red, or grey, or as many as the network has channels, in its own order. Where the
        network's zero is no mean (`of_range`), the value that becomes zero, which may lie outside.
    channel_order: order of the network's input channels: "BGR" (None: this) or "RGB" of three;
        "L", grey, of one: colours become luma; "own" of others, which no image file has.
    scale: factor applied after the means are subtracted; or one a channel, listed as the means are.
    size: of the network's input, pixels: a side, or (height, width).
    resize_filter: "area", "bilinear", "bicubic" or "lanczos"; all of them antialias.
    shown: of "own", the three channels that pictures show as red, green and blue; None: the first.

    Raises ValueError, naming the option and the value received, when a value makes no sense.
    """

    means: tuple[float, ...]
    channel_order: Literal["BGR", "RGB", "L", "own"] = None  # type: ignore[assignment]
    scale: float | tuple[float, ...] = 1.0
    size: int | tuple[int, int] = 100
    resize_filter: str = "bicubic"
    shown: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", _checked_means(self.means))
        orders = _ORDERS.get(self.channels, _OWN)
        if self.channel_order is None:
            object.__setattr__(self, "channel_order", orders[0])
        if self.channel_order not in orders:
            of_channels = f"{' or '.join(orders)} of {self.channels} channels"
            _refuse("channel_order", of_channels, self.channel_order)
        object.__setattr__(self, "scale", _checked_scale(self.scale, self.channels))
        object.__setattr__(self, "size", _checked_size(self.size))
        if self.resize_filter not in _FILTERS:
            _refuse("resize_filter", f"one of {', '.join(_FILTERS)}", self.resize_filter)
        if self.shown is not None:
            object.__setattr__(self, "shown", self._checked_shown())

    @classmethod
    def of_range(cls, low: float, high: float, *, channels: int = 1, **options: Any) -> Self:
        """Returns the record of a network that reads `low` for black and `high` for white.

        channels: as many means, all alike. options: the other fields.
        """
        if not all(map(_is_number, (low, high))) or not math.isfinite(high - low) or low == high:
            _refuse("low and high", "two different numbers", (low, high))
        scale = (high - low) / 255.0
        return cls(means=(-low / scale,) * channels, scale=scale, **options)

    @property
    def height(self) -> int:
        """Pixels."""
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def channels(self) -> int:
        """Number of channels that the network reads."""
        return len(self.means)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image: height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Shape of what `picture` shows of an image."""
        return self.height, self.width, 1 if self.channels == 1 else 3

    @property
    def side(self) -> int:
        """Side of the images, pixels; InputError where they are not square."""
        if not isinstance(self.size, int):
            raise InputError(
                f"this works with square images alone, and the encoder reads {self.height}×"
                f"{self.width} pixels"
            )
        return self.size

    def to_network(self, image: Array | np.ndarray) -> Array:
        """Network-space image, float32 [..., H, W, C], of uint8 [..., H, W, C]."""
        if image.dtype != np.uint8 or not self._has_channels(image):
            wanted = f"uint8 [..., H, W, {self.channels}]"
            _refuse("image", wanted, f"{image.dtype} {list(image.shape)}")
        ordered = self._reorder(jnp.asarray(image).astype(jnp.float32))
        return (ordered - self._means_like(ordered)) * self._scale_like(ordered)

    def to_image(self, x: Array | np.ndarray) -> Array:
        """Image uint8 [..., H, W, C] of a network-space x [..., H, W, C]: rounded, clipped.

        Undoes `to_network` exactly. NaN becomes the mean colour: what a cast would make of it
        differs from platform to platform.
        """
        if not self._has_channels(x):
            _refuse("x", f"[..., H, W, {self.channels}]", list(x.shape))
        x = jnp.asarray(x, jnp.float32)
        values = jnp.where(jnp.isnan(x), 0, x) / self._scale_like(x) + self._means_like(x)
        return self._reorder(jnp.clip(jnp.round(values), 0, 255).astype(jnp.uint8))

    def to_space(self, x: Array, other: "Preprocessing") -> Array:
        """A network-space x [..., H, W, C] of this record in `other`'s space, not rounded."""
        values = self._reorder(x / self._scale_like(x) + self._means_like(x))
        return (other._reorder(values) - other._means_like(x)) * other._scale_like(x)

    @property
    def middle(self) -> tuple[float, ...]:
        """Values about which inversions begin, 0-255 units, listed as the means are.

        The means; but where a channel's mean is no colour that images have on average, below 64 or
        above 191, mid-grey. Of a network that reads colours in grey levels always the means.
        """
        if self.channels == 3 and self.scale == 1.0:
            return self.means
        low, high = _MIDDLE
        return tuple(mean if low <= mean <= high else _MID_GREY for mean in self.means)

    @property
    def in_levels(self) -> bool:
        """Whether network space is in grey levels about `middle` as it is."""
        return self.scale == 1.0 and self.middle == self.means

    def from_levels(self, image: Array) -> Array:
        """Network-space image [..., H, W, C] of one in grey levels about `middle`."""
        return image if self.in_levels else (image + self._offset(image)) * self._scale_like(image)

    def to_levels(self, x: Array) -> Array:
        """Grey levels about `middle` of a network-space x [..., H, W, C], in the network's order.

        Recipes' rates, noise and priors are in these units.
        """
        return x if self.in_levels else x / self._scale_like(x) - self._offset(x)

    def picture(self, images: Any) -> Any:
        """Channels that a picture shows of uint8 images [..., H, W, C]: all, where they are 1 or 3.

        Of others the three that `shown` names; of two channels the first, and the second twice.
        """
        if self.channel_order != "own":
            return images
        return images[..., list(self.shown or (0, 1, min(2, self.channels - 1)))]

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Image uint8 [height, width, C] of one of any size: resized, not cropped.

        image: uint8 [H, W, 3] RGB, or [H, W] or [H, W, 1] grey: colours become luma (Rec. 601, as
        Pillow's mode L) where the encoder reads grey, and grey becomes RGB where it reads colours.
        Of the order "own" [H, W, C]; InputError for colours, as of an image file.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            _refuse("image", "uint8 [H, W, C]", f"{image.dtype} {list(image.shape)}")
        planes = self._with_channels(image if image.ndim == 3 else image[..., None])
        if planes.shape == self.shape:
            return planes.copy()
        if self.channels == 3:
            return self._resized(planes)
        return np.stack([self._resized(plane) for plane in np.moveaxis(planes, -1, 0)], axis=-1)

    def _resized(self, image: np.ndarray) -> np.ndarray:
        source = Image.fromarray(np.ascontiguousarray(image))
        return np.array(source.resize((self.width, self.height), _FILTERS[self.resize_filter]))

    def _with_channels(self, image: np.ndarray) -> np.ndarray:
        """The image [H, W, C] of one of other channels."""
        received = image.shape[-1]
        if received == self.channels:
            return image
        if self.channels == 1 and received == 3:
            grey = Image.fromarray(np.ascontiguousarray(image)).convert("L")
            return np.array(grey)[..., None]
        if self.channels == 3 and received == 1:
            return as_rgb(image)
        if self.channel_order == "own" and received == 3:
            raise InputError(
                f"the encoder reads images of {self.channels} channels in an order of its own, "
                "which no image file has: give arrays"
            )
        _refuse("image", f"uint8 [H, W, {self.channels}]", f"{image.dtype} {list(image.shape)}")

    def resize_all(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """Images uint8 [N, height, width, C] of N images, each of any size."""
        return np.stack([self.resize(image) for image in images])

    def to_json(self) -> dict[str, Any]:
        """The record as plain values, for `json.dumps`."""
        record = dataclasses.asdict(self) | {"means": list(self.means)}
        for name in ("scale", "size", "shown"):
            if isinstance(record[name], tuple):
                record[name] = list(record[name])
        if self.shown is None:  # as records were before there was a choice
            del record["shown"]
        return record

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

    def _has_channels(self, image: Array | np.ndarray) -> bool:
        return image.ndim >= 3 and image.shape[-1] == self.channels

    def _means_like(self, image: Array) -> Array:
        """Means in the network's order, shaped to broadcast over an image [..., C]."""
        return self._like(self.means, image)

    def _scale_like(self, image: Array) -> Any:
        if isinstance(self.scale, tuple):
            return self._like(self.scale, image)
        return jnp.float32(self.scale)

    def _offset(self, image: Array) -> Array:
        pairs = zip(self.middle, self.means, strict=True)
        return self._like(tuple(middle - mean for middle, mean in pairs), image)

    def _like(self, listed: tuple[float, ...], image: Array) -> Array:
        values = listed[::-1] if self.channel_order == "RGB" else listed
        return jnp.asarray(values, jnp.float32).reshape((1,) * (image.ndim - 1) + (self.channels,))

    def _checked_shown(self) -> tuple[int, int, int]:
        given = self.shown
        numbers = tuple(given) if isinstance(given, Iterable) else ()
        allowed = self.channel_order == "own" and len(numbers) == 3
        if not (allowed and all(_is_whole(n) and 0 <= n < self.channels for n in numbers)):
            _refuse("shown", 'three channels of an encoder whose order is "own"', given)
        red, green, blue = numbers
        return red, green, blue


def as_rgb(images: Any) -> Any:
    """Images [..., H, W, 3] of [..., H, W, C]: of one channel three alike, of three as they are."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def channel_means(images: Iterable[np.ndarray]) -> tuple[float, ...]:
    """Mean of each channel over all pixels of a stream of uint8 images [H, W, C], listed as
    `Preprocessing.means` are: blue, green, red of RGB.

    Summed in float64, one image at a time. Raises ValueError when the stream holds no pixel.
    """
    total, pixels = np.zeros(1, np.float64), 0
    for image in images:
        total = total + image.sum(axis=(0, 1), dtype=np.float64)
        pixels += image.shape[0] * image.shape[1]
    if not pixels:
        raise ValueError("channel means need at least one image; received none")
    means = tuple((total / pixels).tolist())
    return means[::-1] if len(means) == 3 else means


def _checked_means(means: Any) -> tuple[float, ...]:
    """Means as a tuple of floats."""
    values = tuple(means) if isinstance(means, Iterable) and not isinstance(means, str) else ()
    if not values or not all(_is_number(v) and math.isfinite(v) for v in values):
        _refuse("means", "a number for each channel (blue, green, red where there are 3)", means)
    return tuple(float(v) for v in values)


def _checked_scale(scale: Any, channels: int) -> float | tuple[float, ...]:
    several = isinstance(scale, Iterable) and not isinstance(scale, str)
    factors = tuple(scale) if several else (scale,)
    usable = all(_is_number(factor) and math.isfinite(factor) and factor for factor in factors)
    if not usable or len(factors) != (channels if several else 1):
        _refuse("scale", "a number other than 0, or one for each channel", scale)
    if not several:
        return scale
    return tuple(map(float, factors)) if len(set(factors)) > 1 else float(factors[0])


def _checked_size(size: Any) -> int | tuple[int, int]:
    """A side, or height and width where they differ."""
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(_is_whole(side) and side >= 1 for side in sides):
        _refuse("size", "a positive whole number of pixels, or (height, width)", size)
    height, width = sides
    return height if height == width else (height, width)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _refuse(name: str, wanted: str, received: Any) -> NoReturn:
    raise ValueError(f"{name} must be {wanted}; received {received!r}")


CUSTOMARY = Preprocessing(means=(104.0, 117.0, 123.0))
"""Where nothing else is known: 100 pixels, BGR, channel means customary for Caffe's networks."""
