"""TIFF files: every combination of tags is read right, or refused in a sentence.

Files are written by tifffile, by Pillow, or byte by byte. The oracle of what samples a file holds
is tifffile; what they mean is written out here from the specification.
"""

import io
import itertools
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiff_writer import DEFLATE, FLOAT, LONG, PACKBITS, RAW, SHORT, SIGNED, UNSIGNED, tiff

from posenet_jax.errors import ImageError
from posenet_jax.images.image_files import decode_image

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {RGB: 3, CMYK: 4, YCBCR: 3, LAB: 3}
IGNORED, PREMULTIPLIED, ALPHA = 0, 1, 2
BACKDROP = 128.0
HEIGHT, WIDTH = 9, 21
WHOLE = {530: (SHORT, [1, 1])}  # YCbCr without subsampling


def draw(rng, bits, photometric, sample_format=UNSIGNED, extra=()) -> np.ndarray:
    """Samples [H, W, N] of the kind's whole range."""
    shape = HEIGHT, WIDTH, COLOURS.get(photometric, 1) + len(extra)
    if sample_format == FLOAT:
        return rng.random(shape)
    if sample_format == SIGNED:
        return rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    samples = rng.integers(0, 2**bits, shape)
    if extra[:1] == (PREMULTIPLIED,):  # no colour is brighter than its opacity
        colour = COLOURS.get(photometric, 1)
        opacity = samples[..., colour, None] / (2**bits - 1)
        samples[..., :colour] = (samples[..., :colour] * opacity).astype(int)
    return samples


def meaning(samples, bits, photometric, extra=(), colours=None) -> np.ndarray:
    """Image float [H, W, 3], 0-255, of unsigned samples [H, W, N]: TIFF 6.0, sections 4 to 21."""
    values = samples * 255.0 / (2**bits - 1)
    first = values[..., :1].repeat(3, axis=-1)
    if photometric == WHITE_IS_ZERO:
        image = 255 - first
    elif photometric == BLACK_IS_ZERO:
        image = first
    elif photometric == RGB:
        image = values[..., :3]
    elif photometric == PALETTE:
        image = colours.T[samples[..., 0]] / 257.0
    elif photometric == CMYK:
        image = (255 - values[..., :3]) * (255 - values[..., 3:4]) / 255
    else:
        luma, blue, red = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
        green = luma - 0.344136 * blue - 0.714136 * red
        image = np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], -1).clip(0, 255)
    kind = extra[0] if extra else IGNORED
    if kind == IGNORED:
        return image
    opacity = values[..., COLOURS.get(photometric, 1), None] / 255
    return image * (1 if kind == PREMULTIPLIED else opacity) + BACKDROP * (1 - opacity)


def held_samples(encoded: bytes, written: np.ndarray, separate: bool) -> np.ndarray:
    """What tifffile finds in the file; what was written where it needs imagecodecs for that."""
    try:
        found = tifffile.imread(io.BytesIO(encoded))
    except NotImplementedError as error:
        assert "imagecodecs" in str(error)
        return written
    if separate:
        return np.moveaxis(found.reshape((-1, HEIGHT, WIDTH)), 0, -1).astype(written.dtype)
    return found.reshape(written.shape).astype(written.dtype)


def outcome(encoded: bytes) -> np.ndarray | str:
    """The image, or the sentence it was refused with."""
    try:
        return decode_image(encoded, "a.tif").astype(float)
    except ImageError as error:
        message = str(error)
        assert message.startswith("a.tif: ") and "; " in message and "\n" not in message
        return message


# What must be read, whatever the byte order, of the plainest layout; a list, not a rule.
READ = {
    *((WHITE_IS_ZERO, bits, ()) for bits in (1, 2, 4, 8)),
    *((BLACK_IS_ZERO, bits, ()) for bits in (1, 2, 4, 8, 16)),
    *((BLACK_IS_ZERO, 8, (kind,)) for kind in range(3)),
    *((RGB, bits, extra) for bits in (8, 16) for extra in ((), (0,), (1,), (2,))),
    *((RGB, 8, extra) for extra in ((0, 0), (1, 0), (2, 0), (0, 0, 0), (1, 0, 0), (2, 0, 0))),
    *((PALETTE, bits, ()) for bits in (1, 2, 4, 8)),
    *((PALETTE, 8, extra) for extra in ((0,), (2,))),
    *((CMYK, 8, extra) for extra in ((), (0,), (0, 0))),
    (CMYK, 16, ()),
    (YCBCR, 8, ()),
}
EXTRAS = [(), (0,), (1,), (2,), (0, 0), (1, 0), (2, 0), (0, 2), (0, 0, 0), (1, 0, 0), (2, 0, 0)]
EXTRAS += [(999,), (0, 0, 0, 0)]


