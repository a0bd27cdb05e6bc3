"""Image files: finding them, reading whatever a person drops in a folder, naming the results.

Images are uint8, RGB, [H, W, 3]. Colour profiles are ignored: values are taken as stored.
Transparent pixels are laid over mid grey, which is near the zero of network space and so says
least to a network. Of an animation or a multi-page file the first picture counts.
"""

import collections
import concurrent.futures
import glob
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from posenet_jax.errors import ImageError, InputError
from posenet_jax.preprocessing import Preprocessing

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

# By content, not by name. A closed list: Pillow hands some others (PostScript) to other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

# Above any camera, below what exhausts a laptop (360 MB decoded). Pillow's own limit is higher.
MAX_PIXELS = 120_000_000

_BACKDROP = (128, 128, 128, 255)


class ImageSet(NamedTuple):
    """What could be read of a list of files.

    images: uint8 [size, size, 3] each, in the order of the files.
    names: a unique name for each image, for naming results after it.
    failures: one error for each file left out.
    """

    images: list[np.ndarray]
    names: list[str]
    failures: list[ImageError]


def find_images(pattern: str | Path) -> list[Path]:
    """Sorted image files of a folder (searched to its depth), of a glob, or a single file.

    Files are known by their extension; hidden ones are left out. Raises InputError when there is
    nothing under that name, or no image in it.
    """
    path = Path(os.path.expanduser(pattern))
    if path.is_dir():
        found, where = _files_below(path), f"in the folder {shown(path)}"
    elif path.is_file():
        found, where = [path], f"at {shown(path)}"
    elif glob.has_magic(str(path)):
        matches = glob.iglob(str(path), recursive=True)
        found, where = [Path(match) for match in matches], f"for the pattern {shown(path)}"
    else:
        raise InputError(f"{shown(path)}: no such file or folder")
    images = [file for file in found if _looks_like_an_image(file)]
    if not images:
        kinds = ", ".join(extension[1:] for extension in EXTENSIONS)
        raise InputError(f"no images {where}; their names must end in one of {kinds}")
    return sorted(set(images))


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Image uint8 RGB [H, W, 3] of a file, upright, 16-bit values scaled to 8.

    Raises ImageError, which names the file, what is wrong with it and what can be done, for a file
    that is absent, no image, damaged, truncated, or of more than `max_pixels` pixels.
    """
    return _decode(path, path, max_pixels)


def decode_image(encoded: bytes, name: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`read_image` of a file's content; `name` is what an ImageError calls it."""
    return _decode(io.BytesIO(encoded), name, max_pixels)


def _decode(file: str | Path | io.BytesIO, path: str | Path, max_pixels: int) -> np.ndarray:
    try:
        with Image.open(file, formats=_FORMATS) as image:
            _check_size(image, path, max_pixels)
            image.load()
            return _rgb(_upright(image), path)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _failure(path, f"too large ({error})", "make it smaller") from error
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except MemoryError as error:
        raise _failure(path, "too large for this machine's memory", "make it smaller") from error
    # On damaged bytes Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error,
    # ValueError, IndexError.
    except Exception as error:
        raise _unreadable(path, error) from error


def read_images(
    paths: Sequence[Path],
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


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name without extension for each path, no two alike even where case is ignored.

    The stem where that is enough; else with the folders below the common one, then with the
    extension, then with a number.
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
    return _numbered(names)


def shown(path: str | Path) -> str:
    """The path as text that can be printed, also when its bytes are not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


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


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder, hidden folders left out."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{shown(error.filename)}: cannot be listed ({error.strerror})") from error

    files = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names]
    return files


def _looks_like_an_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in EXTENSIONS and not hidden and not path.is_dir()


def _check_size(image: Image.Image, path: str | Path, max_pixels: int) -> None:
    """Refuses by the header, before anything is decoded."""
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height} pixels; the limit is {max_pixels} in all"
        raise _failure(path, f"too large ({size})", "make it smaller")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; a damaged EXIF block says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _rgb(image: Image.Image, path: str | Path) -> np.ndarray:
    """Image uint8 RGB [H, W, 3] of a Pillow image of any mode."""
    if image.mode.startswith("I"):
        return _from_deep_grey(np.asarray(image), path)
    if image.mode in ("F", "LAB"):
        kind = {"F": "floating point", "LAB": "Lab"}[image.mode]
        raise _failure(
            path, f"{kind} values, whose range is not known here", "save it as 8-bit RGB"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKDROP), image)
    return np.array(image.convert("RGB"))


def _from_deep_grey(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Image uint8 [H, W, 3] of 16-bit grey [H, W]: 65535 becomes 255, rounded, nothing clipped."""
    if values.min() < 0 or values.max() > 65535:
        raise _failure(path, "grey values of more than 16 bits", "save it with 8 or 16 bits")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _unidentified(path: str | Path) -> ImageError:
    """Why a file that could be opened is no image."""
    if os.path.exists(path) and os.path.getsize(path) == 0:
        return _failure(path, "an empty file", "copy it again or remove it")
    known = ", ".join(_FORMATS)
    return _failure(path, f"not an image (its content is none of {known})", "convert or remove it")


def _unreadable(path: str | Path, error: Exception) -> ImageError:
    """What a failure of the file system, or else of a decoder, means to a person."""
    if isinstance(error, OSError) and error.strerror:
        return _failure(path, f"cannot be opened ({error.strerror})", "check the path")
    reason = " ".join(str(error).split()) or type(error).__name__
    return _failure(path, f"damaged or truncated ({reason})", "save it again or remove it")


def _failure(path: str | Path, what: str, remedy: str) -> ImageError:
    return ImageError(f"{shown(path)}: {what}; {remedy}")


def png(image: np.ndarray) -> bytes:
    """A PNG file's content, of uint8 RGB [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()
