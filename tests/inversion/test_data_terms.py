"""Data terms and priors against SciPy, PyTorch, closed forms, finite differences; in slots, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.spatial import distance

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import data_terms, descent, engine, objective, recipes, slot_programs
from posenet_jax.inversion.data_terms import DATA_TERMS, DataTerm, Masked
from posenet_jax.inversion.job_queues import Job
from posenet_jax.inversion.priors import PRIORS

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (4, 16, 16, 3)).astype(np.float32)
MASK = np.arange(12) % 3 == 0
BARE = recipes.CALIBRATED.replace(priors={})


def phi(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


FOUND = np.stack([np.asarray(phi(image)) for image in IMAGES])
TARGETS = np.roll(FOUND, 1, axis=0)


def size(descriptor, target):
    """A data term of a person: the descriptor's length, with a target that is one number."""
    return jnp.square(jnp.linalg.norm(descriptor) - target["length"])


def goal(term, targets=TARGETS):
    """Targets as the data term takes them."""
    if term == "masked":
        return Masked(targets, np.broadcast_to(np.float32(MASK), targets.shape))
    if term is size:
        return {"length": np.linalg.norm(targets, axis=1)}
    return targets


def row(tree, i):
    return jax.tree.map(lambda x: np.asarray(x[i]), tree)


TERMS = [*DATA_TERMS, size]


def scipys(term, found, target):
    """The same in float64, by other people's functions."""
    found, target = np.float64(found), np.float64(target)
    return {
        "norm": distance.euclidean(found, target),
        "relative_square": distance.sqeuclidean(found, target)
        / distance.sqeuclidean(target, np.zeros(12)),
        "cosine": distance.cosine(found, target),
        "maximise": -np.dot(found, target),
        "masked": distance.sqeuclidean(found, target, MASK)
        / distance.sqeuclidean(target, np.zeros(12), MASK),
        size: (np.linalg.norm(found) - np.linalg.norm(target)) ** 2,
    }[term]


@pytest.mark.parametrize("term", TERMS)
def test_values_are_scipys(term):
    for i in range(4):
        value = data_terms.value(term, FOUND[i], row(goal(term), i), None)
        assert float(value) == pytest.approx(scipys(term, FOUND[i], TARGETS[i]), rel=1e-4)