@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR])
def test_every_combination_is_read_right_or_refused(photometric):
    rng = np.random.default_rng(photometric)
    layouts = itertools.cycle([{}, {"rows": 4}, {"tile": 16}])
    read, refused = set(), 0
    for bits, extra, separate, big_endian, reversed_bits, compression in itertools.product(
        (1, 2, 4, 8, 12, 16), EXTRAS, (False, True), (False, True), (False, True), (RAW, DEFLATE)
    ):
        samples = draw(rng, bits, photometric, extra=extra)
        colours = rng.integers(0, 2**16, (3, 2 ** min(bits, 8)))
        encoded = tiff(
            samples,
            bits=bits,
            photometric=photometric,
            extra=extra,
            separate=separate,
            big_endian=big_endian,
            reversed_bits=reversed_bits,
            compression=compression,
            colours=colours if photometric == PALETTE else None,
            tags=WHOLE if photometric == YCBCR else None,
            **next(layouts),
        )
        found = outcome(encoded)
        if isinstance(found, str):
            assert "a kind of TIFF that is not read" in found, found
            refused += 1
            continue
        held = held_samples(encoded, samples, separate)
        expected = meaning(held, bits, photometric, extra, colours)
        # Opacity, palettes and inks are applied to values rounded or cut to 8 bits.
        tolerance = 2.6 if any(extra) or (photometric, bits) == (CMYK, 16) else 1.01
        assert np.abs(found - expected).max() <= tolerance, (bits, extra, separate, big_endian)
        if not (separate or reversed_bits):
            read.add((photometric, bits, extra, big_endian, compression))
    assert refused
    assert read >= {
        (*kind, big_endian, compression)
        for kind in READ
        if kind[0] == photometric
        for big_endian in (False, True)
        for compression in (RAW, DEFLATE)
    }


def test_deep_grey_is_not_taken_for_deeper_or_for_its_negative():
    """12 bits are not the low ones of 16, nor is white black."""
    rng = np.random.default_rng(0)
    for photometric, bits in ((WHITE_IS_ZERO, 16), (BLACK_IS_ZERO, 12), (BLACK_IS_ZERO, 16)):
        samples = draw(rng, bits, photometric)
        for compression in (RAW, DEFLATE, PACKBITS):
            found = outcome(
                tiff(samples, bits=bits, photometric=photometric, compression=compression)
            )
            expected = meaning(samples, bits, photometric)
            np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize("sample_format", [SIGNED, FLOAT, 4, 5])
def test_values_that_are_not_unsigned_are_refused(sample_format):
    rng = np.random.default_rng(0)
    kinds = {SIGNED: "signed", FLOAT: "floating point", 4: "undefined", 5: "floating point"}
    for photometric, bits, big_endian, compression in itertools.product(
        (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR),
        (16, 32, 64) if sample_format == FLOAT else (8, 16, 32),
        (False, True),
        (RAW, DEFLATE),
    ):
        samples = draw(rng, bits, photometric, min(sample_format, FLOAT))
        encoded = tiff(
            samples,
            bits=bits,
            photometric=photometric,
            sample_format=sample_format,
            big_endian=big_endian,
            compression=compression,
        )
        assert f"{kinds[sample_format]} values" in outcome(encoded)


def test_whole_numbers_of_more_than_16_bits_are_refused_however_small():
    samples = np.full((4, 4, 1), 200)
    for big_endian in (False, True):
        encoded = tiff(samples, bits=32, big_endian=big_endian)
        assert "more than 16 bits" in outcome(encoded)


@pytest.mark.parametrize("photometric", [4, LAB, 9, 10, 32803, 32844, 34892])
def test_other_meanings_are_refused(photometric):
    samples = draw(np.random.default_rng(0), 8, photometric)
    assert isinstance(outcome(tiff(samples, photometric=photometric)), str)


@pytest.mark.parametrize(
    ("kind", "tags", "words"),
    [
        ({}, {262: None}, "does not say what its values mean"),
        ({}, {258: (SHORT, [8, 8])}, None),
        ({"photometric": RGB}, {258: (SHORT, [8, 8, 4])}, "not read"),
        ({"photometric": RGB}, {339: (SHORT, [1, 1, 2])}, "undefined"),
        ({}, {259: (SHORT, [6])}, "compression 6"),
        ({"photometric": CMYK}, {332: (SHORT, [2])}, "not read"),
        ({"photometric": CMYK}, {336: (SHORT, [16, 235])}, "not read"),
        ({"photometric": CMYK}, {332: (SHORT, [1]), 336: (SHORT, [0, 255])}, None),
        ({"photometric": YCBCR}, {}, "not read"),  # subsampled, as is the default
        ({"photometric": YCBCR}, {**WHOLE, 532: (LONG, [16, 235, 128, 240, 128, 240])}, "not read"),
        ({"photometric": YCBCR}, {**WHOLE, 529: (LONG, [1, 0, 0])}, "not read"),
        ({"photometric": YCBCR}, {**WHOLE, 532: (LONG, [0, 255, 128, 255, 128, 255])}, None),
        ({}, {254: (LONG, [1]), 330: (LONG, [8])}, "small version"),
        ({}, {254: (LONG, [1])}, None),
    ],
)
def test_tags_that_change_what_values_mean_are_heeded(kind, tags, words):
    samples = draw(np.random.default_rng(1), 8, kind.get("photometric", BLACK_IS_ZERO))
    found = outcome(tiff(samples, **kind, tags=tags))
    if words:
        assert words in found
    else:
        expected = meaning(samples, 8, kind.get("photometric", BLACK_IS_ZERO))
        np.testing.assert_allclose(found, expected, atol=1.01)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("separate", [False, True])
