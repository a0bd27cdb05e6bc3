"""Pillow's limit and warnings while a file is read: silent here, untouched for everyone else."""

import concurrent.futures
import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from posenet_jax.errors import ImageError
from posenet_jax.images import pillow_guard
from posenet_jax.images.image_files import EXTENSIONS, decode_image

KINDS = ["JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
KINDS += ["AVIF"] if ".avif" in EXTENSIONS else []


def encoded(kind: str, **options) -> bytes:
    picture, file = Image.new("RGB", (30, 20), (200, 10, 10)), io.BytesIO()
    more = {"save_all": True, "append_images": [picture]} if kind == "MPO" else {}
    picture.save(file, kind, **more, **options)
    return file.getvalue()


def warn_as_pillow() -> None:
    """A warning as Pillow's modules give them, of this thread."""
    code = compile("import warnings; warnings.warn('odd file')", "pillow.py", "exec")
    exec(code, {"__name__": "PIL.SomePlugin", "__warningregistry__": {}})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [500, 100])  # Pillow warns above it, and refuses above twice it
def test_the_caller_s_limit_is_what_counts_and_pillow_s_is_put_back(monkeypatch, kind, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    content, before = encoded(kind), list(warnings.filters)
    with pytest.raises((Image.DecompressionBombError, Image.DecompressionBombWarning)):
        Image.open(io.BytesIO(content)).load()
    assert decode_image(content, "a", max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="30x20 pixels; the limit is 599 .*raise max_pixels"):
        decode_image(content, "a", max_pixels=599)
    assert Image.MAX_IMAGE_PIXELS == limit and warnings.filters == before


def test_no_limit_is_put_back_as_none(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image(encoded("PNG"), "a", max_pixels=10**12).shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS is None


def animated_by_no_frames(png: bytes) -> bytes:
    body = b"acTL" + bytes(8)
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


# An orientation of 255 letters that lie beyond the block's end.
ODD_EXIF = b"Exif\0\0MM\x00\x2a\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\xff\0\0\x7f\xff\0\0\0\0"


@pytest.mark.parametrize(
    "content",
    [
        lambda: encoded("JPEG", exif=ODD_EXIF),
        lambda: encoded("PNG", exif=ODD_EXIF[6:]),
        lambda: encoded("WEBP", exif=ODD_EXIF),
        lambda: animated_by_no_frames(encoded("PNG")),
    ],
)
def test_odd_files_are_read_without_a_word(content, capfd):
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(content())).getexif()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        decode_image(content(), "a")
    assert not told and capfd.readouterr() == ("", "")


def test_pillow_s_warnings_are_silent_in_the_threads_that_read_and_nowhere_else():
    inside, checked = threading.Event(), threading.Event()
    heard = {}

    def read() -> None:
        with pillow_guard.reading(10):
            warn_as_pillow()
            inside.set()
            checked.wait(10)
            with pillow_guard.reading(10):
                warn_as_pillow()
            warn_as_pillow()
        try:
            warn_as_pillow()
        except UserWarning as error:
            heard["after"] = str(error)

    before = list(warnings.filters)  # of the test session: warnings are errors
    reader = threading.Thread(target=read)
    reader.start()
    inside.wait(10)
    with pytest.raises(UserWarning, match="odd file"):
        warn_as_pillow()
    with pytest.raises(UserWarning, match="not Pillow"):
        warnings.warn("not Pillow's", stacklevel=1)
    checked.set()
    reader.join(10)
    assert heard == {"after": "odd file"}
    assert warnings.filters == before


def test_many_threads_leave_everything_as_it_was(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    before = list(warnings.filters)
    contents = [encoded(kind) for kind in KINDS] + [encoded("JPEG", exif=ODD_EXIF)]

    def read(number: int) -> tuple[int, ...]:
        limit = 600 if number % 3 else 10**9
        return decode_image(contents[number % len(contents)], "a", max_pixels=limit).shape

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(400))) == {(20, 30, 3)}
    assert Image.MAX_IMAGE_PIXELS == 100 and warnings.filters == before


def test_filters_that_another_thread_puts_back_do_not_pile_up():
    with pillow_guard.reading(10):
        kept = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.filters = kept  # as `catch_warnings` of another thread does at its end
        for _ in range(3):
            with pillow_guard.reading(10):
                assert len(warnings.filters) == len(kept)
        assert not any(entry in warnings.filters for entry in pillow_guard._FILTERS)


def test_values_stay_exact_beyond_pillow_s_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(decode_image(file.getvalue(), "a"), pixels)
