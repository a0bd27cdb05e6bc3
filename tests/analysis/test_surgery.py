"""Operations on descriptors against closed forms and NumPy; the heads against SciPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from posenet_jax.analysis import surgery
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import init_params
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.streetnet import Compact
from posenet_jax.errors import InputError
from posenet_jax.report import analysis_plots

UNITS = 24


def draw(count, units=UNITS, seed=0):
    """Descriptors, never below zero; the last two units never fire."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 5)) @ np.random.default_rng(9).normal(size=(5, units))
    found = np.maximum(mixed + 0.5, 0.0).astype(np.float32)
    found[:, -2:] = 0.0
    return found


@pytest.fixture(scope="module")
def encoder():
    """Untrained, with untrained heads."""
    base = weights.random_encoder("compact")
    _, heads = init_params(Compact(512), jax.random.key(0))
    scale = PoseScale(mean=jnp.full(6, 0.1), std=jnp.full(6, 0.3))
    return dataclasses.replace(base, head_params=heads, pose_scale=scale)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_quantising_errs_by_half_a_step_at_most(bits):
    values = draw(200)
    largest = values.max(axis=0)
    found = surgery.quantise(values, largest, bits)
    step = largest / (2**bits - 1)
    assert (np.abs(found - values) <= 0.5 * step * (1 + 1e-5)).all()
    for unit in range(UNITS - 2):
        assert len(np.unique(found[:, unit])) <= 2**bits
    np.testing.assert_array_equal(found[:, -2:], 0.0)
    # Uniform values err by step / √12; what lies above the range is cut.
    uniform = np.linspace(0.0, 1.0, 100_001, dtype=np.float32)[:, None]
    fine = surgery.quantise(uniform, np.ones(1, np.float32), 5) - uniform
    assert fine.std() == pytest.approx(1 / 31 / np.sqrt(12), rel=0.02)
    cut = surgery.quantise(2.0 * largest[None], largest, bits)[0]
    np.testing.assert_allclose(cut, largest, rtol=1e-6)


def test_on_or_off_knows_the_pattern_and_no_more():
    values, fitted = draw(50), draw(300, seed=1)
    found = surgery.on_or_off(values, fitted)
    np.testing.assert_array_equal(found > 0, values > 0)
    for unit in range(UNITS - 2):
        level = fitted[fitted[:, unit] > 0, unit].mean()
        np.testing.assert_allclose(found[values[:, unit] > 0, unit], level, rtol=1e-5)


def test_noise_is_as_long_as_it_says():
    values = draw(400, units=512)
    noise = surgery.add_noise(jax.random.key(0), values, 0.3) - values
    share = np.linalg.norm(noise, axis=1) / np.linalg.norm(values, axis=1)
    # A chi of 512 degrees of freedom: mean 1 nearly, deviation 1 / √1024.
    assert share.mean() == pytest.approx(0.3, rel=0.01)
    assert share.std() == pytest.approx(0.3 / np.sqrt(1024), rel=0.2)
    standard = noise / np.sqrt(np.mean(np.square(values), axis=1, keepdims=True)) / 0.3
    assert standard.mean() == pytest.approx(0.0, abs=0.01)
    np.testing.assert_array_equal(surgery.add_noise(jax.random.key(0), values, 0.0), values)


def test_masks_keep_what_they_say():
    values, fitted = draw(30), draw(300, seed=1)
    order = surgery.best_order(fitted)
    mean = fitted.mean(axis=0)
    assert (np.diff(mean[order]) <= 0).all() and sorted(order) == list(range(UNITS))
    for kept in (1, 7, UNITS):
        found = surgery.mask(values, order, kept)
        np.testing.assert_array_equal(found[:, order[:kept]], values[:, order[:kept]])
        np.testing.assert_array_equal(found[:, order[kept:]], 0.0)
        filled = surgery.mask(values, order, kept, mean)
        rest = np.broadcast_to(mean[order[kept:]], (30, UNITS - kept))
        np.testing.assert_array_equal(filled[:, order[kept:]], rest)
    np.testing.assert_array_equal(surgery.mask(values, order, UNITS), values)


def test_random_units_differ_by_image_and_fire():
    fitted = draw(300)
    orders = surgery.random_orders(jax.random.key(1), fitted, 2000)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.arange(UNITS) + 0 * orders)
    assert set(orders[:, -2:].ravel()) == {UNITS - 2, UNITS - 1}  # those that never do come last
    share = np.bincount(orders[:, 0], minlength=UNITS)[:-2] / 2000
    np.testing.assert_allclose(share, 1 / 22, atol=4 * np.sqrt(1 / 22 / 2000))
    values = draw(2000, seed=2) + 1.0
    kept = surgery.mask(values, orders, 3) != 0
    np.testing.assert_array_equal(kept.sum(axis=1), 3)
    assert kept[7, orders[7, :3]].all()