def test_a_fourth_sample_without_a_name_counts_only_where_it_changes_nothing(bits, separate):
    samples = draw(np.random.default_rng(0), bits, RGB, extra=(ALPHA,))
    encoded = tiff(samples, bits=bits, photometric=RGB, separate=separate, compression=DEFLATE)
    assert "may be opacity or not" in outcome(encoded)
    samples[..., 3] = 2**bits - 1
    encoded = tiff(samples, bits=bits, photometric=RGB, separate=separate, compression=DEFLATE)
    np.testing.assert_allclose(outcome(encoded), meaning(samples, bits, RGB), atol=1.01)


def test_a_palette_of_8_bits_is_not_black():
    rng = np.random.default_rng(0)
    samples, colours = draw(rng, 8, PALETTE), rng.integers(0, 256, (3, 256))
    found = outcome(tiff(samples, photometric=PALETTE, colours=colours))
    np.testing.assert_array_equal(found, colours.T[samples[..., 0]])


def test_a_tag_that_cannot_be_read_does_not_count_as_absent():
    """Without its BitsPerSample a picture would be read as one of black and white."""
    encoded = tiff(np.full((40, 30, 3), 200), photometric=RGB)
    entry = encoded.index(b"\x02\x01\x03\x00\x03\x00\x00\x00")  # tag 258, SHORT, three of them
    spoilt = encoded[: entry + 8] + b"\xff\xff\xff\x7f" + encoded[entry + 12 :]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "tag 258 cannot be read" in outcome(spoilt)


# ---- files of other writers


@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", "u4", "i1", "i2", "f2", "f4", "f8", "c8"])
def test_files_of_tifffile(dtype):
    rng = np.random.default_rng(0)
    kinds = {"miniswhite": 0, "minisblack": 1, "rgb": RGB, "separated": CMYK}
    read = 0
    for (name, photometric), order, separate, options in itertools.product(
        kinds.items(),
        "<>",
        (False, True),
        ({}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"tile": (16, 16)}),
    ):
        count = COLOURS.get(photometric, 1)
        if (dtype == "bool" and count > 1) or (separate and count == 1):
            continue
        if "predictor" in options and np.dtype(dtype).kind not in "ui":
            continue
        top = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1
        values = (rng.random((HEIGHT, WIDTH, count)) * top).round().astype(dtype)
        stored = np.moveaxis(values, -1, 0) if separate else values
        stored = stored.squeeze() if count == 1 else stored
        planes = {"planarconfig": "separate" if separate else "contig"} if count > 1 else {}
        file = io.BytesIO()
        with tifffile.TiffWriter(file, byteorder=order, bigtiff=order == "<") as writer:
            writer.write(stored, photometric=name, metadata=None, **planes, **options)
        found = outcome(file.getvalue())
        if isinstance(found, str):
            continue
        held = tifffile.imread(io.BytesIO(file.getvalue()))
        held = np.moveaxis(held, 0, -1) if separate and count > 1 else held
        bits = 1 if dtype == "bool" else 8 * np.dtype(dtype).itemsize
        assert np.dtype(dtype).kind in "bu"
        expected = meaning(held.reshape(values.shape).astype(int), bits, photometric)
        assert np.abs(found - expected).max() <= 2.01, (name, order, separate, options)
        read += 1
    assert read == {"bool": 12, "u1": 48, "u2": 36}.get(dtype, 0)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr"]
)
def test_files_of_pillow(mode):
    y, x = np.mgrid[0:40, 0:56]
    scene = np.stack([4 * x + 10, 5 * y + 5, 2 * x + 2 * y + 9, 4 * x + 20], -1).astype(np.uint8)
    picture = Image.fromarray(scene)
    if mode == "PA":
        picture = picture.quantize(16).convert("PA")
    elif mode != "RGBA":
        picture = picture.convert("LA" if mode == "LA" else "RGB").convert(mode)
    expected = picture.convert("RGBA" if mode in ("LA", "PA", "RGBA") else "RGB")
    if expected.mode == "RGBA":
        grey = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        expected = Image.alpha_composite(grey, expected).convert("RGB")
    compressions = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]
    compressions += ["group3", "group4"] if mode == "1" else []
    for compression in compressions:
        file = io.BytesIO()
        picture.save(file, "TIFF", compression=compression)
        found = outcome(file.getvalue())
        assert np.abs(found - np.asarray(expected)).max() <= (1 if mode == "YCbCr" else 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_tiff_files_compressed_as_jpeg(mode):
    y, x = np.mgrid[0:40, 0:56]
    scene = np.stack([4 * x + 10, 5 * y + 5, 2 * x + 2 * y + 9], -1).astype(np.uint8)
    picture, file = Image.fromarray(scene).convert(mode), io.BytesIO()
    picture.save(file, "TIFF", compression="jpeg", quality=95)
    assert np.abs(outcome(file.getvalue()) - np.asarray(picture.convert("RGB"))).max() <= 8
