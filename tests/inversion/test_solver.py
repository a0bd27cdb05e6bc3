"""One inversion as a pure function: the engine's results, under somebody else's jit and vmap."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import posenet_jax
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, recipes, solver
from posenet_jax.inversion.data_terms import Masked
from posenet_jax.inversion.descent import Status

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (8, 16, 16, 3)).astype(np.float32)
FEW = recipes.CALIBRATED.replace(steps=15)
# The others are in tests/decoders/test_generator_space.py.
NEED_NO_GENERATOR = sorted(
    name for name, own in recipes.RECIPES.items() if own.start != "generator"
)


def phi(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


TARGETS = np.stack([np.asarray(phi(image)) for image in IMAGES])


def solve(target=TARGETS[0], function=phi, **options):
    options = {"key": KEY, "recipe": FEW, "space": SPACE} | options
    return posenet_jax.solve(function, target, **options)


def own_keys(count=8):
    return jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(count))


def assert_close(found, expected):
    np.testing.assert_allclose(found.image, expected.image, atol=0.05)
    for name in ("loss", "relative_loss", "descriptor_error"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-3)
    for name in ("steps", "status", "starts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_it_is_jitted_and_the_second_call_does_not_trace_again():
    traced = []

    @jax.jit
    def image(target):
        traced.append(target)
        return solve(target).image

    for target in TARGETS[:3]:
        np.testing.assert_allclose(image(target), solve(target).image, atol=0.05)
    assert len(traced) == 1 and image._cache_size() == 1


def test_vmapped_it_is_the_engines_inversion():
    found = jax.jit(jax.vmap(lambda target, key: solve(target, key=key)))(TARGETS, own_keys())
    expected = engine.invert(phi, TARGETS, key=KEY, recipe=FEW, space=SPACE)
    assert found.image.shape == (8, 16, 16, 3)
    assert_close(found, expected)


def test_vmapped_they_end_at_different_steps():
    recipe = recipes.PAPER_NO_PRIOR.replace(steps=60, tolerance=0.1, stop_early=True)
    solved = jax.vmap(lambda target, key: solve(target, key=key, recipe=recipe))
    expected = engine.invert(phi, TARGETS, key=KEY, recipe=recipe, space=SPACE)
    assert_close(solved(TARGETS, own_keys()), expected)
    assert len(set(expected.steps)) > 1
    assert set(expected.status) == {Status.CONVERGED, Status.OUT_OF_STEPS}


@pytest.mark.parametrize("name", NEED_NO_GENERATOR)
def test_every_recipe_does_as_the_engine_does(name):
    recipe = recipes.RECIPES[name].replace(steps=6)
    start = IMAGES[1] if recipe.start == "image" else None
    starts = None if start is None else start[None]
    expected = engine.invert(phi, TARGETS[:1], key=KEY, recipe=recipe, space=SPACE, start=starts)
    found = solve(key=jax.random.fold_in(KEY, 0), recipe=recipe, start=start)
    assert_close(jax.tree.map(lambda x: x[None], found), expected)


def test_the_second_call_does_not_compile_again():
    solve()
    before = solver._solve._cache_size()
    solve(TARGETS[1], key=jax.random.key(1))
    solve(recipe=FEW.replace(learning_rate=3, priors={"tv": 1.0, "l6": 0.5}, steps=4))
    assert solver._solve._cache_size() == before


def test_hyper_parameters_may_be_traced():
    rates = np.array([0.5, 2.0, 8.0], np.float32)

    def of_rate(rate):
        return solve(recipe=FEW.replace(learning_rate=rate))

    found = jax.vmap(of_rate)(rates)
    for i, rate in enumerate(rates):
        assert_close(jax.tree.map(lambda x, i=i: x[i], found), of_rate(float(rate)))


# Networks of other libraries ----------------------------------------------------------------------


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, image):
        return linen.Dense(12)(linen.relu(linen.Conv(4, (5, 5), 3)(image / 50.0)).ravel())


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (5, 5), 3, rngs=rngs)
        self.dense = nnx.Linear(6 * 6 * 4, 12, rngs=rngs)

    def __call__(self, image):
        return self.dense(nnx.relu(self.conv(image / 50.0)).ravel())


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Callable:
    """A pytree that can be called, as Equinox's modules are."""

    weight: jax.Array

    def __call__(self, image):
        return jax.nn.softplus(self.weight @ image.ravel())


def of_linen(seed):
    variables = LinenNet().init(jax.random.key(seed), IMAGES[0])
    return jax.tree_util.Partial(LinenNet().apply, variables)


def of_nnx(seed):
    return NnxNet(nnx.Rngs(seed))


def of_pytree(seed):
    return Callable(jax.random.normal(jax.random.key(seed), MATRIX.shape) * 0.02)


def of_equinox(seed):
    keys = jax.random.split(jax.random.key(seed))
    return eqx.nn.Sequential(
        [
            eqx.nn.Lambda(lambda image: image.transpose(2, 0, 1) / 50.0),
            eqx.nn.Conv2d(3, 4, 5, 3, key=keys[0]),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(64, 12, key=keys[1]),
        ]
    )


