"""Reading of image files of any supported format (`read_image`), and names for their results.

Images are uint8, RGB, [H, W, 3]. Colour profiles are ignored: values are taken as stored. Values of
16 bits are rounded to 8 in grey images; in colour ones their low byte is left out. Transparent
pixels are laid over mid grey, which is near the zero of network space and so says least to a
network. Of an animation or a multi-page file the first picture counts.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import itertools
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from posenet_jax.errors import ImageError, shown
from posenet_jax.images import pillow_guard, tiff_files
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage

# By content, not by name. A closed list: Pillow hands some others (PostScript) to other programs.
# AVIF came with Pillow 11.3, and may be left out of a build.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF") + (
    ("AVIF",) if "avif" in features.modules and features.check("avif") else ()
)

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng"),
    *(".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *((".avif",) if "AVIF" in _FORMATS else ()),
)

# Above most cameras, below what exhausts a laptop (360 MB decoded).
MAX_PIXELS = 120_000_000

_BACKDROP = (128, 128, 128, 255)

# By EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageSet(NamedTuple):
    """Images that could be read of a list of files, and the errors of the others.

    images: uint8 [height, width, C] each, in the order of the files.
    names: a unique name for each image, for naming results after it.
    failures: one error for each file left out.
    """

    images: list[np.ndarray]
    names: list[str]
    failures: list[ImageError]


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Image uint8 RGB [H, W, 3] of a file, upright, 16-bit values scaled to 8.

    Raises ImageError, which names the file, what is wrong with it and what can be done, for a file
    that is absent, no image, damaged, truncated, of values whose meaning is not known, or of more
    than `max_pixels` pixels.
    """
    if storage.is_bucket(path):
        return _decode(bucket_content(path), path, max_pixels)
    return _decode(path, path, max_pixels)


def bucket_content(path: str | Path) -> bytes:
    """Content of an image's file in a bucket.

    Raises ImageError where there is none, Unreachable where the bucket does not say.
    """
    try:
        return storage.content(storage.path(path))
    except FileNotFoundError as error:
        raise _unreadable(path, error) from error
    except storage.Unanswered as error:
        raise storage.unreachable(error) from error


def decode_image(encoded: bytes, name: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`read_image` of a file's content; `name` is what an ImageError calls it."""
    return _decode(encoded, name, max_pixels)


def is_plain_jpeg(encoded: bytes) -> bool:
    """Whether every decoder makes of a file that can be read what `decode_image` does.

    Such a JPEG has three channels, is upright, and holds one picture.
    """
    content = io.BytesIO(encoded)
    with pillow_guard.reading(sys.maxsize), Image.open(content, formats=_FORMATS) as image:
        return (image.format, image.mode) == ("JPEG", "RGB") and _orientation(image) == 1


def _decode(file: str | Path | bytes, path: str | Path, max_pixels: int) -> np.ndarray:
    try:
        with _opened(file) as stream, pillow_guard.reading(max_pixels):
            layout = tiff_files.read_layout(stream)
            stream.seek(0)
            with Image.open(stream, formats=_FORMATS) as image:
                _check_size(image, layout, path, max_pixels)
                image.load()
                if layout:
                    tiff_files.complete(image, layout)
                elif image.format == "PNG":
                    _complete_png(image, stream)
                return _rgb(_upright(image), path, layout)
    except ImageError:
        raise
    except tiff_files.UnknownMeaning as error:
        raise _failure(path, str(error), "save it as 8-bit RGB") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error)) from error
    except UnidentifiedImageError as error:
        raise _unidentified(file, path) from error
    except MemoryError as error:
        raise _failure(path, "too large for this machine's memory", "make it smaller") from error
    # On damaged bytes Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error,
    # ValueError, IndexError.
    except Exception as error:
        raise _unreadable(path, error) from error


@contextlib.contextmanager
def _opened(file: str | Path | bytes) -> Iterator[BinaryIO]:
    """The file's content; nothing that would wait for another program to write it."""
    if isinstance(file, bytes):
        yield io.BytesIO(file)
        return
    if os.path.exists(file) and not os.path.isfile(file) and not os.path.isdir(file):
        raise _failure(file, "a device or a pipe, not a file", "copy its content to a file")
    with open(file, "rb") as stream:
        yield stream


def read_images(
    paths: Collection[Path],
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
) -> ImageSet:
    """All files that can be read, resized as `preprocessing` says; the others as failures.

    Decoding runs in `threads` threads (one a core, at most eight, when None); the order of the
    files is kept. A file's name does not depend on whether others fail.
    """

    def read(path: Path) -> np.ndarray | ImageError:
        try:
            return preprocessing.resize(read_image(path, max_pixels=max_pixels))
        except ImageError as error:
            return error

    workers = threads or min(8, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(read, paths))
    result = ImageSet([], [], [])
    for name, outcome in zip(unique_names(paths), outcomes, strict=True):
        if isinstance(outcome, ImageError):
            result.failures.append(outcome)
        else:
            result.images.append(outcome)
            result.names.append(name)
    return result


