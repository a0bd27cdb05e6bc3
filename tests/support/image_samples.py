"""Pictures for tests, the bytes of their files (by Pillow, or PNG byte by byte), and refusals."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from posenet_jax.errors import ImageError
from posenet_jax.images.image_files import read_image


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth uint8 RGB [H, W, 3], different in every corner and channel: kind to JPEG."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([200 * x + 20, 220 * y + 10, 150 * (1 - x) * y + 60], axis=-1).astype(np.uint8)


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_chunks({b"IHDR": header, b"IDAT": zlib.compress(b"\0")})


def png_of(samples: np.ndarray, depth: int, colour_type: int, extra: dict[bytes, bytes]) -> bytes:
    """A PNG of samples [H, W, N]; without filters."""
    height, width, _ = samples.shape
    if depth == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        bits = (samples.reshape(height, -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.astype(np.uint8).reshape(height, -1), axis=-1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return png_chunks({b"IHDR": header, **extra, b"IDAT": zlib.compress(lines)})


def png_chunks(chunks: dict[bytes, bytes]) -> bytes:
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (chunks | {b"IEND": b""}).items()
    )
    return b"\x89PNG\r\n\x1a\n" + body


def refusal(path, **options) -> str:
    """The message for a file that must be refused: names it, one sentence, says what to do."""
    with pytest.raises(ImageError) as error:
        read_image(path, **options)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "; " in message
    return message
