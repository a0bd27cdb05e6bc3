"""Reading files. Every file is written here, by Pillow or byte by byte; oracles are NumPy."""

import itertools
import struct

import numpy as np
import pytest
from image_samples import encoded, noise, png_of, refusal, scene
from PIL import Image, features

from posenet_jax.images.image_files import EXTENSIONS, read_image, read_images
from posenet_jax.images.image_list import list_images
from posenet_jax.images.preprocessing import Preprocessing

AVIFS = [".avif"] if ".avif" in EXTENSIONS else []
RECORD = Preprocessing(means=(100.0, 110.0, 120.0), size=20)


# ---- formats and modes


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("a.png", "PNG", {}),
        ("a.bmp", "BMP", {}),
        ("a.tif", "TIFF", {"compression": "tiff_lzw"}),
        ("a.webp", "WEBP", {"lossless": True}),
        ("misnamed.jpg", "PNG", {}),
    ],
)
def test_lossless_formats_are_read_exactly(tmp_path, name, kind, options):
    path = tmp_path / name
    path.write_bytes(encoded(noise(), kind, **options))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, noise())


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg_is_read_to_its_quality(tmp_path, options):
    (tmp_path / "a.jpg").write_bytes(encoded(scene(), "JPEG", quality=95, **options))
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - scene()).max() <= 6


def test_lossy_webp_is_read_to_its_quality(tmp_path):
    (tmp_path / "a.webp").write_bytes(encoded(scene(), "WEBP", quality=95))
    assert np.abs(read_image(tmp_path / "a.webp").astype(int) - scene()).mean() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_grey_becomes_three_equal_channels(tmp_path, kind):
    grey = scene()[..., 0]
    (tmp_path / "a.png").write_bytes(encoded(grey, kind))
    image = read_image(tmp_path / "a.png")
    assert image.shape == (48, 64, 3)
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - grey).max() <= (4 if kind == "JPEG" else 0)


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = noise()[..., 0] > 127
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(bits), "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_is_looked_up(tmp_path, kind):
    colours = np.asarray([[0, 0, 0], [250, 10, 20], [3, 200, 99], [255, 255, 255]], np.uint8)
    indices = noise()[..., 0] % 4
    picture = Image.fromarray(indices).convert("L")
    picture.putpalette(colours.ravel().tolist())
    (tmp_path / "a.png").write_bytes(encoded(picture, kind))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours[indices])


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_mid_grey(tmp_path, kind):
    indices = noise()[..., 0] % 3
    picture = Image.fromarray(indices).convert("L")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    (tmp_path / "a.png").write_bytes(encoded(picture, kind, transparency=1))
    colours = np.asarray([[255, 0, 0], [128, 128, 128], [0, 0, 255]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours[indices])


def test_partly_transparent_palette_entries_are_mixed_with_mid_grey(tmp_path):
    picture = Image.fromarray(np.asarray([[0, 1]], np.uint8)).convert("L")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    (tmp_path / "a.png").write_bytes(encoded(picture, "PNG", transparency=bytes([51, 255])))
    expected = [[0.2 * 255 + 0.8 * 128, 0.8 * 128, 0.8 * 128], [0, 255, 0]]
    assert np.abs(read_image(tmp_path / "a.png")[0] - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA")])
def test_alpha_is_laid_over_mid_grey(tmp_path, kind, mode):
    colours, alpha = noise(), noise()[::-1, :, 0]
    if mode == "LA":
        colours = np.repeat(colours[..., :1], 3, axis=-1)
    picture = Image.fromarray(np.dstack([colours, alpha])).convert(mode)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    (tmp_path / "a.png").write_bytes(encoded(picture, kind, **options))
    weight = alpha[..., None] / 255
    plain = np.asarray(picture.convert("RGBA"))[..., :3]
    expected = weight * plain + (1 - weight) * 128
    assert np.abs(read_image(tmp_path / "a.png") - expected).max() <= 1


def test_a_colour_key_of_a_png_without_alpha_is_transparent_too(tmp_path):
    image = np.asarray([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    (tmp_path / "a.png").write_bytes(encoded(image, "PNG", transparency=(10, 20, 30)))
    assert read_image(tmp_path / "a.png").tolist() == [[[128] * 3, [40, 50, 60]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_by_257_and_not_clipped(tmp_path, kind):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    (tmp_path / "a.tiff").write_bytes(encoded(Image.fromarray(values), kind))
    image = read_image(tmp_path / "a.tiff")
    np.testing.assert_array_equal(image[..., 0], np.rint(values / 257.0))
    assert (image == image[..., :1]).all()


def test_big_endian_sixteen_bit_tiff(tmp_path):
    values = (np.arange(64, dtype=np.uint32) * 1040).astype(">u2").reshape(8, 8)
    tags = [
        (256, 8),
        (257, 8),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 0),
        (277, 1),
        (278, 8),
        (279, 128),
    ]
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack(">HHII", tag, 4, 1, offset if tag == 273 else value) for tag, value in tags
    )
    head = b"MM\x00\x2a" + struct.pack(">IH", 8, len(tags)) + entries + struct.pack(">I", 0)
    (tmp_path / "a.tif").write_bytes(head + values.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 2], np.rint(values / 257.0))


@pytest.mark.parametrize("colour_type", [0, 2, 3, 4, 6])
def test_every_kind_of_png_is_read_right(tmp_path, colour_type):
    """Colour types, depths and transparent colours, against values packed here."""
    rng = np.random.default_rng(colour_type)
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for depth, keyed in itertools.product(depths[colour_type], (False, True)):
        if keyed and colour_type > 3:
            continue
        samples = rng.integers(0, 2**depth, (13, 21, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]))
        values, key = samples * 255 / (2**depth - 1), samples[3, 4]
        image, opacity = values[..., :3] if colour_type in (2, 6) else values[..., [0, 0, 0]], 1.0
        extra = {b"tRNS": key.astype(">u2").tobytes()} if keyed else {}
        if colour_type == 3:
            colours, opacities = rng.integers(0, 256, (2**depth, 3)), rng.integers(0, 256, 2**depth)
            extra = {b"PLTE": colours.astype(np.uint8).tobytes()}
            extra |= {b"tRNS": opacities.astype(np.uint8).tobytes()} if keyed else {}
            image = colours[samples[..., 0]]
            opacity = opacities[samples[..., 0], None] / 255 if keyed else 1.0
        elif keyed:
            opacity = (samples != key).any(axis=-1, keepdims=True)
        elif colour_type > 3:
            opacity = values[..., -1:] / 255
        (tmp_path / "a.png").write_bytes(png_of(samples, depth, colour_type, extra))
        if keyed and (colour_type, depth) == (2, 16):
            assert "16-bit colours of which one is transparent" in refusal(tmp_path / "a.png")
            continue
        expected = image * opacity + 128 * (1 - opacity)
        # Colours of 16 bits lose their low byte, and so does their opacity.
        low_bytes = (colour_type == 2) + 2.01 * (colour_type > 3) if depth == 16 else 0.0
        tolerance = max(0.51, low_bytes)
        assert np.abs(read_image(tmp_path / "a.png") - expected).max() <= tolerance, depth


def test_cmyk_jpeg_has_the_colours_it_prints(tmp_path):
    inks = np.zeros((32, 32, 4), np.uint8)
    inks[:, :16, 0] = 255  # cyan only
    inks[:, 16:, 3] = 255  # black only
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95))
    image = read_image(tmp_path / "a.jpg").astype(int)
    assert np.abs(image[:, :12] - [0, 255, 255]).max() <= 8
    assert image[:, 20:].max() <= 8


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "TIFF", *(kind[1:].upper() for kind in AVIFS)]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, kind, orientation):
    upright = scene(40, 64)
    # What a camera stores so that the orientation's turn shows `upright` (EXIF 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossy = kind in ("JPEG", "AVIF")
    options = {"quality": 95} if lossy else {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(np.ascontiguousarray(stored), kind, exif=exif, **options))
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= (8 if lossy else 0)


