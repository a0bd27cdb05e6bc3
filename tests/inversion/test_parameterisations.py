"""Parameterisations against NumPy's transforms and SciPy; inverted, in slots, alone and added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, parameterisations, recipes
from posenet_jax.inversion.job_queues import Job
from posenet_jax.inversion.parameterisations import PARAMETERISATIONS, Parameterisation

KEY = jax.random.key(7)
SIDE = 16
SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=SIDE)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, SIDE * SIDE * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (4, SIDE, SIDE, 3)).astype(np.float32)
FEW = recipes.CALIBRATED.replace(steps=12)
OTHERS = ["fourier", "pyramid"]


def phi(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


TARGETS = np.stack([np.asarray(phi(image)) for image in IMAGES])


def invert(recipe, targets=TARGETS, **options):
    return engine.invert(phi, targets, key=KEY, recipe=recipe, space=SPACE, **options)


@pytest.mark.parametrize("name", PARAMETERISATIONS)
@pytest.mark.parametrize(
    "shape", [(16, 16, 3), (15, 15, 3), (4, 4, 3), (1, 1, 3), (12, 17, 1), (17, 12, 5)]
)
def test_the_image_of_an_images_parameters_is_that_image(name, shape):
    image = RNG.normal(0, 50, shape).astype(np.float32)
    of, size = PARAMETERISATIONS[name], parameterisations.size_of(image)
    np.testing.assert_allclose(of.image(of.parameters(image), size), image, atol=1e-3)


@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_parameters_that_move_by_one_grey_level_move_the_image_by_as_much(name):
    """Signs at random, as Adam's first steps have them."""
    of = PARAMETERISATIONS[name]
    shapes = jax.eval_shape(of.parameters, jax.ShapeDtypeStruct((64, 64, 3), jnp.float32))
    signs = jax.tree.map(lambda x: np.float32(RNG.choice([-1, 1], x.shape)), shapes)
    moved = np.sqrt(np.mean(np.square(of.image(signs, 64))))
    assert 0.5 < moved < 2.0


