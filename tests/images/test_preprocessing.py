"""Image space. Oracles: NumPy written another way, Pillow called directly, closed forms."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from posenet_jax.encoders.bundled_encoders import PRETRAINED
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing, channel_means
from posenet_jax.io.tensors import read_tensors

MEANS = (92.3, 101.7, 118.25)

RECORDS = [
    Preprocessing(means=MEANS),
    Preprocessing(means=MEANS, channel_order="RGB"),
    Preprocessing(means=(104.0, 117.0, 123.0), scale=1 / 255),
    Preprocessing(means=(0.0, 0.0, 255.0), scale=1e-3),
    Preprocessing(means=(127.5, 127.5, 127.5), scale=733.1, channel_order="RGB"),
    Preprocessing(means=MEANS, scale=(1 / 57, 1 / 58, -1 / 59), channel_order="RGB", size=(24, 32)),
]
OTHERS = [
    Preprocessing(means=(110.0,), size=(24, 32)),
    Preprocessing(means=(1.0, 2.0, 3.0, 4.0, 500.0), scale=0.5, shown=(4, 2, 0)),
]


def every_value() -> np.ndarray:
    """uint8 [16, 16, 3] holding each of 0-255 in each channel, differently placed."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    return np.stack([values, values[::-1], values.T], axis=-1)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@partial(jax.jit, static_argnames="record")
def there_and_back(image, record):
    return record.to_image(record.to_network(image))


@pytest.mark.parametrize("record", RECORDS)
def test_the_round_trip_is_exact_for_every_value(record):
    image = every_value()
    eager = record.to_image(record.to_network(image))
    assert eager.dtype == jnp.uint8
    np.testing.assert_array_equal(eager, image)
    np.testing.assert_array_equal(there_and_back(image, record), image)


@pytest.mark.parametrize("record", RECORDS)
def test_network_space_is_scaled_and_mean_subtracted_channel_by_channel(record):
    image = every_value()
    planes = {"R": image[..., 0], "G": image[..., 1], "B": image[..., 2]}
    mean = dict(zip("BGR", record.means, strict=True))
    scale = dict(zip("BGR", np.broadcast_to(record.scale, 3), strict=True))
    expected = [scale[c] * (planes[c].astype(np.float64) - mean[c]) for c in record.channel_order]
    x = record.to_network(image)
    assert x.dtype == jnp.float32
    for channel, plane in enumerate(expected):
        np.testing.assert_allclose(
            x[..., channel], plane, rtol=1e-5, atol=2e-5 * np.max(record.scale)
        )


def test_an_image_of_one_space_is_the_same_in_another():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    one = Preprocessing(means=(10.0, 20.0, 30.0))
    other = Preprocessing(means=(1.0, 2.0, 3.0), channel_order="RGB", scale=0.25)
    moved = one.to_space(one.to_network(image), other)
    np.testing.assert_allclose(moved, other.to_network(image), atol=1e-5)
    back = other.to_space(moved, one)
    np.testing.assert_allclose(back, one.to_network(image), atol=1e-4)


def test_zero_is_the_mean_colour():
    record = Preprocessing(means=(10.0, 20.0, 30.0))
    assert record.to_image(jnp.zeros((1, 1, 3))).ravel().tolist() == [30, 20, 10]


def test_leading_axes_are_converted_image_by_image():
    record, batch = RECORDS[0], noise(2, 3, 8, 9, 3)
    x = record.to_network(batch)
    assert x.shape == batch.shape
    np.testing.assert_array_equal(x[1, 2], record.to_network(batch[1, 2]))
    np.testing.assert_array_equal(record.to_image(x), batch)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(record.to_network))(batch), x)


def test_to_image_rounds_clips_and_gives_nan_the_mean_colour():
    record = Preprocessing(means=(0.0, 0.0, 0.0), channel_order="RGB")
    values = [-np.inf, -3.0, 0.4, 0.6, 1.5, 2.5, 254.6, 255.4, 1e30, np.inf]
    x = jnp.tile(jnp.asarray(values)[None, :, None], (1, 1, 3))
    assert record.to_image(x)[0, :, 0].tolist() == [0, 0, 0, 1, 2, 2, 255, 255, 255, 255]
    grey = dataclasses.replace(record, means=(50.0, 60.0, 70.0))
    assert grey.to_image(jnp.full((1, 1, 3), jnp.nan)).ravel().tolist() == [70, 60, 50]


