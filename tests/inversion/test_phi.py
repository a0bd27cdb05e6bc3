"""φ of any kind: inverted where it can be, else refused in one sentence with what to do."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, recipes, slot_programs
from posenet_jax.inversion.job_queues import Job

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
ONCE = recipes.CALIBRATED.replace(steps=2)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (2, 16, 16, 3)).astype(np.float32)


def phi(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


TARGETS = np.stack([np.asarray(phi(image)) for image in IMAGES])


def invert(function, targets=TARGETS, **options):
    options = {"key": KEY, "recipe": ONCE, "space": SPACE} | options
    return engine.invert(function, targets, **options)


def refusal(function=phi, targets=TARGETS, **options) -> str:
    with pytest.raises(InputError) as caught:
        invert(function, targets, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


# Modules of other libraries ----------------------------------------------------------------------


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class Module:
    """As Equinox has them: leaves are arrays, functions, switches, texts and numbers."""

    weight: jax.Array
    activation: object
    inference: bool
    padding: str
    power: float
    other: object = None

    def tree_flatten(self):
        return list(vars(self).values()), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)

    def __call__(self, image):
        if not self.inference or self.padding != "none":  # neither may be traced
            raise ValueError("a switch was lost")
        once = self.activation(self.weight @ image.ravel()) ** self.power
        return 3.0 * once if self.other is True else once


def module(weight=MATRIX, **fields):
    known = {"activation": jax.nn.softplus, "inference": True, "padding": "none", "power": 1.0}
    return Module(jnp.asarray(weight), **known | fields)


def test_a_module_with_leaves_of_every_kind_is_inverted_like_a_function():
    with jax.numpy_dtype_promotion("strict"):
        found = invert(module())
    np.testing.assert_allclose(found.image, invert(phi).image, atol=1e-3)


def test_other_weights_do_not_compile_again_and_another_function_does():
    invert(module())
    before = slot_programs.advance._cache_size()
    doubled = invert(module(2.0 * MATRIX), targets=np.float32(2.0) * TARGETS)
    assert slot_programs.advance._cache_size() == before
    for number, changed in enumerate(({"activation": jnp.tanh}, {"power": 2.0}), start=1):
        own = module(**changed)
        found = invert(own, targets=np.stack([np.asarray(own(x)) for x in IMAGES]))
        assert slot_programs.advance._cache_size() == before + number
        assert not np.allclose(found.image, doubled.image, atol=0.1)


def test_equal_values_of_different_types_are_different_programs():
    one, other = (invert(module(other=value)) for value in (1.0, True))
    assert not np.allclose(one.loss, other.loss)


def test_leaves_without_a_hash_are_told_apart_by_identity():
    first, second = {1, 2}, {1, 2}
    before = invert(module(other=first)) and slot_programs.advance._cache_size()
    invert(module(other=first))
    assert slot_programs.advance._cache_size() == before
    invert(module(other=second))
    assert slot_programs.advance._cache_size() == before + 1


@dataclasses.dataclass
class Unhashable:
    """No pytree; a dataclass with equality has no hash."""

    scale: float

    def __call__(self, image):
        return self.scale * phi(image)


def test_a_callable_without_a_hash_is_compiled_in():
    for scale in (1.0, 2.0):
        found = invert(Unhashable(scale), np.float32(scale) * TARGETS)
        np.testing.assert_allclose(found.image, invert(phi).image, atol=1e-3)


def test_an_equinox_module_is_inverted():
    layers = [eqx.nn.Linear(16 * 16 * 3, 12, use_bias=False, key=KEY), eqx.nn.Lambda(jax.nn.relu)]
    net = eqx.nn.Sequential([*layers, eqx.nn.Dropout(0.5, inference=True)])
    net = eqx.tree_at(lambda net: net.layers[0].weight, net, jnp.asarray(MATRIX))
    net = eqx.tree_at(lambda net: net.layers[1].fn, net, jax.nn.softplus)

    def of_image(net, image):
        return net(image.ravel())

    found = invert(jax.tree_util.Partial(of_image, net))
    np.testing.assert_allclose(found.image, invert(phi).image, atol=1e-3)


class LinenNet(linen.Module):
    """With normalisation and dropout, as in evaluation."""

    @linen.compact
    def __call__(self, image, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(4, (5, 5), 3)(image / 50.0))
        return linen.Dropout(0.5, deterministic=not train)(linen.Dense(12)(x.ravel()))


class NnxNet(nnx.Module):
    """The same."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (5, 5), 3, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(6 * 6 * 4, 12, rngs=rngs)

    def __call__(self, image):
        x = self.norm(self.conv(image / 50.0))
        return self.dense(self.drop(x.ravel()))


def linen_net(seed):
    return LinenNet().bind(LinenNet().init(jax.random.key(seed), IMAGES[0]))


def nnx_net(seed):
    net = NnxNet(nnx.Rngs(seed))
    net.eval()
    return net


@pytest.mark.parametrize("made", [linen_net, nnx_net])
def test_flax_modules_in_evaluation(made):
    for seed in (0, 1):  # the second must not find the first's weights
        net = made(seed)
        found = invert(net, np.stack([np.asarray(net(image)) for image in IMAGES]))
        own = np.stack([np.asarray(net(image)) for image in found.image])
        wanted = np.stack([np.asarray(net(image)) for image in IMAGES])
        error = np.linalg.norm(own - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        np.testing.assert_allclose(found.descriptor_error, error, rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, np.float64])
def test_targets_and_descriptors_of_other_precisions(dtype):
    targets = np.asarray(TARGETS, dtype)
    found, expected = invert(phi, targets), invert(phi, targets.astype(np.float32))
    np.testing.assert_array_equal(found.image, expected.image)
    if dtype is not np.float64:
        low = invert(lambda image: phi(image).astype(dtype))
        assert low.loss.shape == (2,) and np.isfinite(low.loss).all()