def test_fourier_is_numpys_transform_of_decorrelated_colours():
    waves = RNG.normal(0, 10, (2, SIDE, SIDE // 2 + 1, 3))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    amplitude = 1.0 / np.maximum(frequency, 1.0 / SIDE)
    whole = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
    amplitude /= np.sqrt(np.mean(1.0 / np.maximum(whole, 1.0 / SIDE) ** 2))
    scaled = (waves[0] + 1j * waves[1]) * amplitude[..., None]
    planes = np.stack([np.fft.irfft2(scaled[..., c], (SIDE, SIDE)) * SIDE for c in range(3)], -1)
    # Grey from the first plane alone, in every channel the same; no grey from the others.
    found = np.asarray(PARAMETERISATIONS["fourier"].image(jnp.float32(waves), SIDE))
    np.testing.assert_allclose(
        found.mean(-1), planes[..., 0] / np.sqrt(3) * 0.462 * np.sqrt(3 / 0.233417), rtol=1e-3,
        atol=1e-3,
    )  # fmt: skip
    reds = (found[..., 0] - found[..., 2]) / np.sqrt(2)
    expected = planes[..., 1] * 0.127 * np.sqrt(3 / 0.233417)
    np.testing.assert_allclose(reds, expected, rtol=1e-3, atol=1e-3)
    greens = (found[..., 0] - 2 * found[..., 1] + found[..., 2]) / np.sqrt(6)
    expected = planes[..., 2] * 0.062 * np.sqrt(3 / 0.233417)
    np.testing.assert_allclose(greens, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(12, 17, 1), (17, 12, 5)])
def test_waves_of_other_channels_are_numpys_each_by_itself(shape):
    height, width, channels = shape
    waves = RNG.normal(0, 10, (2, height, width // 2 + 1, channels))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    amplitude = 1.0 / np.maximum(frequency, 1.0 / 17)
    amplitude = amplitude[:, : width // 2 + 1] / np.sqrt(np.mean(amplitude**2))
    scaled = (waves[0] + 1j * waves[1]) * amplitude[..., None]
    expected = np.fft.irfft2(scaled, (height, width), axes=(0, 1)) * np.sqrt(height * width)
    found = PARAMETERISATIONS["fourier"].image(jnp.float32(waves), (height, width))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sides, channels", [((16, 16), 3), ((16, 24), 1)])
def test_a_pyramids_levels_are_scipys_bilinear_enlargements(sides, channels):
    shapes = [(sides[0] // part, sides[1] // part, channels) for part in (1, 2, 4)]
    levels = [RNG.normal(0, 10, shape).astype(np.float32) for shape in shapes]
    found = PARAMETERISATIONS["pyramid"].image(levels, sides)
    expected = sum(
        ndimage.zoom(np.float64(level), (16 / len(level),) * 2 + (1,), order=1, mode="nearest",
                     grid_mode=True)
        for level in levels
    )  # fmt: skip
    np.testing.assert_allclose(found, expected / np.sqrt(3), atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 11, 1)])
@pytest.mark.parametrize("name", OTHERS)
def test_gradients_match_finite_differences(name, shape):
    of, small = PARAMETERISATIONS[name], shape[:2]
    weights = RNG.normal(size=shape).astype(np.float32)
    parameters = of.parameters(RNG.normal(0, 5, shape).astype(np.float32))

    def value(parameters):
        return jnp.sum(jnp.asarray(weights) * jnp.tanh(0.1 * of.image(parameters, small)))

    direction = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), parameters)
    moved = [
        value(jax.tree.map(lambda x, d, h=h: x + h * d, parameters, direction))
        for h in (0.02, -0.02)
    ]
    gradient = jax.grad(value)(parameters)
    expected = (float(moved[0]) - float(moved[1])) / 0.04
    found = sum(
        float(jnp.vdot(a, b))
        for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert found == pytest.approx(expected, rel=1e-2)


# In the engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_inversions_reach_their_targets_and_report_the_image(name):
    recipe = FEW.replace(parameterisation=name, steps=200, priors={}, learning_rate=4.0)
    result = invert(recipe)
    assert np.all(result.relative_loss < 0.05), result.relative_loss
    found = np.stack([np.asarray(phi(image)) for image in result.image])
    errors = np.linalg.norm(found - TARGETS, axis=1) / np.linalg.norm(TARGETS, axis=1)
    np.testing.assert_allclose(result.descriptor_error, errors, rtol=1e-2)


@pytest.mark.parametrize("name", OTHERS)
def test_the_first_image_is_that_of_pixels(name):
    once = [invert(FEW.replace(parameterisation=one, steps=1)).image for one in ("pixels", name)]
    np.testing.assert_allclose(once[0], once[1], atol=1e-3)


@pytest.mark.parametrize("name", OTHERS)
def test_a_job_does_not_depend_on_its_neighbours(name):
    recipe = FEW.replace(parameterisation=name)
    alone, among = (invert(recipe, targets, slots=2) for targets in (
        TARGETS, np.concatenate([TARGETS[:2], 100 * TARGETS[2:]])
    ))  # fmt: skip
    np.testing.assert_array_equal(alone.image[:2], among.image[:2])
    jobs = [Job(i, target, number=i) for i, target in enumerate(TARGETS)]

    def run(jobs):
        done = engine.run(phi, jobs, key=KEY, recipe=recipe, space=SPACE, slots=2)
        return {one.index: one.image.tobytes() for one in done}

    assert run(jobs[2:]).items() <= run(jobs).items()


def test_ones_own_is_a_record_of_two_functions():
    """Grey pictures: Adam moves one plane. The first image's noise is where it begins."""
    grey = Parameterisation(
        parameters=lambda image: {"plane": image[..., 0]},
        image=lambda parameters, side: jnp.repeat(parameters["plane"][..., None], 3, -1),
    )
    found = invert(FEW.replace(parameterisation=grey, steps=80)).image
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    assert np.std(found) > 1.0


def test_what_cannot_be_is_refused_and_names_are_recorded(tmp_path):
    with pytest.raises(ValueError, match="pixels, fourier, pyramid, received 'waves'"):
        recipes.Recipe(parameterisation="waves")
    with pytest.raises(ValueError, match="clipping sets pixels to zero"):
        recipes.PAPER.replace(parameterisation="fourier")
    own = Parameterisation(lambda image: image, lambda parameters, side: parameters)
    with pytest.raises(InputError, match="own parameterisation has no name that a file could hold"):
        recipes.record(FEW.replace(parameterisation=own))
    assert recipes.record(FEW.replace(parameterisation="fourier"))["parameterisation"] == "fourier"
    assert "parameterisation" not in recipes.record(FEW)
    assert parameterisations.of("pixels").parameters(1) == 1