def test_the_record_is_static_under_jit_and_equal_records_share_a_program():
    traces = []

    @partial(jax.jit, static_argnames="record")
    def convert(image, record):
        traces.append(record)
        return record.to_network(image)

    for means in (MEANS, list(MEANS), np.asarray(MEANS)):
        convert(noise(4, 4, 3), Preprocessing(means=means))
    assert len(traces) == 1
    assert len({Preprocessing(means=MEANS), Preprocessing(means=list(MEANS))}) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", ()),
        ("means", (1.0, 2.0, float("inf"))),
        ("means", (1.0, 2.0, float("nan"))),
        ("means", "123"),
        ("means", 5),
        ("channel_order", "GBR"),
        ("channel_order", "L"),
        ("scale", 0.0),
        ("scale", (1.0, 2.0)),
        ("scale", (1.0, 0.0, 2.0)),
        ("scale", float("inf")),
        ("scale", "1"),
        ("size", 0),
        ("size", 100.0),
        ("size", True),
        ("size", (24, 0)),
        ("size", (24,)),
        ("shown", (0, 1, 2)),
        ("resize_filter", "cubic"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_and_value(name, value):
    with pytest.raises(ValueError) as refusal:
        Preprocessing(**({"means": MEANS} | {name: value}))
    assert name in str(refusal.value) and repr(value) in str(refusal.value)


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        Preprocessing(MEANS)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), noise(4, 4), noise(4, 4, 4)])
def test_to_network_refuses_what_is_no_uint8_rgb_image(image):
    with pytest.raises(ValueError, match="uint8"):
        RECORDS[0].to_network(image)


def test_an_area_resize_by_a_whole_factor_is_the_block_mean():
    image = noise(40, 80, 3)
    resized = Preprocessing(means=MEANS, size=20, resize_filter="area").resize(image)
    means = image.reshape(20, 2, 20, 4, 3).mean(axis=(1, 3))
    assert resized.shape == (20, 20, 3) and resized.dtype == np.uint8
    assert np.abs(resized - means).max() <= 1.0  # Pillow rounds after each of its two passes


@pytest.mark.parametrize("name", ["area", "bilinear", "bicubic", "lanczos"])
def test_resize_agrees_with_pillow_and_keeps_flat_colours_and_the_full_frame(name):
    record = Preprocessing(means=MEANS, size=50, resize_filter=name)
    image = noise(64, 96, 3)
    resampling = {"area": "BOX"}.get(name, name.upper())
    direct = np.asarray(Image.fromarray(image).resize((50, 50), Image.Resampling[resampling]))
    np.testing.assert_array_equal(record.resize(image), direct)
    flat = np.full((640, 33, 3), (7, 130, 255), np.uint8)
    assert (record.resize(flat) == flat[0, 0]).all()
    same = record.resize(direct)
    np.testing.assert_array_equal(same, direct)
    assert not np.shares_memory(same, direct)
    halves = np.zeros((200, 300, 3), np.uint8)
    halves[:, 150:] = 255
    assert record.resize(halves)[:, :24].max() < 60 and record.resize(halves)[:, 26:].min() > 195


def test_resize_antialiases():
    stripes = np.zeros((500, 500, 3), np.uint8)
    stripes[:, ::2] = 255
    resized = Preprocessing(means=MEANS).resize(stripes).astype(int)
    assert abs(resized[5:-5, 5:-5] - 127.5).max() < 40


def test_resize_leaves_an_image_of_the_right_size_alone_and_takes_views_and_single_pixels():
    record = Preprocessing(means=MEANS)
    image = noise(100, 100, 3)
    np.testing.assert_array_equal(record.resize(image), image)
    np.testing.assert_array_equal(record.resize(image[::-1, :, ::-1]), image[::-1, :, ::-1])
    assert (record.resize(image[:1, :1]) == image[0, 0]).all()
    with pytest.raises(ValueError, match="uint8"):
        record.resize(image.astype(np.float32))
    with pytest.raises(ValueError, match="uint8"):
        record.resize(image[:0])


def test_channel_means_weigh_every_pixel_alike_and_stream():
    images = [noise(7, 5, 3, seed=1), noise(30, 40, 3, seed=2), np.full((1, 1, 3), 255, np.uint8)]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64)
    blue, green, red = channel_means(iter(images))
    np.testing.assert_allclose([red, green, blue], pixels.mean(axis=0), rtol=1e-12)
    grey = channel_means(image[..., :1] for image in images)
    np.testing.assert_allclose(grey, pixels[:, :1].mean(axis=0), rtol=1e-12)


