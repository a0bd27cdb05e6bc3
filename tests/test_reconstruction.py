"""Images through an encoder and back: controls and ranks against plain loops."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from posenet_jax import metrics, reconstruction
from posenet_jax.data.loading import LoadedImages
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.evaluation import measures
from posenet_jax.inversion import recipes

pytestmark = pytest.mark.optimised


def _pictures(count, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 10, 10, 3))
    return coarse.repeat(10, 1).repeat(10, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def originals():
    return _pictures(3, 0)


RECIPE = recipes.CALIBRATED.replace(steps=30)


@pytest.fixture(scope="module")
def made(originals):
    encoder = weights.random_encoder("compact")
    key = jax.random.key(0)
    return reconstruction.reconstruct(encoder, "conv3", originals, key=key, recipe=RECIPE)


def test_correlations_are_the_metric_pair_by_pair(originals):
    pictures = _pictures(3, 1)
    matrix = metrics.luminance_correlations(pictures, originals)
    expected = [[metrics.luminance_correlation(p, o) for o in originals] for p in pictures]
    np.testing.assert_allclose(matrix, expected, atol=1e-5)


def test_relative_losses_are_equation_3_pair_by_pair():
    targets = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    matrix = metrics.relative_losses(targets)
    expected = [[metrics.relative_loss(a, b) for b in targets] for a in targets]
    np.testing.assert_allclose(matrix, expected, atol=1e-5)


def test_descriptors_do_not_depend_on_how_many_are_encoded_together(originals):
    encoder = weights.random_encoder("compact")
    many = np.concatenate([originals] * 22)  # 66: more than one batch
    together = encoder.tap("fc5").describe(many)
    read = encoder.preprocessing.to_network(originals)
    apart = jax.jit(lambda tap, x: tap(x))(encoder.tap("fc5"), read)
    assert together.shape == (66, 512)
    np.testing.assert_allclose(together[63:], apart, rtol=1e-4, atol=1e-3)
    with pytest.raises(InputError, match="reads 100×100 pixels; the images are 90×100"):
        encoder.tap("fc5").describe(many[:, :90])


def test_the_picture_is_encoded_anew(made, originals):
    encoder = weights.random_encoder("compact")
    tap = encoder.tap("conv3")
    target = tap(encoder.preprocessing.to_network(originals[1]))
    again = tap(encoder.preprocessing.to_network(made.image[1]))
    expected = float(metrics.relative_loss(again, target))
    assert made.picture_relative_loss[1] == pytest.approx(expected, rel=1e-3)
    assert made.image.dtype == np.uint8


def test_controls_leave_the_image_itself_out(made, originals):
    matrix = np.asarray(metrics.luminance_correlations(made.image, originals))
    expected = [np.mean(np.delete(row, i)) for i, row in enumerate(matrix)]
    np.testing.assert_allclose(made.other_luminance_correlation, expected, atol=1e-5)
    assert np.all(made.other_relative_loss > made.result.relative_loss)
    ranks = [1 + np.sum(np.delete(row, i) > row[i]) for i, row in enumerate(matrix)]
    np.testing.assert_array_equal(made.luminance_rank, ranks)
    assert np.isnan(measures.other_mean(np.ones((1, 1)))).all()


def test_the_table_has_one_row_an_image(made):
    rows = reconstruction.table(made, ["a", "b", "c"], layer="conv3")
    assert [row["image"] for row in rows] == ["a", "b", "c"]
    assert rows[2]["relative_loss"] == pytest.approx(made.result.relative_loss[2])
    assert rows[0]["status"] in ("converged", "out of steps") and rows[0]["steps"] == 30


def test_spectral_deviations_are_of_picture_and_original(made, originals):
    for found, pictures in (
        (made.spectral_deviation, made.image),
        (made.original_spectral_deviation, originals),
    ):
        expected = [metrics.spectral_deviation(picture) for picture in pictures]
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_methods_are_the_decoders_and_then_inversion(made, originals, monkeypatch):
    drawn = np.stack([_pictures(3, seed) for seed in (7, 8)])
    monkeypatch.setattr(reconstruction, "draws", lambda *arguments, count: drawn[:count])
    encoder = weights.random_encoder("compact")
    loaded = LoadedImages(originals, ["a", "b", "c"], ["a", "b", "c"], [0, 1, 2], [])
    targets = encoder.tap("conv3").describe(originals)
    given = {"key": jax.random.key(0), "decoders": [SimpleNamespace(name="mine")], "count": 2}
    arguments = encoder, "conv3", loaded, targets
    done = []
    methods = reconstruction.by_methods(*arguments, **given, recipe=RECIPE, progress=done.append)
    assert list(methods) == ["mine", "inversion"] and sum(done) == 3 * 30
    np.testing.assert_array_equal(methods["mine"].draws, drawn)
    assert methods["mine"].figures is None
    np.testing.assert_array_equal(methods["inversion"].pictures, made.image)
    assert methods["inversion"].figures == reconstruction.figures(made)
    assert list(reconstruction.by_methods(*arguments, **given)) == ["mine"]