@pytest.mark.parametrize("term", TERMS)
def test_gradients_match_finite_differences(term):
    target = row(goal(term), 0)
    found = jax.grad(lambda x: data_terms.value(term, x, target, None))(FOUND[0])
    expected = optimize.approx_fprime(
        np.float64(FOUND[0]), lambda x: scipys(term, x, TARGETS[0]), 1e-6
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_gradients_of_the_image_are_pytorchs(torch):
    x = torch.tensor(IMAGES[0], requires_grad=True)
    found = torch.nn.functional.softplus(torch.tensor(MATRIX) @ x.ravel())
    target, mask = torch.tensor(TARGETS[0]), torch.tensor(MASK)
    expected = {
        "norm": torch.linalg.norm(found - target),
        "cosine": 1.0 - torch.nn.functional.cosine_similarity(found, target, dim=0),
        "maximise": -torch.dot(found, target),
        "masked": torch.nn.functional.mse_loss(found[mask], target[mask], reduction="sum")
        / (target[mask] ** 2).sum(),
    }
    for term, value in expected.items():
        (wanted,) = torch.autograd.grad(value, x, retain_graph=True)
        recipe = BARE.replace(data_term=term)
        own = row(goal(term), 0)
        gradient = jax.grad(
            lambda image, own=own, recipe=recipe: objective.loss(image, phi(image), own, recipe)
        )(IMAGES[0])
        np.testing.assert_allclose(gradient, wanted.numpy(), rtol=1e-3, atol=1e-7, err_msg=term)


@pytest.mark.parametrize("term", [*DATA_TERMS])
def test_gradients_are_finite_at_zero_and_at_the_target(term):
    for found in (np.zeros(12, np.float32), TARGETS[0]):
        for target in (np.zeros(12, np.float32), TARGETS[0]):
            own = row(goal(term, target[None]), 0)
            gradient = jax.grad(lambda x, own=own: data_terms.value(term, x, own, None))(found)
            assert np.isfinite(gradient).all()


# What is reached ---------------------------------------------------------------------------------


def invert(term, targets=TARGETS, **changes):
    recipe = BARE.replace(**{"data_term": term, "steps": 60, **changes})
    return engine.invert(phi, goal(term, targets), key=KEY, recipe=recipe, space=SPACE)


def described(result):
    return np.stack([np.asarray(phi(image)) for image in result.image])


def test_cosine_leaves_the_length_free():
    found = described(invert("cosine", 7.0 * TARGETS, steps=300, learning_rate=1.0))
    cosines = [1.0 - distance.cosine(a, b) for a, b in zip(found, TARGETS, strict=True)]
    assert min(cosines) > 0.99, cosines
    lengths = np.linalg.norm(found, axis=1) / np.linalg.norm(7.0 * TARGETS, axis=1)
    assert np.all(np.abs(lengths - 1.0) > 0.2), lengths


def test_masked_leaves_the_other_components_free():
    result = invert("masked", steps=300, learning_rate=1.0)
    found = described(result)
    losses = np.linalg.norm((found - TARGETS)[:, MASK], axis=1) / (
        np.linalg.norm(found[:, MASK], axis=1) + np.linalg.norm(TARGETS[:, MASK], axis=1)
    )
    np.testing.assert_allclose(result.relative_loss, losses, rtol=1e-3, atol=1e-6)
    assert np.all(losses < 0.02), losses
    # Of other values in the free components nothing changes, to the byte.
    other = np.where(MASK, TARGETS, 9.0).astype(np.float32)
    np.testing.assert_array_equal(
        invert("masked", other, steps=9).image, invert("masked", steps=9).image
    )


def test_maximise_of_a_linear_unit_goes_along_its_weights():
    """Adam's steps of a constant gradient are its signs, times the rate."""
    weights = RNG.normal(size=16 * 16 * 3).astype(np.float32)
    recipe = BARE.replace(data_term="maximise", steps=11, schedule="constant", warmup=0)
    recipe = recipe.replace(learning_rate=2.0, start_deviation=0.0)
    result = engine.invert(
        lambda image: jnp.asarray(weights) * image.ravel(),
        np.ones((1, len(weights)), np.float32),
        key=KEY,
        recipe=recipe,
        space=SPACE,
    )
    expected = 2.0 * 10 * np.sign(weights)
    np.testing.assert_allclose(result.image[0].ravel(), expected, rtol=1e-3)
    assert result.loss[0] == pytest.approx(-np.sum(expected * weights), rel=1e-3)


def test_maximise_raises_its_own_unit_most_and_reaches_nothing():
    units = np.eye(12, dtype=np.float32)[:4]
    result = invert("maximise", units, stop_early=True)
    found = described(result)
    assert np.all(np.argmax(found, axis=1) == np.arange(4))
    np.testing.assert_allclose(result.loss, -found[np.arange(4), np.arange(4)], rtol=1e-4)
    assert np.isnan(result.relative_loss).all() and np.isnan(result.descriptor_error).all()
    assert np.all(result.status == descent.Status.OUT_OF_STEPS)


def test_patience_counts_improvements_of_negative_losses_too():
    """-1, -1, …: no improvement. -1, -1.1, …: one in every step."""

    def falling(descriptor, target):
        return descriptor * 0.0 - 1.0 - target["slope"] * descriptor

    def run(slope):
        recipe = BARE.replace(data_term=falling, steps=20, patience=4, learning_rate=1.0, warmup=0)
        recipe = recipe.replace(schedule="constant", start_deviation=0.0)
        target = {"slope": np.full(1, slope, np.float32)}
        return engine.invert(jnp.mean, target, key=KEY, recipe=recipe, space=SPACE)

    flat, steep = run(0.0), run(0.1)
    assert flat.status == descent.Status.STALLED and flat.steps == 5
    assert steep.status == descent.Status.OUT_OF_STEPS and steep.steps == 20
    assert steep.loss[0] == pytest.approx(-1.0 - 0.1 * 19, rel=1e-3)


# In slots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS)
def test_a_job_does_not_depend_on_its_neighbours(term):
    recipe = BARE.replace(data_term=term, steps=12, priors={"tv": 0.03, softness: 0.1})
    jobs = [Job(i, row(goal(term), i), number=i) for i in range(4)]
    wild = goal(term, np.float32(1e4) * TARGETS)
    others = [Job(i, row(wild, i), number=i) for i in (0, 2, 3)]

    def run(jobs):
        done = engine.run(phi, jobs, key=KEY, recipe=recipe, space=SPACE, slots=2)
        return {one.index: one.image for one in done}

    whole, alone, among = run(jobs), run(jobs[1:2]), run([others[0], jobs[1], *others[1:]])
    np.testing.assert_array_equal(alone[1], whole[1])
    np.testing.assert_array_equal(among[1], whole[1])
    assert not np.array_equal(among[2], whole[2]) or term == "cosine"


def softness(image):
    """A prior of a person."""
    return jnp.sum(jnp.square(image))


def test_a_function_is_a_prior_and_its_weight_differs_per_image():
    """‖x - t‖² / ‖t‖² + w ‖x / 127.5‖² / n is least at t / (1 + w ‖t‖² / 127.5² / n)."""
    target = RNG.normal(0, 10, (3, 48)).astype(np.float32)
    weights = np.array([0.0, 200.0, 900.0], np.float32)
    recipe = BARE.replace(priors={softness: weights}, steps=500, learning_rate=2.0)
    space = Preprocessing(means=(90.0, 100.0, 110.0), size=4)
    found = engine.invert(jnp.ravel, target, key=KEY, recipe=recipe, space=space)
    square = np.sum(target**2, axis=1)
    expected = target / (1.0 + weights * square / 127.5**2 / 16)[:, None]
    np.testing.assert_allclose(found.image.reshape(3, 48), expected, atol=0.1)


def test_a_function_as_a_prior_is_the_named_one():
    named = BARE.replace(priors={"tv": 0.03, "l6": 0.02}, steps=9)
    own = named.replace(priors={PRIORS["tv"].penalty: 0.03, PRIORS["l6"].penalty: 0.02})
    mixed = named.replace(priors={PRIORS["l6"].penalty: 0.02, "tv": 0.03})
    images = [
        engine.invert(phi, TARGETS, key=KEY, recipe=recipe, space=SPACE).image
        for recipe in (named, own, mixed)
    ]
    for image in images[1:]:
        np.testing.assert_allclose(image, images[0], atol=0.02)


def test_functions_do_not_compile_again():
    recipe = BARE.replace(data_term=size, priors={softness: 0.1}, steps=2)
    engine.invert(phi, goal(size), key=KEY, recipe=recipe, space=SPACE)
    before = slot_programs.advance._cache_size()
    other = recipe.replace(priors={softness: np.linspace(0.0, 1.0, 4)}, learning_rate=1.0)
    engine.invert(phi, goal(size, 2.0 * TARGETS), key=KEY, recipe=other, space=SPACE)
    assert slot_programs.advance._cache_size() == before


def test_a_name_added_to_the_registry_is_minimised(monkeypatch):
    huber = DataTerm(lambda found, wanted: jnp.sum(jnp.abs(found - wanted)))
    monkeypatch.setitem(DATA_TERMS, "absolute", huber)
    result = invert("absolute")
    expected = [distance.cityblock(a, b) for a, b in zip(described(result), TARGETS, strict=True)]
    np.testing.assert_allclose(result.loss, expected, rtol=1e-3)
    assert recipes.record(BARE.replace(data_term="absolute"))["data_term"] == "absolute"


# What is refused ---------------------------------------------------------------------------------


def two_numbers(descriptor, target):
    return descriptor[:2]


def of_another_shape(descriptor, target):
    return jnp.sum(descriptor + target["other"])


@pytest.mark.parametrize(
    ("changes", "targets", "words"),
    [
        (
            {"data_term": "masked"},
            TARGETS,
            "targets must be CustomNode(namedtuple[Masked], [*, *])",
        ),
        ({"data_term": "cosine"}, {"a": TARGETS}, "targets of dtype object"),
        (
            {"data_term": two_numbers},
            TARGETS,
            "data term two_numbers must return one floating number",
        ),
        ({"data_term": of_another_shape}, TARGETS, "data term of_another_shape fails: TypeError"),
        ({"data_term": size}, {}, "there are no targets"),
        (
            {"priors": {softness: 0.1, jnp.ravel: 1.0}},
            TARGETS,
            "prior ravel must return one floating",
        ),
    ],
)
def test_what_cannot_be_minimised_is_refused(changes, targets, words):
    with pytest.raises(InputError) as caught:
        engine.invert(phi, targets, key=KEY, recipe=BARE.replace(**changes), space=SPACE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_recipes_refuse_what_they_cannot_hold():
    with pytest.raises(
        ValueError, match="norm, relative_square, cosine, maximise, masked, received"
    ):
        recipes.Recipe(data_term="euclidean")
    with pytest.raises(ValueError, match="leaf_weights are for data terms by name"):
        recipes.Recipe(data_term=size, leaf_weights=2.0)
    for changes in ({"data_term": size}, {"priors": {"tv": 0.1, softness: 0.1}}):
        with pytest.raises(InputError, match="(size|softness) has no name that a file could hold"):
            recipes.record(BARE.replace(**changes))


def test_a_job_with_other_priors_is_refused():
    job = Job(5, TARGETS[0], recipe=BARE.replace(priors={"tv": 0.1}))
    with pytest.raises(InputError, match="job 5: its recipe has other priors or leaf_weights"):
        list(engine.run(phi, [job], key=KEY, recipe=BARE, space=SPACE, slots=2))