def test_channel_means_centre_network_space():
    images = noise(6, 20, 20, 3, seed=3) // np.asarray([1, 2, 3], np.uint8)
    record = Preprocessing(means=channel_means(images))
    np.testing.assert_allclose(record.to_network(images).mean(axis=(0, 1, 2)), 0, atol=1e-3)


def test_channel_means_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        channel_means([])


@pytest.mark.parametrize("record", RECORDS + OTHERS)
def test_the_record_survives_json(record):
    assert Preprocessing.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_records_of_square_colours_are_written_as_ever():
    """They stand in weights files, and tell runs from others."""
    written = json.dumps(Preprocessing(means=MEANS, size=(101, 101)).to_json())
    assert written == (
        '{"means": [92.3, 101.7, 118.25], "channel_order": "BGR", "scale": 1.0, "size": 101,'
        ' "resize_filter": "bicubic"}'
    )
    _, metadata = read_tensors(PRETRAINED / "streetnet.safetensors")
    kept = load_encoder("streetnet").preprocessing
    assert json.dumps(kept.to_json(), sort_keys=True) == metadata["preprocessing"]


# Other numbers of channels, other sizes, other ranges ---------------------------------------------


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 1), (2, 10), (10.0, 0.5)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_range_of_values_is_a_record(low, high, channels):
    record = Preprocessing.of_range(low, high, channels=channels, size=(24, 32))
    image = np.tile(every_value()[..., :1], channels)
    x = record.to_network(image)
    np.testing.assert_allclose(x, low + (high - low) * (image / 255.0), atol=1e-5)
    np.testing.assert_array_equal(record.to_image(x), image)
    assert record.shape == (24, 32, channels) and (record.height, record.width) == record.size
    # Inversions begin with mid-grey, and move by grey levels.
    np.testing.assert_allclose(record.to_levels(x), image - 127.5, atol=1e-3)
    np.testing.assert_allclose(record.from_levels(record.to_levels(x)), x, atol=1e-5)


def test_only_where_the_zero_is_no_colour_do_inversions_begin_elsewhere():
    assert (
        Preprocessing(means=(1.0, 2.0, 3.0)).in_levels and Preprocessing(means=(110.0,)).in_levels
    )
    assert Preprocessing(means=(1.0, 110.0, 3.0), scale=0.1).middle == (127.5, 110.0, 127.5)
    assert not Preprocessing(means=(0.0,)).in_levels


def test_colours_become_pillows_luma_of_the_whole_frame_and_grey_becomes_colours():
    image = noise(37, 51, 3)
    grey = Image.fromarray(image).convert("L")
    expected = np.asarray(grey.resize((32, 24), Image.Resampling.BICUBIC))[..., None]
    for given in (image, np.asarray(grey), np.asarray(grey)[..., None]):
        np.testing.assert_array_equal(OTHERS[0].resize(given), expected)
    colours = Preprocessing(means=MEANS, size=(24, 32)).resize(np.asarray(grey))
    np.testing.assert_array_equal(colours, np.repeat(expected, 3, axis=-1))
    assert OTHERS[0].picture(expected) is expected


def test_channels_of_an_order_of_their_own_are_taken_one_by_one():
    record, image = dataclasses.replace(OTHERS[1], size=(8, 9)), noise(16, 27, 5)
    planes = [Image.fromarray(plane).resize((9, 8)) for plane in np.moveaxis(image, -1, 0)]
    resized = record.resize(image)
    np.testing.assert_array_equal(resized, np.stack([np.asarray(p) for p in planes], axis=-1))
    np.testing.assert_allclose(record.to_network(image), 0.5 * (image - np.array(record.means)))
    np.testing.assert_array_equal(record.picture(image), image[..., [4, 2, 0]])
    two = Preprocessing(means=(1.0, 2.0))
    np.testing.assert_array_equal(two.picture(image[..., :2]), image[..., [0, 1, 1]])
    with pytest.raises(InputError, match="5 channels in an order of its own.*give arrays"):
        record.resize(noise(16, 27, 3))
    with pytest.raises(InputError, match="square images alone, and the encoder reads 8×9"):
        _ = record.side


def test_from_json_refuses_unknown_and_missing_keys():
    with pytest.raises(ValueError, match="sigma"):
        Preprocessing.from_json({"means": MEANS, "sigma": 1})
    with pytest.raises(ValueError, match="means"):
        Preprocessing.from_json({"size": 100})
