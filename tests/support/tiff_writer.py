"""TIFF files of any kind, byte by byte: what tifffile and Pillow do not write, they may still read.

Tags are those of the specification (TIFF 6.0).
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

SHORT, LONG = 3, 4
RAW, DEFLATE, PACKBITS = 1, 8, 32773
UNSIGNED, SIGNED, FLOAT = 1, 2, 3

_STRIPS, _TILES = (273, 279), (324, 325)  # offsets, byte counts
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def tiff(
    samples: np.ndarray,
    *,
    bits: int = 8,
    photometric: int = 1,
    sample_format: int = UNSIGNED,
    extra: tuple[int, ...] = (),
    separate: bool = False,
    big_endian: bool = False,
    reversed_bits: bool = False,
    compression: int = RAW,
    rows: int = 0,
    tile: int = 0,
    colours: np.ndarray | None = None,
    tags: Mapping[int, tuple[int, list[int]] | None] | None = None,
) -> bytes:
    """A file of samples [H, W, N]; in strips of `rows`, or square tiles. `tags`: further ones."""
    height, width, count = samples.shape
    order = ">" if big_endian else "<"
    planes = np.split(samples, count, axis=2) if separate else [samples]
    parts = [part for plane in planes for part in _parts(plane, rows, tile)]
    stored = [
        _stored(part, bits, sample_format, order, compression, reversed_bits) for part in parts
    ]
    where, sizes = _TILES if tile else _STRIPS
    directory: dict[int, Any] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * count),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        266: (SHORT, [2]) if reversed_bits else None,
        277: (SHORT, [count]),
        278: None if tile else (LONG, [rows or height]),
        284: (SHORT, [2 if separate else 1]),
        320: None if colours is None else (SHORT, colours.ravel().tolist()),
        322: (LONG, [tile]) if tile else None,
        323: (LONG, [tile]) if tile else None,
        338: (SHORT, list(extra)) if extra else None,
        339: (SHORT, [sample_format] * count),
        sizes: (LONG, [len(part) for part in stored]),
        where: (LONG, [0] * len(stored)),
    }
    directory |= tags or {}
    return _file(order, {tag: value for tag, value in directory.items() if value}, where, stored)


def _parts(plane: np.ndarray, rows: int, tile: int) -> Iterator[np.ndarray]:
    """Strips, or tiles filled up with zeros, [rows, values]."""
    height, width, count = plane.shape
    if not tile:
        for top in range(0, height, rows or height):
            strip = plane[top : top + (rows or height)]
            yield strip.reshape(len(strip), -1)
        return
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = plane[top : top + tile, left : left + tile]
            filled = np.zeros((tile, tile, count), plane.dtype)
            filled[: part.shape[0], : part.shape[1]] = part
            yield filled.reshape(tile, -1)


def _stored(values, bits, sample_format, order, compression, reversed_bits) -> bytes:
    if bits in (8, 16, 32, 64):
        kind = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}.get(sample_format, "u")
        content = values.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:  # the first bit is the highest, whatever the byte order; rows begin at whole bytes
        each = (values[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
        content = np.packbits(each.astype(np.uint8).reshape(len(values), -1), axis=-1).tobytes()
    if compression == DEFLATE:
        content = zlib.compress(content)
    elif compression == PACKBITS:  # literal runs alone
        runs = [content[start : start + 128] for start in range(0, len(content), 128)]
        content = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return content.translate(_REVERSED) if reversed_bits else content


def _file(order: str, directory: dict[int, Any], where: int, stored: list[bytes]) -> bytes:
    """Header, directory, values that do not fit into it, parts; everything at even offsets."""
    formats = {SHORT: "H", LONG: "I"}

    def packed(tag: int) -> bytes:
        kind, values = directory[tag]
        return struct.pack(f"{order}{len(values)}{formats[kind]}", *values)

    beyond = 8 + 2 + 12 * len(directory) + 4
    long_values = sum(_even(len(packed(tag))) for tag in directory if len(packed(tag)) > 4)
    offsets = np.cumsum([beyond + long_values, *(_even(len(part)) for part in stored)]).tolist()
    directory[where] = (LONG, offsets[:-1])
    entries, values = b"", b""
    for tag in sorted(directory):
        content = packed(tag)
        kind, items = directory[tag]
        entries += struct.pack(f"{order}HHI", tag, kind, len(items))
        if len(content) > 4:
            entries += struct.pack(f"{order}I", beyond + len(values))
            values += content.ljust(_even(len(content)), b"\0")
        else:
            entries += content.ljust(4, b"\0")
    head = (b"MM\0\x2a" if order == ">" else b"II\x2a\0") + struct.pack(f"{order}I", 8)
    count, last = struct.pack(f"{order}H", len(directory)), struct.pack(f"{order}I", 0)
    body = b"".join(part.ljust(_even(len(part)), b"\0") for part in stored)
    return head + count + entries + last + values + body


def _even(length: int) -> int:
    return length + length % 2
