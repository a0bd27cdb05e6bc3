"""Files that cannot be read: each refusal names the file, in one sentence that says what to do."""

import os

import numpy as np
import pytest
from image_samples import encoded, noise, png_header, refusal
from PIL import Image

from posenet_jax.errors import ImageError
from posenet_jax.images.image_files import read_image
from posenet_jax.images.image_list import list_images


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(tmp_path, kind, options, part):
    data = encoded(noise(), kind, **options)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: int(part * len(data))])
    message = refusal(path)
    assert "damaged or truncated" in message or "not an image" in message


def test_a_png_with_damaged_content_is_refused(tmp_path):
    data = bytearray(encoded(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "a.png")


def test_damaged_bytes_raise_image_error_or_nothing(tmp_path):
    """Whatever a decoder makes of random damage, nothing but ImageError comes out."""
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"):
        data = np.frombuffer(encoded(noise(), kind), np.uint8)
        for _ in range(25):
            spoilt = data.copy()
            spoilt[rng.integers(0, 400, 6)] = rng.integers(0, 256, 6)
            (tmp_path / "a.png").write_bytes(spoilt.tobytes())
            try:
                assert read_image(tmp_path / "a.png", max_pixels=10**7).dtype == np.uint8
            except ImageError as error:
                assert str(error).startswith(str(tmp_path))


def test_text_named_png_is_refused(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture\n")
    assert "not an image" in refusal(tmp_path / "notes.png")


def test_postscript_named_png_is_not_handed_to_another_program(tmp_path):
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "not an image" in refusal(tmp_path / "a.png")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert "empty" in refusal(tmp_path / "a.jpg")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert "a device or a pipe" in refusal(tmp_path / "a.png")
    assert len(list_images(tmp_path)) == 1


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (path,) = list_images(tmp_path)
    assert "cannot be opened (No such file or directory)" in refusal(path)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "a.jpg")
    assert "cannot be opened" in refusal(tmp_path)


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_an_absurdly_large_image_is_refused_by_its_header(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    assert "too large" in refusal(tmp_path / "bomb.png")


def test_the_pixel_limit_is_inclusive(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise(10, 30), "PNG"))
    assert read_image(tmp_path / "a.png", max_pixels=300).shape == (10, 30, 3)
    assert "30x10" in refusal(tmp_path / "a.png", max_pixels=299)


def test_values_of_unknown_range_are_refused_rather_than_guessed(tmp_path):
    floats = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    (tmp_path / "a.tif").write_bytes(encoded(floats, "TIFF"))
    assert "floating point" in refusal(tmp_path / "a.tif")
    deep = Image.fromarray(np.full((8, 8), 70_000, np.int32))
    (tmp_path / "b.tif").write_bytes(encoded(deep, "TIFF"))
    assert "16 bits" in refusal(tmp_path / "b.tif")
