"""Directions that a descriptor sees most and least: NumPy's decomposition is the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

import posenet_jax
from posenet_jax.analysis import extremes
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing

SIDE = 10
SPACE = Preprocessing(means=(128.0, 120.0, 110.0), size=SIDE)
FIRST = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, 20)).astype(np.float32)
SECOND = np.random.default_rng(1).normal(size=(20, 7)).astype(np.float32)


def small(image):
    """A curved function of 7 + 2 numbers; one is silent, and one follows from two others."""
    own = jnp.tanh(image.ravel() @ FIRST / 500.0) @ SECOND
    return {"own": own, "silent": jnp.stack([0.0 * image[0, 0, 0], 0.3 * own[0] + 0.7 * own[1]])}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def jacobians(images):
    """[2, 9, 300] in 64 bits."""
    points = SPACE.to_network(images)
    parts = jax.vmap(jax.jacobian(small))(points)
    return np.concatenate(
        [np.asarray(parts[name], np.float64).reshape((2, -1, 300)) for name in ("own", "silent")], 1
    )


@pytest.fixture(scope="module")
def changes():
    return np.random.default_rng(3).normal(size=(2, 2, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def found(images, changes):
    return posenet_jax.extreme_directions(
        small, images, key=jax.random.key(0), count=3, changes=changes, space=SPACE
    )


def same_up_to_sign(directions, wanted):
    products = np.abs(np.sum(directions.reshape(len(wanted), -1) * wanted, axis=1))
    np.testing.assert_allclose(products, 1.0, atol=1e-5)


def test_directions_are_numpys_singular_vectors(found, jacobians):
    assert found.rank.tolist() == [7, 7] and found.converged.all()
    for i, matrix in enumerate(jacobians):
        _, gains, right = np.linalg.svd(matrix, full_matrices=False)
        np.testing.assert_allclose(found.gains[i, :7], gains[:7], rtol=1e-5)
        assert (found.gains[i, 7:] < 1e-6 * gains[0]).all()
        same_up_to_sign(found.most[i], right[:3])
        same_up_to_sign(found.least[i], right[6:3:-1])
        assert found.smallest[i] == pytest.approx(gains[6], rel=1e-5)
        fractions = gains[:7] / gains[:7].sum()
        entropy = -np.sum(fractions * np.log(fractions))
        assert found.effective_rank[i] == pytest.approx(np.exp(entropy), rel=1e-3)
    assert (found.most.max((2, 3, 4)) >= -found.most.min((2, 3, 4))).all()


def test_without_the_jacobian_the_first_ones_are_the_same(found, images):
    made = posenet_jax.extreme_directions(
        small, images, key=jax.random.key(0), count=2, space=SPACE, exact=5
    )
    assert made.converged.all() and made.rank is None and made.least is None
    assert np.isnan(made.smallest).all()
    np.testing.assert_allclose(made.gains, found.gains[:, :2], rtol=1e-4)
    np.testing.assert_allclose(made.norm, found.norm, rtol=1e-5)
    products = np.sum(made.most * found.most[:, :2], axis=(2, 3, 4))
    np.testing.assert_allclose(products, 1.0, atol=1e-4)
    early = posenet_jax.extreme_directions(
        small, images, key=jax.random.key(0), count=2, space=SPACE, exact=5, tolerance=1e-12
    )
    assert not early.converged.any()


def test_unseen_directions_are_unseen_and_the_smoothest(found, jacobians, changes):
    for i, matrix in enumerate(jacobians):
        smooth = found.smooth[i].reshape((3, -1)).astype(np.float64)
        np.testing.assert_allclose(smooth @ smooth.T, np.eye(3), atol=1e-5)
        assert np.abs(matrix @ smooth.T).max() < 1e-5 * np.linalg.norm(matrix, 2)
        # The constrained optimum, of all changes of the 3 S² waves with S² · 3 >= 2 · 7.
        waves = np.zeros((3 * 3 * 3, SIDE, SIDE, 3))
        for k, (down, across, channel) in enumerate(np.ndindex(3, 3, 3)):
            waves[k, down, across, channel] = 1.0
        waves = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho").reshape((27, -1))
        square = np.array([down**2 + across**2 for down, across, _ in np.ndindex(3, 3, 3)])
        _, _, right = np.linalg.svd(matrix @ waves.T)
        free = right[7:]
        wanted = np.linalg.eigvalsh(free @ np.diag(square) @ free.T)[:3]
        roughness = np.sum((smooth @ waves.T) ** 2 * square, axis=1)
        np.testing.assert_allclose(roughness, wanted, rtol=1e-4, atol=1e-5)

        _, _, right = np.linalg.svd(matrix)
        unseen = right[7:]
        flat = changes[i].reshape((2, -1)).astype(np.float64)
        parts = found.unseen_parts[i].reshape((2, -1))
        np.testing.assert_allclose(parts, flat @ unseen.T @ unseen, atol=1e-4)
        wanted = np.linalg.norm(flat @ matrix.T, axis=1)
        np.testing.assert_allclose(found.moved[i], wanted, rtol=1e-5)


def test_an_image_that_moves_nothing_has_no_directions_but_unseen_ones(images):
    def silent(image):
        return jnp.maximum(image.ravel() @ FIRST[:, :3], 1e9)

    found = posenet_jax.extreme_directions(silent, images[:1], key=jax.random.key(0), space=SPACE)
    assert found.rank.tolist() == [0] and not found.most.any() and not found.least.any()
    assert np.isnan(found.smallest).all()
    assert np.ptp(found.smooth) > 0 and np.linalg.norm(found.smooth) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 10}, "count must be 1 to 9 for 9 numbers of 300 values; received 10"),
        ({"count": 0}, "count must be 1 to 9"),
        ({"exact": 5, "count": 60}, "count must be 1 to 59"),
        ({"exact": 5, "changes": np.zeros((2, 1, SIDE, SIDE, 3))}, "changes must be .* and 5"),
        ({"changes": np.zeros((2, SIDE, SIDE, 3))}, r"changes must be \[2, M, 10, 10, 3\]"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, r"images must be uint8 \[N, 10, 10, 3\]"),
        ({"images": np.zeros((2, SIDE, SIDE, 3))}, "received float64"),
        ({"images": np.zeros((0, SIDE, SIDE, 3), np.uint8)}, "received uint8 .0, 10"),
        ({"key": 0}, "key must be one random key"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(images, arguments, words):
    given = {"images": images, "key": jax.random.key(0), "space": SPACE} | arguments
    with pytest.raises(InputError, match=words):
        posenet_jax.extreme_directions(small, **given)


def test_derivatives_written_by_hand_have_both_products(images):
    """Functions with `custom_vjp` have no forward derivative."""

    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, e: (3.0 * x**2 * e,))
    matrix = jnp.asarray(FIRST[:, :4]) / 500.0
    point = SPACE.to_network(images)[0]
    value, push, pull = extremes.linearised(lambda image: cube(image.ravel() @ matrix), point)
    slopes = 3.0 * np.asarray(point.ravel() @ matrix) ** 2
    change = jax.random.normal(jax.random.key(1), point.shape)
    np.testing.assert_allclose(push(change), slopes * (change.ravel() @ matrix), rtol=1e-4)
    wanted = np.asarray(matrix) @ (slopes * np.asarray(value))
    np.testing.assert_allclose(pull(value).ravel(), wanted, rtol=1e-4, atol=1e-4)
