"""Damaged image files: read, or refused with ImageError; at once, in little memory, in silence.

POSENET_FUZZ=N tries N times as many. Examples are the same in every run.
"""

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_writer import DEFLATE, LONG, PACKBITS, tiff

from posenet_jax.errors import ImageError
from posenet_jax.images.image_files import EXTENSIONS, decode_image

EXAMPLES = 300 * int(os.environ.get("POSENET_FUZZ", "1"))
MAX_PIXELS = 500_000
SECONDS = 5.0
# Pillow's picture, its copies and the array; decoders' own tables.
MEMORY = 40 * MAX_PIXELS + 30 * 2**20

_Y, _X = np.mgrid[0:37, 0:53]
SCENE = np.stack([4 * _X + 10, 5 * _Y + 5, 2 * _X + 2 * _Y + 9, 4 * _X + 20], -1).astype(np.uint8)


def _saved(mode: str, kind: str, **options) -> bytes:
    picture = Image.fromarray(SCENE)
    if mode == "I;16":
        picture = Image.fromarray(SCENE[..., 0].astype(np.uint16) * 257)
    elif mode == "PA":
        picture = picture.quantize(16).convert("PA")
    elif mode != "RGBA":
        picture = picture.convert("LA" if mode == "LA" else "RGB").convert(mode)
    if options.pop("animated", False):
        options |= {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _valid() -> dict[str, bytes]:
    """Files of all formats and modes, by what they are."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description that does not fit into its entry"
    saved = [
        *((mode, "JPEG", {}) for mode in ("L", "RGB", "CMYK")),
        ("RGB", "JPEG", {"progressive": True, "exif": exif}),
        ("RGB", "MPO", {"animated": True}),
        *((mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("P", "PNG", {"transparency": bytes(range(256))}),
        ("RGB", "PNG", {"animated": True, "exif": exif}),
        ("RGB", "WEBP", {"exif": exif}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGBA", "WEBP", {"animated": True}),
        *((mode, "BMP", {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
        ("P", "GIF", {}),
        ("P", "GIF", {"animated": True, "transparency": 3}),
        *((mode, "TIFF", {}) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")),
        ("RGB", "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        ("RGB", "TIFF", {"compression": "jpeg"}),
        ("I;16", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("1", "TIFF", {"compression": "group4"}),
        ("RGB", "TIFF", {"animated": True}),
    ]
    if ".avif" in EXTENSIONS:
        saved += [("RGB", "AVIF", {"exif": exif}), ("RGBA", "AVIF", {}), ("L", "AVIF", {})]
    found = {
        " ".join([kind, mode, *options]): _saved(mode, kind, **options)
        for mode, kind, options in saved
    }
    rgb = SCENE[..., :3].astype(int)
    return found | {
        "TIFF tiles": tiff(rgb, photometric=2, tile=16, compression=DEFLATE),
        "TIFF planes": tiff(rgb, photometric=2, separate=True, compression=PACKBITS),
        "TIFF strips": tiff(rgb[..., :1], photometric=0, rows=5, big_endian=True),
        "TIFF 12 bits": tiff(rgb[..., :1] * 16, bits=12),
    }


VALID = _valid()
NAMES = sorted(VALID)


@st.composite
def damaged(draw) -> tuple[str, bytes]:
    """(what it was, content) of a file cut, and with bits, bytes or numbers overwritten."""
    name = draw(st.sampled_from(NAMES))
    content = bytearray(VALID[name])
    # Half of the damage lies in the headers.
    places = st.integers(0, len(content) - 1) | st.integers(0, min(200, len(content) - 1))
    for _ in range(draw(st.integers(0, 4))):
        place, damage = draw(places), draw(st.sampled_from(["bit", "byte", "number", "copy"]))
        if damage == "bit":
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif damage == "byte":
            content[place] = draw(st.integers(0, 255))
        elif damage == "number":
            order = draw(st.sampled_from(["<", ">"]))
            size, kind = draw(st.sampled_from([(2, "H"), (4, "I")]))
            number = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1]) | st.integers(0, 2**16 - 1))
            number <<= draw(st.sampled_from([0, 8, 16])) if size == 4 else 0
            content[place : place + size] = struct.pack(f"{order}{kind}", number & (2**32 - 1))
        else:
            other = draw(places)
            length = min(draw(st.integers(1, 64)), len(content) - max(place, other))
            content[place : place + length] = content[other : other + length]
    if draw(st.booleans()):
        del content[draw(places) :]
    return name, bytes(content)


def peak_memory() -> int:
    """Bytes; the most since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def read_within_limits(content: bytes) -> np.ndarray | str:
    """The image or the sentence; fails on anything else, on a hang and on much memory."""
    result: list[np.ndarray | BaseException] = []

    def read() -> None:
        try:
            result.append(decode_image(content, "a.img", max_pixels=MAX_PIXELS))
        except BaseException as error:
            result.append(error)

    forget_peak()
    before, start = peak_memory(), time.perf_counter()
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10 * SECONDS)
    assert result, "it hangs"
    assert time.perf_counter() - start < SECONDS
    assert peak_memory() - before < MEMORY + 4 * len(content)
    if isinstance(result[0], np.ndarray):
        image = result[0]
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
        return image
    assert isinstance(result[0], ImageError), repr(result[0])
    message = str(result[0])
    assert message.startswith("a.img: ") and "\n" not in message and "; " in message
    return message


