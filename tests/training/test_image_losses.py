"""What generated images are compared with originals by, against NumPy, SciPy and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import get_window
from scipy.stats import norm

from posenet_jax.errors import InputError
from posenet_jax.training import image_losses


def test_the_error_of_a_mean_over_draws_is_without_bias():
    """Averaged over all pairs, or triples, of draws that there are: exactly that of the mean."""
    rng = np.random.default_rng(0)
    possible, wanted = rng.normal(size=(4, 6)), rng.normal(size=6)
    truth = np.mean((possible.mean(axis=0) - wanted) ** 2)
    for draws in (2, 3):
        tuples = np.stack(np.meshgrid(*[np.arange(4)] * draws), -1).reshape((-1, draws))
        made = jnp.asarray(possible[tuples], jnp.float32)
        errors = jax.vmap(lambda m: image_losses.mean_error(m, jnp.asarray(wanted)))(made)
        assert float(errors.mean()) == pytest.approx(truth, rel=1e-5)
    one = image_losses.mean_error(jnp.asarray(possible[:1]), jnp.asarray(wanted))
    assert float(one) == pytest.approx(np.mean((possible[0] - wanted) ** 2), rel=1e-5)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_the_energy_score_is_least_where_draws_spread_as_originals_do(spread):
    """Normal draws and originals, against the closed form of the CRPS's mean, by quadrature.

    For draws N(0, s²) and an original y it is s (z (2Φ(z) - 1) + 2φ(z) - 1/√π), z = y / s (Gneiting
    & Raftery 2007, eq. 21).
    """
    originals, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def closed(scale):
        z = originals / scale
        bracket = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)
        return float(np.sum(weights * scale * bracket))

    assert closed(1.0) < min(closed(0.8), closed(1.2))
    levels = norm.ppf((np.arange(400) + 0.5) / 400)
    drawn = spread * np.random.default_rng(0).permuted(np.tile(levels, (3, 40, 1)), axis=-1)
    wanted = np.broadcast_to(originals[:, None], drawn.shape[1:])
    scores = [
        float(image_losses.energy_score(*(jnp.asarray(x[..., None]) for x in pair)))
        for pair in ((drawn[:, row], wanted[row]) for row in range(40))
    ]
    assert np.sum(weights * scores) == pytest.approx(closed(spread), abs=0.02 * spread)
    single = image_losses.energy_score(jnp.asarray([[3.0, 4.0]]), jnp.zeros(2))
    assert float(single) == pytest.approx(5.0, rel=1e-5)


def test_images_are_compared_in_pixels_and_in_means_of_blocks():
    rng = np.random.default_rng(0)
    made, wanted = rng.uniform(size=(3, 2, 100, 100, 3)), rng.uniform(size=(2, 100, 100, 3))
    expected = []
    for side in (1, 5, 20):
        a, b = (
            x.reshape((*x.shape[:-3], 100 // side, side, 100 // side, side, 3)).mean((-4, -2))
            for x in (made, wanted)
        )
        pairs = [np.linalg.norm(a[i] - a[j], axis=-1).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
        expected.append(np.linalg.norm(a - b, axis=-1).mean() - np.mean(pairs) / 2)
    found = image_losses.image_energy(jnp.asarray(made), jnp.asarray(wanted))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-4)


def test_spectra_show_lines_and_sizes():
    """White noise, half as large, and with a wave of 20 cycles an image along the rows.

    Power of the noise is its variance by the sum of the window's squares; of the wave at its
    frequency half its amplitude by the window's sum, squared, and a quarter at the two beside it.
    """
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(8, 100, 100, 3)).astype(np.float32)
    half = image_losses.spectrum_error(jnp.asarray(0.5 * wanted[None]), jnp.asarray(wanted))
    assert float(half) == pytest.approx(np.log(4.0) ** 2, rel=1e-4)
    amplitude, window = 0.5, get_window("hann", 100)
    wave = amplitude * np.cos(2 * np.pi * 20 * np.arange(100) / 100)
    made = jnp.asarray((wanted + wave[:, None].astype(np.float32))[None])
    noise = np.sum(window**2) / 3  # grey values are means of three channels
    added = (amplitude / 2 * window.sum()) ** 2 * np.array([0.25, 1.0, 0.25])
    expected = np.sum(np.log(1 + added / noise) ** 2) / 100  # 50 frequencies of rows, of columns
    found = image_losses.spectrum_error(made, jnp.asarray(wanted))
    assert float(found) == pytest.approx(expected, rel=0.05)
    parts = made.reshape((1, 2, 4, *made.shape[2:])), wanted.reshape((2, 4, *wanted.shape[1:]))
    shared = jax.vmap(
        lambda m, w: image_losses.spectrum_error(m, w, "devices"), (1, 0), axis_name="devices"
    )(parts[0], jnp.asarray(parts[1]))
    np.testing.assert_allclose(shared, float(found), rtol=1e-4)


def test_a_pattern_in_all_images_is_measured_without_bias():
    """Averaged over all pairs, or triples, of images that there are: exactly that of the mean."""
    rng = np.random.default_rng(0)
    possible, wanted = rng.normal(size=(3, 2, 6, 5, 3)), rng.normal(size=(6, 5, 3))  # 3 of 2 draws
    expected = []
    for axis in (-3, -2):
        a, b = np.diff(possible, axis=axis), np.diff(wanted, axis=axis)
        for one, other in ((a, b), (np.abs(a), np.abs(b))):
            off = one.mean(axis=(0, 1)) - other
            expected.append(np.mean(off**2) / np.mean(other**2))
    for count in (2, 3):
        rows = np.array(list(itertools.product(range(3), repeat=count)))
        made = jnp.asarray(np.moveaxis(possible[rows], 2, 1), jnp.float32)
        same = jnp.broadcast_to(jnp.asarray(wanted, jnp.float32), (count, *wanted.shape))
        found = jax.vmap(lambda m, w=same: image_losses.pattern_error(m, w))(made)
        assert float(found.mean()) == pytest.approx(np.mean(expected), rel=1e-4)


def test_what_differs_between_images_is_no_pattern():
    """Marks in one place count by their energy's share; the same marks in other places do not."""
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(64, 40, 40, 1)).astype(np.float32)
    mark = np.zeros((40, 40, 1), np.float32)
    mark[::4, ::4] = 2.0
    fixed = wanted + mark
    moved = np.stack(
        [x + np.roll(mark, rng.integers(0, 4, 2), (0, 1)) for x in wanted], dtype=np.float32
    )
    one, other, none = (
        float(image_losses.pattern_error(jnp.asarray(x[None]), jnp.asarray(wanted)))
        for x in (fixed, moved, wanted)
    )
    # Signed differences: two of every sixteen have a mark's energy, 4, beside the noise's, 2.
    signed = (2 * 4 / 16) / 2
    assert signed / 2 < one < 2 * signed
    assert abs(other) < 0.1 * one and none == 0.0


def test_devices_share_a_batchs_pattern():
    rng = np.random.default_rng(0)
    made, wanted = rng.normal(size=(2, 8, 9, 9, 3)), rng.normal(size=(8, 9, 9, 3))
    whole = image_losses.pattern_error(jnp.asarray(made), jnp.asarray(wanted))
    shared = jax.vmap(
        lambda m, w: image_losses.pattern_error(m, w, "devices"), (1, 0), axis_name="devices"
    )(jnp.asarray(made.reshape((2, 2, 4, 9, 9, 3))), jnp.asarray(wanted.reshape((2, 4, 9, 9, 3))))
    np.testing.assert_allclose(shared, float(whole), rtol=1e-4)
    with pytest.raises(InputError, match="batches of two or more"):
        image_losses.pattern_error(jnp.asarray(made[:, :1]), jnp.asarray(wanted[:1]))