# What cannot be inverted -------------------------------------------------------------------------


def batched(image):
    if image.ndim != 4:
        raise TypeError("expected [N, H, W, C],\nreceived " + str(image.shape))
    return image.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: None, "phi returns a NoneType without an array: return floating numbers"),
        (lambda x: {}, "phi returns a dict without an array"),
        (
            lambda x: {"a": phi(x), "b": x > 0},
            "phi returns bool at ['b'], which has no gradient to follow",
        ),
        (lambda x: x.astype(jnp.int32), "phi returns int32, which has no gradient"),
        (lambda x: x.astype(jnp.complex64), "phi returns complex64"),
        (lambda x: x > 0, "phi returns bool"),
        (batched, "phi fails on one image, float32 [16, 16, 3] without a batch axis: TypeError"),
        (lambda x: np.asarray(x).ravel(), "phi fails on one image"),
        (3, "phi must be a function of one image, not a int"),
        (weights.random_encoder("compact"), "not a Encoder: give one of its taps, .tap(layer)"),
        (lambda x: phi(x)[None], "descriptors need [N, 1, 12]"),
        (lambda x: jnp.sum(x), "descriptors need [N]"),
    ],
)
def test_a_function_that_cannot_be_inverted_is_refused(function, words):
    assert words in refusal(function)
    with pytest.raises(InputError) as caught:
        next(engine.run(function, [Job(0, TARGETS[0])], key=KEY, space=SPACE, slots=2))
    assert words in str(caught.value) or "job 0: its target has shape [12]" in str(caught.value)


class Stubborn:
    """As a tensor that requires a gradient."""

    def __array__(self, *_, **__):
        raise RuntimeError("call detach() first")


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.ones((2, 12), np.int32), "targets of dtype int32: give floating numbers"),
        (np.ones((2, 12), bool), "targets of dtype bool"),
        (np.ones((2, 12), np.complex64), "targets of dtype complex64"),
        (np.full((2, 12), 1e39), "targets [0, 1] hold values that are not finite in float32"),
        ([[1.0, 2.0], [3.0]], "targets of which NumPy makes no array"),
        ("descriptors.npy", "targets of dtype <U15"),
        (None, "targets of dtype object"),
        (Stubborn(), "targets of which NumPy makes no array: call detach() first"),
        (np.float32(1.0), "there are no targets"),
    ],
)
def test_targets_that_are_no_descriptors_are_refused(targets, words):
    assert words in refusal(targets=targets)


def test_traced_targets_are_refused_in_a_sentence():
    message = "targets traced by JAX: .* cannot be called inside jit, vmap or grad"
    with pytest.raises(InputError, match=message):
        jax.jit(lambda targets: invert(phi, targets).image)(TARGETS)


@pytest.mark.parametrize("key", [0, None, jax.random.split(KEY), jnp.ones(3), "seed"])
def test_what_is_no_key_is_refused(key):
    assert "key must be one random key, such as jax.random.key(0)" in refusal(key=key)


def test_keys_of_either_kind_are_taken():
    old, new = (invert(phi, key=make(3)).image for make in (jax.random.PRNGKey, jax.random.key))
    np.testing.assert_array_equal(old, new)


# Jobs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(5, TARGETS[0][:-1]), "job 5: its target has shape [11], expected [12]"),
        (Job(5, TARGETS[0].astype(int)), "job 5: a target of dtype int64"),
        (Job(5, np.full(12, np.nan)), "job 5: its target holds values that are not finite"),
        (Job(5, np.full(12, 1e300)), "job 5: its target holds values that are not finite"),
        (Job(5, {"a": TARGETS[0]}), "job 5: a target of dtype object"),
        (Job(-5, TARGETS[0]), "job -5: its index must lie within 0 and 4294967295, not -5"),
        (Job(2**32, TARGETS[0]), "its index must lie within"),
        (Job(0.5, TARGETS[0]), "its index must lie within"),
        (Job(5, TARGETS[0], restart=-1), "its restart must lie within"),
        (Job(5, TARGETS[0], start=IMAGES[0][:8]), "its start image has shape [8, 16, 3], expected"),
        (Job(5, TARGETS[0], start=np.inf * IMAGES[0]), "its start image holds values"),
        (
            Job(5, TARGETS[0], recipe=recipes.PAPER),
            "job 5: its recipe differs from the run's in name, data_term, schedule, clipping",
        ),
        (
            Job(5, TARGETS[0], recipe=ONCE.replace(steps=jnp.ones(2))),
            "job 5: its recipe's steps must be one number, not [2]",
        ),
        ("a job", "at place 3 is a str in place of a Job"),
    ],
)
def test_a_job_that_cannot_be_inverted_is_named_and_those_before_it_are_done(job, words):
    before = [Job(i, TARGETS[i % 2]) for i in range(3)]
    jobs = itertools.chain(before, [job], itertools.repeat(Job(9, TARGETS[0])))
    done = engine.run(phi, jobs, key=KEY, recipe=ONCE, space=SPACE, slots=2)
    expected = engine.run(phi, before, key=KEY, recipe=ONCE, space=SPACE, slots=2)
    for one in expected:
        np.testing.assert_array_equal(next(done).image, one.image)
    with pytest.raises(InputError) as caught:
        next(done)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_starts_array_of_any_kind_is_taken_or_refused():
    warm = recipes.WARM.replace(steps=1)
    found = invert(phi, recipe=warm, start=IMAGES.tolist())
    np.testing.assert_allclose(found.image, IMAGES, atol=1e-4)
    assert "start images of dtype uint8" in refusal(recipe=warm, start=IMAGES.astype(np.uint8))
