"""Selection of the TIFF files that Pillow reads right, and the work it leaves undone in some.

TIFF leaves open how many bits a sample has and whether they are signed, whether 0 is black, and
where the planes lie. Pillow takes several combinations for others, and the picture comes out
inverted, dark or garbled. What is let through here is a closed list, held against tifffile by the
tests.
"""

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NAMES = {
    _WHITE_IS_ZERO: "grey with 0 as white",
    _BLACK_IS_ZERO: "grey",
    _RGB: "RGB",
    _PALETTE: "palette",
    _CMYK: "CMYK",
    _YCBCR: "YCbCr",
}
_LAB = (8, 9, 10)
_COLOURS = {_RGB: 3, _CMYK: 4, _YCBCR: 3}  # samples of a pixel; one in the others
_IGNORED, _PREMULTIPLIED, _ALPHA = 0, 1, 2  # values of ExtraSamples
_UNSIGNED, _SIGNED, _FLOATS = 1, 2, {3, 5, 6}  # values of SampleFormat; complex among floats
_LUMA_WEIGHTS, _LUMA_LEVELS = (0.299, 0.587, 0.114), (0, 255, 128, 255, 128, 255)
_RAW, _JPEG = 1, 7
# CCITT, LZW, deflate, PackBits, LZMA, Zstandard; not JPEG's old style.
_COMPRESSIONS = (_RAW, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 34925, 50000)

_ONE_EXTRA = {(), (_IGNORED,), (_PREMULTIPLIED,), (_ALPHA,)}
# (photometric, bits of a sample): what the samples beyond the colour may be.
_READ: dict[tuple[int, int], set[tuple[int, ...]]] = {
    **{(_WHITE_IS_ZERO, bits): {()} for bits in (1, 2, 4, 8, 16)},
    **{(_BLACK_IS_ZERO, bits): {()} for bits in (1, 2, 4, 12, 16)},
    (_BLACK_IS_ZERO, 8): _ONE_EXTRA,
    (_RGB, 8): _ONE_EXTRA | {(first, *rest) for first in range(3) for rest in ((0,), (0, 0))},
    (_RGB, 16): _ONE_EXTRA,
    **{(_PALETTE, bits): {()} for bits in (1, 2, 4)},
    (_PALETTE, 8): {(), (_IGNORED,), (_ALPHA,)},
    (_CMYK, 8): {(), (_IGNORED,), (_IGNORED, _IGNORED)},
    (_CMYK, 16): {()},
    (_YCBCR, 8): {()},
}
_LITTLE_ENDIAN_ONLY = {(_WHITE_IS_ZERO, 16), (_BLACK_IS_ZERO, 12)}
# A plane for each sample. Uncompressed, Pillow unpacks each by one letter of the whole's format.
_RAW_PLANES = {
    (_BLACK_IS_ZERO, 1, ()),
    *((kind, 8, ()) for kind in (_BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK)),
    (_RGB, 8, (_ALPHA,)),
}
_PLANES_WITH_ALPHA = {(_RGB, 8), (_RGB, 16)}
# FillOrder 2: the bits of a byte from the last to the first. Uncompressed, there are fewer.
_RAW_REVERSED = {(kind, bits) for kind in (0, 1) for bits in (1, 2, 4)} | {(1, 8), (2, 8), (3, 8)}
_REVERSED = _RAW_REVERSED | {(_WHITE_IS_ZERO, 8)} | {(_PALETTE, bits) for bits in (1, 2, 4)}
_MOST_SAMPLES = 6  # per pixel
_MOST_TAGS = 65535  # in BigTIFF the count has 64 bits
# Tags read here: their absence has a meaning.
_DECISIVE = {254, 258, 259, 262, 266, 277, 284, 322, 323, 330, 332, 336, 338, 339, 529, 530, 532}


class UnknownMeaning(ValueError):
    """It is not known here what a file's values mean, or Pillow would take them for others."""


class Layout(NamedTuple):
    """How the samples of a file's first page are stored."""

    photometric: int
    bits: int  # per sample
    samples: int  # per pixel
    extra: tuple[int, ...]  # meaning of each sample beyond the colour
    compression: int
    separate: bool  # a plane for each sample
    reversed: bool  # the bits of each byte
    big_endian: bool
    tile_pixels: int  # decoded at once, even beyond the picture's edge; 0: strips

    @property
    def explained(self) -> bool:
        """Whether the file says what each of a pixel's samples is."""
        return self.samples == _COLOURS.get(self.photometric, 1) + len(self.extra)

    def __str__(self) -> str:
        samples = f"{self.samples} samples of {self.bits} bits" if self.samples > 1 else ""
        order = "big-endian" if self.big_endian else "little-endian"
        parts = [
            _NAMES.get(self.photometric, f"photometric interpretation {self.photometric}"),
            samples or f"{self.bits} bits, {order}",
            f"extra samples {self.extra}" if self.extra else "",
            f"compression {self.compression}" if self.compression not in _COMPRESSIONS else "",
            "separate planes" if self.separate else "",
            "reversed bits" if self.reversed else "",
        ]
        return ", ".join(filter(None, parts))


def read_layout(file: BinaryIO) -> Layout | None:
    """The layout of a TIFF file's first page; None where the file is no TIFF.

    Raises UnknownMeaning where Pillow would not read it right. A damaged file raises anything.
    """
    file.seek(0)
    head = file.read(16)
    if not head.startswith(tuple(TiffImagePlugin.PREFIXES)):
        return None
    if head.startswith(b"MM\x00\x2b"):
        raise UnknownMeaning("a kind of TIFF that is not read (BigTIFF, big-endian)")
    tags = _first_page(file, head)
    layout = _layout(tags, big_endian=head.startswith(b"MM"))
    if problem := _problem(layout, tags):
        raise UnknownMeaning(problem)
    return layout


