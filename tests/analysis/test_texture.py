"""Texture's amount and kind: gratings in closed form, and pictures of many gratings."""

import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.analysis import texture

SIZE = 100


def _grating(octave, direction, amplitude=40.0, phase=0.0):
    """A wave in the middle of an octave, along a direction in quarters of 180°; grey values."""
    cycles, angle = 2.0 ** (octave + 0.5), np.pi * direction / 4
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    wave = np.cos(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return 127.0 + amplitude * wave[..., None]


def _inner(image):
    """[octaves, directions], the means of the cells that do not touch the border."""
    found = np.asarray(texture.amplitudes(jnp.asarray(image, jnp.float32)))
    return found[..., 1:-1, 1:-1].mean(axis=(2, 3))


@pytest.mark.parametrize("octave", texture.OCTAVES)
@pytest.mark.parametrize("direction", range(texture.DIRECTIONS))
def test_a_grating_has_its_amplitude_in_its_own_band(octave, direction):
    """cos³ of 45° is left in the neighbouring directions, nothing across and an octave away."""
    found = _inner(_grating(octave, direction))
    row = texture.OCTAVES.index(octave)
    expected = [40.0 * max(abs(np.cos(np.pi * (d - direction) / 4)), 1e-9) ** 3 for d in range(4)]
    np.testing.assert_allclose(found[row], expected, atol=1.5)
    assert found[1 - row].max() < 2.5


def test_phase_changes_nothing_and_amplitude_is_linear():
    first, moved, double = (
        _inner(_grating(3, 1, amplitude, phase))
        for amplitude, phase in ((40.0, 0.0), (40.0, 2.0), (80.0, 0.0))
    )
    np.testing.assert_allclose(moved, first, atol=1.0)
    np.testing.assert_allclose(double, 2 * first, rtol=1e-4, atol=1e-3)
    assert _inner(np.full((SIZE, SIZE, 1), 90.0)).max() < 1e-3


def _patches(seed, count):
    """Pictures [count, H, W, 3] of 25 cells, each of a grating of its own: kind, amount, phase."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        image = np.zeros((SIZE, SIZE, 1))
        for row, column in np.ndindex(texture.CELLS, texture.CELLS):
            cell = np.s_[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
            drawn = rng.choice(texture.OCTAVES), rng.integers(4), rng.uniform(5, 80)
            image[cell] = _grating(*drawn, rng.uniform(0, 6.3))[cell]
        made.append(np.repeat(image, 3, axis=-1).astype(np.uint8))
    return np.stack(made)


def test_the_choice_goes_by_the_texture_and_not_by_its_place_or_contrast():
    originals = _patches(0, 6)
    twins = np.stack([_patches(1, 6), _patches(2, 6)], axis=1)
    faint = (127 + (originals.astype(float) - 127) / 4).astype(np.uint8)
    moved = np.roll(originals, 2, axis=2)  # the phase of a wave of 4 to 9 pixels is another
    for pictures, least in ((originals, 0.999), (faint, 0.95), (moved, 0.8)):
        found = texture.measures(pictures, originals, twins)
        assert (found["own_texture"] == 1.0).all() and found["texture"].min() > least
    wrong = texture.measures(np.roll(originals, 1, axis=0), originals, twins)
    assert abs(wrong["texture"].mean()) < 0.3
    # A twin's own picture is nearer to the twin; what has the same texture is no twin at all.
    assert texture.measures(twins[:, 0], originals, twins)["own_texture"].max() <= 0.5
    same = np.stack([originals, twins[:, 0]], axis=1)
    assert (texture.measures(originals, originals, same)["own_texture"] == 1.0).all()
    without = texture.measures(originals, originals, originals[:, None])
    assert np.isnan(without["own_texture"]).all()
    alone = texture.measures(originals, originals)
    assert np.isnan(alone["own_texture"]).all()
    np.testing.assert_allclose(alone["texture"], 1.0)


def test_pictures_of_another_texture_choose_by_chance():
    """Twins and original are draws alike, so that a picture of neither has one half."""
    drawn = _patches(3, 100).reshape((25, 4, SIZE, SIZE, 3))
    pictures, originals, twins = drawn[:, 0], drawn[:, 1], drawn[:, 2:]
    found = texture.measures(pictures, originals, twins)["own_texture"]
    assert found.mean() == pytest.approx(texture.CHANCE, abs=0.2)