needs_peak = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux tells a process's peak memory"
)


@needs_peak
def test_the_files_to_be_damaged_are_good():
    for name, content in VALID.items():
        image = read_within_limits(content)
        assert not isinstance(image, str), (name, image)
        assert sorted(image.shape) == [3, 37, 53]


@needs_peak
def test_damaged_files_are_read_or_refused_in_silence(capsys):
    """But for libtiff, which writes to the standard error itself, past Python."""
    read = 0

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(damaged())
    def check(case):
        nonlocal read
        read += not isinstance(read_within_limits(case[1]), str)

    check()
    assert 0.05 * EXAMPLES < read < 0.95 * EXAMPLES  # damage that does something, yet not all
    assert capsys.readouterr() == ("", "")


def _tiff_of_size(width: int, height: int, **options) -> bytes:
    tags = {256: (LONG, [width]), 257: (LONG, [height])}
    return tiff(SCENE[..., :3].astype(int), photometric=2, tags=tags, **options)


def _overwritten(content: bytes, place: int, *numbers: bytes) -> bytes:
    damage = b"".join(numbers)
    return content[:place] + damage + content[place + len(damage) :]


def _after(content: bytes, mark: bytes, skip: int, *numbers: bytes) -> bytes:
    return _overwritten(content, content.index(mark) + len(mark) + skip, *numbers)


def _png_of_size(width: int, height: int) -> bytes:
    content = VALID["PNG RGB"]
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


_LARGEST = b"\xff\xff"
ANNOUNCED = {
    "PNG": _png_of_size(2**31 - 1, 2**31 - 1),
    "PNG of many rows": _png_of_size(1, 2**31 - 1),
    "JPEG": _after(VALID["JPEG RGB"], b"\xff\xc0", 3, _LARGEST, _LARGEST),
    "GIF": _overwritten(VALID["GIF P"], 6, _LARGEST, _LARGEST),
    "GIF's picture": _after(VALID["GIF P"], b",\0\0\0\0", 0, _LARGEST, _LARGEST),
    "BMP": _overwritten(VALID["BMP RGB"], 18, *[struct.pack("<I", 2**31 - 1)] * 2),
    "BMP of many colours": _overwritten(VALID["BMP P"], 46, struct.pack("<I", 2**32 - 1)),
    "WebP": _after(VALID["WEBP RGBA animated"], b"VP8X", 8, b"\xff\x3f\0\xff\x3f\0"),
    "TIFF": _tiff_of_size(2**31 - 1, 2**31 - 1),
    "TIFF compressed": _tiff_of_size(2**31 - 1, 2**20, compression=DEFLATE),
    "TIFF tiles": _after(
        VALID["TIFF tiles"], struct.pack("<HHI", 322, LONG, 1), 0, struct.pack("<I", 2**24)
    ),
    "TIFF samples": _after(
        VALID["TIFF strips"], struct.pack(">HHI", 277, 3, 1), 0, struct.pack(">I", 2**32 - 1)
    ),
    "TIFF tags": _after(
        VALID["TIFF strips"], struct.pack(">HHI", 273, LONG, 8)[:4], 0, struct.pack(">I", 2**30)
    ),
}
if ".avif" in EXTENSIONS:
    ANNOUNCED["AVIF"] = _after(VALID["AVIF RGB exif"], b"ispe", 4, struct.pack(">II", 2**14, 2**14))


@needs_peak
@pytest.mark.parametrize("name", sorted(ANNOUNCED))
def test_a_number_in_a_header_costs_no_memory(name, capfd):
    forget_peak()
    before = peak_memory()
    assert isinstance(read_within_limits(ANNOUNCED[name]), str)
    assert peak_memory() - before < 20 * 2**20
    assert capfd.readouterr() == ("", "")