def test_components_are_those_of_the_singular_values():
    fitted, values = draw(300), draw(40, seed=1)
    found = surgery.fit_components(fitted)
    centred = fitted.astype(np.float64) - fitted.mean(axis=0, dtype=np.float64)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.variance, singular**2 / 299, atol=1e-9)
    for kept in (1, 4, 10):
        axes = right[:kept]
        expected = (values - found.mean) @ axes.T @ axes + found.mean
        np.testing.assert_allclose(surgery.project(values, found, kept), expected, atol=1e-5)
    # Of what they were fitted on they leave out the smallest variances.
    away = surgery.project(fitted, found, 4) - fitted
    left = np.sum(np.square(away, dtype=np.float64)) / 299
    assert left == pytest.approx(found.variance[4:].sum(), rel=1e-4)


@pytest.mark.parametrize("fit", ["components", "random directions"])
def test_keeping_all_is_the_identity(fit):
    fitted, values = draw(300), draw(40, seed=1)
    if fit == "components":
        found = surgery.fit_components(fitted)
    else:
        found = surgery.random_directions(jax.random.key(0), fitted)
        spread = fitted.var(axis=0, ddof=1, dtype=np.float64)
        assert found.variance.sum() == pytest.approx(spread.sum(), rel=1e-5)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(UNITS), atol=1e-9)
    np.testing.assert_allclose(surgery.project(values, found, UNITS), values, atol=1e-5)
    # Nothing kept is the mean.
    mean = np.broadcast_to(fitted.mean(axis=0), values.shape)
    np.testing.assert_allclose(surgery.project(values, found, 0), mean, atol=1e-5)


def test_few_others_have_few_components():
    assert len(surgery.fit_components(draw(7)).axes) == 6
    made = surgery.operations(jax.random.key(0), draw(5), draw(7), kept=(4, 8, 16, 32))
    kept = [(one.operation, one.amount) for one in made]
    assert ("components", 4) in kept and ("components", 8) not in kept
    assert ("best units", 16) in kept and ("best units", 32) not in kept
    with pytest.raises(InputError, match="two images or more"):
        list(surgery.operations(jax.random.key(0), draw(1), draw(7)))


def images_of(units=512, count=40):
    rng = np.random.default_rng(5)
    first, second = draw(count, units, seed=3), draw(count, units, seed=4)
    pose = rng.uniform(-0.5, 0.5, (count, 6)).astype(np.float32)
    return surgery.Images(np.zeros((count, 100, 100, 3), np.uint8), first, second, pose)


def test_measures_are_those_of_numpy_and_scipy(encoder):
    images = images_of()
    operated = images.descriptor + np.float32(0.2)
    found = surgery.measures(encoder, images, operated)
    a, b = (x.astype(np.float64) for x in (operated, images.descriptor))
    norms = [np.linalg.norm(x, axis=1) for x in (a, b)]
    expected = np.linalg.norm(a - b, axis=1) / sum(norms)
    np.testing.assert_allclose(found["relative_loss"], expected, rtol=1e-5)

    def rotations(first):
        said = encoder.heads(jnp.asarray(first), jnp.asarray(images.partner)).pose
        return Rotation.from_euler("YXZ", np.asarray(said, np.float64)[:, :3] * 0.3 + 0.1)

    truth = Rotation.from_euler("YXZ", images.pose[:, :3].astype(np.float64))
    after, before = rotations(operated), rotations(images.descriptor)
    for name, other in (("pose_disagreement", before), ("rotation_error", truth)):
        degrees = np.degrees((after.inv() * other).magnitude())
        np.testing.assert_allclose(found[name], degrees, rtol=1e-3, atol=1e-2)
    same = surgery.measures(encoder, images, images.descriptor)
    np.testing.assert_array_equal(same["relative_loss"], 0.0)
    np.testing.assert_allclose(same["pose_disagreement"], 0.0, atol=1e-3)
    unknown = surgery.measures(encoder, images._replace(pose=None), operated)
    assert list(unknown) == ["relative_loss", "pose_disagreement"]
    headless = dataclasses.replace(encoder, head_params=None)
    assert list(surgery.measures(headless, images, operated)) == ["relative_loss"]