@pytest.mark.parametrize("made", [of_linen, of_nnx, of_pytree, of_equinox])
def test_networks_are_solved_as_constants_and_as_arguments(made):
    """Closed over, and with their weights traced by the caller's jit."""
    nets = [made(seed) for seed in (0, 1)]
    leaves, structure = jax.tree.flatten(nets[0])
    key = jax.random.fold_in(KEY, 0)

    @jax.jit
    def of_weights(weights, target):
        own = iter(weights)
        parts = [next(own) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
        return solve(target, jax.tree.unflatten(structure, parts))

    for net in nets:
        target = net(jnp.asarray(IMAGES[0]))
        weights = [leaf for leaf in jax.tree.leaves(net) if isinstance(leaf, jax.Array)]
        expected = engine.invert(net, target[None], key=KEY, recipe=FEW, space=SPACE)
        expected = jax.tree.map(lambda x: x[0], expected)
        assert_close(solve(target, net, key=key), expected)
        assert_close(jax.jit(lambda t, net=net: solve(t, net, key=key))(target), expected)
        found = of_weights(weights, target)
        np.testing.assert_allclose(
            found.descriptor_error,
            jnp.linalg.norm(net(found.image) - target) / jnp.linalg.norm(target),
            rtol=1e-3,
        )
    assert of_weights._cache_size() == 1


def test_a_tap_is_solved():
    encoder = posenet_jax.random_encoder(
        "compact", preprocessing=Preprocessing(means=(1.0, 2.0, 3.0), size=48)
    )
    tap = encoder.tap("fc5")
    target = tap(jnp.asarray(RNG.normal(0, 50, (48, 48, 3)).astype(np.float32)))
    recipe = FEW.replace(steps=4)
    expected = engine.invert(tap, target[None], key=KEY, recipe=recipe)
    image = jax.jit(
        lambda t: posenet_jax.solve(tap, t, key=jax.random.fold_in(KEY, 0), recipe=recipe).image
    )(target)
    np.testing.assert_allclose(image, expected.image[0], atol=0.5)


# Objectives ---------------------------------------------------------------------------------------


def several(image):
    return {"units": phi(image), "colour": image.mean((0, 1))}


def asymmetry(image):
    return jnp.sum(jnp.square(image - image[:, ::-1]))


def length(descriptor, target):
    return jnp.square(jnp.linalg.norm(descriptor) - target["length"])


@pytest.mark.parametrize(
    ("function", "target", "changes"),
    [
        (several, several(IMAGES[0]), {"leaf_weights": {"units": 1.0, "colour": 0.5}}),
        (phi, Masked(TARGETS[0], np.ones(12, np.float32)), {"data_term": "masked"}),
        (phi, np.eye(12, dtype=np.float32)[3], {"data_term": "maximise"}),
        (phi, {"length": np.float32(3.0)}, {"data_term": length, "priors": {asymmetry: 0.1}}),
    ],
)
def test_other_objectives_are_the_engines(function, target, changes):
    recipe = FEW.replace(**changes)
    rows = jax.tree.map(lambda x: np.asarray(x)[None], target)
    expected = engine.invert(function, rows, key=KEY, recipe=recipe, space=SPACE)
    found = solve(target, function, key=jax.random.fold_in(KEY, 0), recipe=recipe)
    assert_close(jax.tree.map(lambda x: x[None], found), expected)


def test_one_that_stops_being_finite_says_so_and_keeps_its_best():
    def breaking(image):
        return phi(image) * jnp.where(jnp.abs(image[0, 0, 0]) > 5.0, jnp.nan, 1.0)

    recipe = recipes.PAPER_NO_PRIOR.replace(learning_rate=100.0, start_deviation=1.0)
    found = solve(TARGETS[0], breaking, recipe=recipe)
    assert found.status == Status.NOT_FINITE and found.steps == 2 and found.starts == 1
    assert np.isfinite(found.image).all() and np.isfinite(found.loss)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": TARGETS}, "target has shape [8, 12], expected [12]"),
        ({"target": np.ones(12, int)}, "target of dtype int32: give floating numbers"),
        ({"target": "descriptors.npy"}, "target of which JAX makes no array"),
        ({"target": {"a": TARGETS[0]}}, "target of which JAX makes no array"),
        ({"function": several}, "target must be {'colour': *, 'units': *}"),
        ({"recipe": FEW.replace(steps=np.ones(2))}, "the recipe's steps must be one number"),
        ({"recipe": recipes.WARM}, "begins with images: give start"),
        ({"start": IMAGES[0]}, "begins with noise alone"),
        ({"recipe": recipes.WARM, "start": IMAGES}, "start has shape [8, 16, 16, 3], expected"),
        ({"key": 3}, "key must be one random key"),
        ({"recipe": FEW.replace(data_term=lambda found, target: found)}, "one floating number"),
    ],
)
def test_what_cannot_be_solved_is_refused(options, words):
    with pytest.raises(InputError) as caught:
        solve(**options)
    assert words in str(caught.value) and "\n" not in str(caught.value)