def unique_names(paths: Collection[Path]) -> list[str]:
    """A file name without extension for each path, no two alike even where case is ignored.

    The stem where that is enough; else with the folders below the common one, then with the
    extension, then with a number. No more than 200 bytes: a file system takes 255, with what is
    added to them. Of a longer one the beginning, and a digest of the whole.
    """
    if not paths:
        return []
    top = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    below = [shown(os.path.relpath(path, top)).replace(os.sep, "-") for path in paths]
    names = [shown(path.stem) for path in paths]
    for longer in ([os.path.splitext(name)[0] for name in below], below):
        counts = collections.Counter(name.casefold() for name in names)
        names = [
            long.replace(".", "_") if counts[name.casefold()] > 1 else name
            for name, long in zip(names, longer, strict=True)
        ]
    return _numbered([_bounded(name) for name in names])


def _bounded(name: str, longest: int = 200) -> str:
    encoded = name.encode()
    if len(encoded) <= longest:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: longest - 9].decode(errors='ignore')}-{digest}"


def _numbered(names: list[str]) -> list[str]:
    """The names, with -2, -3, ... after those that were there already."""
    taken: set[str] = set()
    result = []
    for name in names:
        numbers = (f"{name}-{number}" for number in itertools.count(2))
        free = next(n for n in itertools.chain([name], numbers) if n.casefold() not in taken)
        taken.add(free.casefold())
        result.append(free)
    return result


def _check_size(
    image: Image.Image, layout: tiff_files.Layout | None, path: str | Path, max_pixels: int
) -> None:
    """Refuses by the header, before anything is decoded."""
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height} pixels; the limit is {max_pixels} in all"
        raise _too_large(path, size)
    if layout and layout.tile_pixels > max_pixels:
        raise _too_large(path, f"tiles of {layout.tile_pixels} pixels; the limit is {max_pixels}")


def _complete_png(image: Image.Image, stream: BinaryIO) -> None:
    """Pillow leaves the transparent colour of a PNG in the file's bits, not in the image's."""
    key = image.info.get("transparency")
    if key is None or image.mode == "P":
        return
    stream.seek(24)
    depth = stream.read(1)[0]
    if depth == 16 and image.mode == "RGB":
        raise tiff_files.UnknownMeaning("16-bit colours of which one is transparent")
    if depth in (2, 4):
        image.info["transparency"] = (key % 2**depth) * 255 // (2**depth - 1)


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1, upright, where a damaged block says nothing."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    method = _TURNS.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image, path: str | Path, layout: tiff_files.Layout | None) -> np.ndarray:
    """Image uint8 RGB [H, W, 3] of a Pillow image of any mode."""
    if image.mode.startswith("I"):
        return _from_deep_grey(image, path, layout)
    if image.mode in ("F", "LAB"):
        kind = {"F": "floating point", "LAB": "Lab"}[image.mode]
        raise _failure(
            path, f"{kind} values, whose range is not known here", "save it as 8-bit RGB"
        )
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKDROP), image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _from_deep_grey(
    image: Image.Image, path: str | Path, layout: tiff_files.Layout | None
) -> np.ndarray:
    """Image uint8 [H, W, 3] of grey values of 12 or 16 bits: rounded, nothing clipped."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise _failure(path, "grey values of more than 16 bits", "save it with 8 or 16 bits")
    grey = tiff_files.as_8_bits(values, layout) if layout else _rounded(values)
    if (key := image.info.get("transparency")) is not None:
        grey = np.where(values == key, np.uint8(_BACKDROP[0]), grey)
    return np.repeat(grey[..., None], 3, axis=-1)


def _rounded(values: np.ndarray) -> np.ndarray:
    """65535 becomes 255, the rest in proportion."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _unidentified(file: str | Path | bytes, path: str | Path) -> ImageError:
    """Why a file that could be opened is no image."""
    if not (len(file) if isinstance(file, bytes) else os.path.getsize(file)):
        return _failure(path, "an empty file", "copy it again or remove it")
    known = ", ".join(_FORMATS)
    return _failure(path, f"not an image (its content is none of {known})", "convert or remove it")


def _unreadable(path: str | Path, error: Exception) -> ImageError:
    """Explains a failure of the file system, or else of a decoder, in plain words."""
    if isinstance(error, OSError) and error.strerror:
        return _failure(path, f"cannot be opened ({error.strerror})", "check the path")
    reason = " ".join(str(error).split()) or type(error).__name__
    return _failure(path, f"damaged or truncated ({reason})", "save it again or remove it")


def _too_large(path: str | Path, reason: str) -> ImageError:
    return _failure(path, f"too large ({reason})", "make it smaller or raise max_pixels")


def _failure(path: str | Path, what: str, remedy: str) -> ImageError:
    return ImageError(f"{shown(path)}: {what}; {remedy}")