def test_damaged_exif_does_not_spoil_a_good_picture(tmp_path):
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0" + b"MM\x00\x2a\xff\xff\xff\xff garbage")
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg").shape == scene().shape


@pytest.mark.parametrize(
    ("kind", "name"),
    [("GIF", "a.gif"), ("PNG", "a.apng"), ("WEBP", "a.webp"), ("TIFF", "a.tif"), ("MPO", "a.mpo")],
)
def test_the_first_picture_of_an_animation_counts(tmp_path, kind, name):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    (tmp_path / name).write_bytes(data)
    (image,), _, _ = read_images(list_images(tmp_path), RECORD)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= (2 if kind == "MPO" else 0)


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.MPO", "a.apng", *(f"a{x}" for x in AVIFS)])
def test_rarer_extensions_are_listed_and_read(tmp_path, name):
    kind = {"apng": "PNG", "avif": "AVIF"}.get(name.split(".")[-1], "JPEG")
    (tmp_path / name).write_bytes(encoded(scene(), kind, quality=95))
    ((image,), names, failures) = read_images(list_images(tmp_path), RECORD)
    assert names == ["a"] and not failures
    assert np.abs(image.astype(int) - RECORD.resize(scene())).max() <= 8


def test_avif_is_listed_where_pillow_decodes_it_and_else_counted(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.avif").touch()
    found = list_images(tmp_path)
    decodes = "avif" in features.modules and features.check("avif")
    assert len(found) == 1 + decodes
    assert found.left_out.kinds == ({} if decodes else {".avif": 1})


# ---- many files


def test_reading_goes_on_after_a_failure_in_the_files_order(tmp_path):
    for i in range(12):
        flat = np.full((30 + i, 40, 3), 20 * i, np.uint8)
        (tmp_path / f"{i:02d}.png").write_bytes(encoded(flat, "PNG"))
    (tmp_path / "03.png").write_text("text")
    (tmp_path / "07.png").write_bytes(b"")
    images, names, failures = read_images(list_images(tmp_path), RECORD, threads=4)
    left = [i for i in range(12) if i not in (3, 7)]
    assert names == [f"{i:02d}" for i in left]
    assert [image.shape for image in images] == [(20, 20, 3)] * 10
    assert [int(image[0, 0, 0]) for image in images] == [20 * i for i in left]
    assert [str(failure).split(":")[0] for failure in failures] == [
        str(tmp_path / "03.png"),
        str(tmp_path / "07.png"),
    ]


def test_reading_nothing_gives_nothing():
    assert read_images([], RECORD) == ([], [], [])


def test_images_are_resized_as_the_record_says(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise(), "PNG"))
    (image,), _, _ = read_images([tmp_path / "a.png"], RECORD)
    np.testing.assert_array_equal(image, RECORD.resize(noise()))


def test_photographs(photos):
    paths = list_images(photos, limit=8)
    images, names, failures = read_images(paths, RECORD)
    assert names == [path.stem for path in paths] and not failures
    for path, image in zip(paths, images, strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(image, RECORD.resize(np.asarray(picture.convert("RGB"))))