def test_rows_have_controls_and_intervals(encoder, tmp_path):
    images, fitted = images_of(), draw(600, 512, seed=6)
    made = list(surgery.operations(jax.random.key(0), images.descriptor, fitted))
    rows = surgery.table(encoder, images, made)
    assert {row["operation"] for row in rows} == set(surgery.AMOUNTS)
    by = {(row["operation"], row["amount"]): row for row in rows}
    for row in rows:
        assert row["images"] == 40 and row["unit"] == surgery.AMOUNTS[row["operation"]]
        for name in ("relative_loss", "pose_disagreement", "rotation_error"):
            assert row[f"{name}_low"] <= row[name] + 1e-9
            assert row[name] <= row[f"{name}_high"] + 1e-9
    for whole in ("best units", "random units", "components", "random directions"):
        assert by[whole, 512]["relative_loss"] < 1e-5
    # Five numbers are behind these descriptors, but for the ReLU.
    assert (
        by["components", 64]["relative_loss"] < 0.5 * by["random directions", 64]["relative_loss"]
    )
    assert by["quantised", 6]["relative_loss"] < by["quantised", 2]["relative_loss"]
    wrong = np.roll(images.descriptor, 1, axis=0).astype(np.float64)
    own = images.descriptor.astype(np.float64)
    norms = np.linalg.norm(own, axis=1) + np.linalg.norm(wrong, axis=1)
    expected = np.mean(np.linalg.norm(own - wrong, axis=1) / norms)
    assert by["another image", None]["relative_loss"] == pytest.approx(expected, rel=1e-5)
    analysis_plots.surgery_figure(tmp_path / "surgery.png", rows)
    picture = np.asarray(Image.open(tmp_path / "surgery.png").convert("L"))
    assert min(picture.shape) > 400 and (picture > 250).mean() > 0.5


def test_rendered_pairs_that_are_hidden_are_left_out(encoder):
    """A source of noise, whose second pair in three hides its target."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9, 2, 100, 100, 3), dtype=np.uint8)
    angles = np.radians(np.arange(18.0)).reshape(9, 2)
    matrices = Rotation.from_euler("Y", angles.reshape(-1, 1)).as_matrix().reshape(9, 2, 3, 3)
    keys = []

    class Source:
        count = 3

        def __call__(self, key):
            start = 3 * len(keys)
            keys.append(tuple(jax.random.key_data(key).tolist()))
            rows = slice(start, start + 3)
            weight = np.array([1.0, 0.0, 1.0], np.float32)
            rotation, centre = matrices[rows].astype(np.float32), np.zeros((3, 2, 3), np.float32)
            normal = np.zeros((3, 3), np.float32)
            return Pairs(pictures[rows], rotation, centre, normal, weight, weight, weight)

    done = []
    source: surgery.RenderedPairs = Source()  # type: ignore[assignment]
    found = surgery.rendered(encoder, source, key=jax.random.key(0), count=8, progress=done.append)
    assert len(set(keys)) == 3 and done == [3, 3, 2]
    shown = [0, 2, 3, 5, 6]
    np.testing.assert_array_equal(found.image, pictures[shown, 0])
    np.testing.assert_allclose(np.degrees(found.pose[:, 0]), 1.0, rtol=1e-3)
    assert surgery.mean_rotation(found) == pytest.approx(1.0, rel=1e-3)
    tap = encoder.tap("fc5")
    for view, expected in enumerate((found.descriptor, found.partner)):
        inside = encoder.preprocessing.to_network(pictures[shown, view])
        np.testing.assert_allclose(np.asarray(tap(inside)), expected, rtol=1e-3, atol=1e-3)


def test_photographs_have_the_next_for_a_partner(encoder):
    pictures = np.random.default_rng(1).integers(0, 256, (3, 100, 100, 3), dtype=np.uint8)
    found = surgery.photographs(encoder, pictures)
    np.testing.assert_array_equal(found.partner[0], found.descriptor[1])
    assert found.pose is None and surgery.mean_rotation(found) is None


def test_given_images_are_operated_on_and_fitted_on_by_turns(encoder):
    pictures = np.random.default_rng(2).integers(0, 256, (5, 100, 100, 3), dtype=np.uint8)
    operands, fitted = surgery.halves(encoder, pictures)
    np.testing.assert_array_equal(operands.image, pictures[[0, 2, 4]])
    expected = surgery.photographs(encoder, pictures[[1, 3]]).descriptor
    np.testing.assert_array_equal(fitted, expected)
    with pytest.raises(InputError, match="needs four readable images, received 3"):
        surgery.halves(encoder, pictures[:3])