def _first_page(file: BinaryIO, head: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags; ValueError for those that cannot be read: they would count as not given."""
    big = head[2] == 43
    tags = TiffImagePlugin.ImageFileDirectory_v2(head if big else head[:8])
    start, order = tags.next, "<" if head.startswith(b"II") else ">"
    file.seek(start)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    entries = file.read(min(count, _MOST_TAGS) * (20 if big else 12))
    listed = {tag for tag, _ in struct.iter_unpack(f"{order}H{18 if big else 10}s", entries)}
    file.seek(start)
    tags.load(file)
    if lost := sorted((listed & _DECISIVE) - set(tags)):
        raise ValueError(f"TIFF tag {lost[0]} cannot be read")
    return tags


def _layout(tags: Mapping[int, Any], *, big_endian: bool) -> Layout:
    count, bits = tags.get(277, 1), tags.get(258, (1,))
    photometric, extra = tags.get(262, -1), tags.get(338, ())
    compression, separate = tags.get(259, _RAW), tags.get(284, 1) == 2
    planes = separate and compression != _RAW and photometric != _YCBCR
    if planes and count <= _MOST_SAMPLES and not any(extra):
        # Pillow reads no further than the planes that mean something.
        count, extra = count - len(extra), ()
    different = set(bits[:count])
    return Layout(
        photometric,
        different.pop() if len(different) == 1 else 0,
        count,
        extra,
        compression,
        separate,
        tags.get(266, 1) == 2,
        big_endian,
        tags.get(322, 0) * tags.get(323, 0),
    )


def _problem(layout: Layout, tags: TiffImagePlugin.ImageFileDirectory_v2) -> str | None:
    """Reason not to read a file; None if there is none."""
    if layout.photometric == -1:
        return "a TIFF that does not say what its values mean"
    if layout.photometric in _LAB:
        return "Lab values, whose range is not known here"
    if tags.get(254, 0) & 1 and (tags.next or 330 in tags):
        return "a TIFF that begins with a small version of its picture"
    formats = set(tags.get(339, (_UNSIGNED,)))
    kinds = {"whole": {_UNSIGNED}, "signed": {_SIGNED}, "floating point": _FLOATS}
    kind = next((name for name, members in kinds.items() if formats <= members), "undefined")
    deep = " of more than 16 bits" if layout.bits > 16 and kind in ("whole", "signed") else ""
    if kind != "whole" or deep:
        return f"{kind} values{deep}, whose range is not known here"
    if not (_is_read(layout) and _has_usual_colours(layout, tags)):
        return f"a kind of TIFF that is not read ({layout})"
    return None


def _is_read(layout: Layout) -> bool:
    kind, extra = (layout.photometric, layout.bits), layout.extra
    raw = layout.compression == _RAW
    if layout.compression not in _COMPRESSIONS or extra not in _READ.get(kind, ()):
        return False
    if kind in _LITTLE_ENDIAN_ONLY and layout.big_endian:
        return False
    # Four samples where RGB is promised: seen to when the fourth is.
    if not (layout.explained or (layout.photometric, layout.samples, extra) == (_RGB, 4, ())):
        return False
    if layout.reversed and (extra or kind not in (_RAW_REVERSED if raw else _REVERSED)):
        return False
    if layout.separate and raw:
        return (*kind, extra) in _RAW_PLANES and not layout.reversed
    return not layout.separate or not extra or (len(extra) == 1 and kind in _PLANES_WITH_ALPHA)


def _has_usual_colours(layout: Layout, tags: Mapping[int, Any]) -> bool:
    """Whether CMYK is of these inks, and YCbCr whole, in full range and with the usual weights."""
    if layout.photometric == _CMYK:
        most = 2**layout.bits - 1
        return tags.get(332, 1) == 1 and tuple(tags.get(336, (0, most)))[:2] == (0, most)
    if layout.photometric != _YCBCR:
        return True
    if layout.compression == _JPEG:  # the JPEG itself says
        return not layout.separate
    return tuple(tags.get(530, (2, 2))) == (1, 1) and all(
        np.allclose(np.array(tags.get(tag, usual), float), usual, atol=1e-3)
        for tag, usual in ((529, _LUMA_WEIGHTS), (532, _LUMA_LEVELS))
    )


def complete(image: Image.Image, layout: Layout) -> None:
    """Does to a loaded image what Pillow leaves undone; UnknownMeaning where that is not known."""
    if not layout.explained and image.getextrema()[-1] != (255, 255):
        raise UnknownMeaning("a TIFF whose fourth sample may be opacity or not")
    if layout.photometric == _PALETTE:
        # Colours have 16 bits, but old writers gave them 8; libtiff tells them apart likewise.
        colours = np.array(image.tag_v2[320])  # type: ignore[attr-defined]
        if colours.max() < 256:
            image.putpalette(colours.reshape(3, -1).T.astype(np.uint8).tobytes())


def as_8_bits(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Grey uint8 [H, W], 0 as black, of 12- or 16-bit values [H, W] as stored: rounded."""
    most = 2**layout.bits - 1
    grey = ((values.astype(np.uint32) * 510 + most) // (2 * most)).astype(np.uint8)
    return 255 - grey if layout.photometric == _WHITE_IS_ZERO else grey
