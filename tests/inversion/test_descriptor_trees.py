"""Descriptors that are pytrees: of one array as that array, of several as each array by itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import data_terms, engine, recipes, slot_programs
from posenet_jax.inversion.job_queues import Job

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=16)
KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (12, 16 * 16 * 3)).astype(np.float32)
IMAGES = RNG.normal(0, 50, (5, 16, 16, 3)).astype(np.float32)
FEW = recipes.CALIBRATED.replace(steps=12)


def whole(image):
    return jax.nn.softplus(jnp.asarray(MATRIX) @ image.ravel())


def several(image):
    """Arrays of different shapes and scales: units, mean colour, a map of brightness."""
    colour = image.mean((0, 1))
    return {"units": whole(image), "rest": (100.0 * colour, image[::4, ::4].mean(-1))}


def targets_of(phi):
    return jax.vmap(phi)(IMAGES)


def invert(phi, targets, recipe=FEW, **options):
    return engine.invert(phi, targets, key=KEY, recipe=recipe, space=SPACE, **options)


@pytest.mark.parametrize("wrap", [lambda x: {"a": x}, lambda x: (x,), lambda x: [[x]]])
def test_a_tree_of_one_array_is_that_array_to_the_byte(wrap):
    found = invert(lambda image: wrap(whole(image)), wrap(targets_of(whole)))
    for name, value in vars(invert(whole, targets_of(whole))).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def test_the_loss_is_the_weighted_sum_and_the_error_the_weighted_mean_of_all_arrays():
    weights = {"units": 2.0, "rest": (0.5, 0.25)}
    recipe = FEW.replace(leaf_weights=weights, priors={})
    found = invert(several, targets_of(several), recipe)
    own = jax.tree.leaves(jax.vmap(several)(found.image))
    parts = [
        (np.asarray(a, np.float64).reshape(5, -1), np.asarray(b, np.float64).reshape(5, -1))
        for a, b in zip(own, jax.tree.leaves(targets_of(several)), strict=True)
    ]
    weight = np.array(jax.tree.leaves(weights))

    def norm(x):
        return np.linalg.norm(x, axis=1)

    squares = [norm(a - b) ** 2 / norm(b) ** 2 for a, b in parts]
    np.testing.assert_allclose(found.loss, weight @ squares, rtol=1e-3)
    losses = [norm(a - b) / (norm(a) + norm(b)) for a, b in parts]
    np.testing.assert_allclose(found.relative_loss, weight @ losses / weight.sum(), rtol=1e-3)
    errors = [norm(a - b) / norm(b) for a, b in parts]
    np.testing.assert_allclose(found.descriptor_error, weight @ errors / weight.sum(), rtol=1e-3)


def test_no_weights_are_weights_of_1():
    ones = FEW.replace(leaf_weights={"units": 1.0, "rest": (1.0, 1.0)})
    found, expected = (invert(several, targets_of(several), recipe) for recipe in (ones, FEW))
    np.testing.assert_allclose(found.image, expected.image, atol=0.05)
    np.testing.assert_allclose(found.relative_loss, expected.relative_loss, rtol=1e-3)


def test_gradients_of_a_trees_loss_are_pytorchs(torch):
    weights = {"units": 2.0, "rest": (0.5, 0.25)}
    target = jax.tree.map(lambda x: x[0], targets_of(several))

    def loss(image):
        return data_terms.value("relative_square", several(image), target, weights)

    x = torch.tensor(IMAGES[1], requires_grad=True)
    units = torch.nn.functional.softplus(torch.tensor(MATRIX) @ x.ravel())
    own = units, 100.0 * x.mean((0, 1)), x[::4, ::4].mean(-1)
    wanted = [target["units"], *target["rest"]]
    total = sum(
        w * ((a - torch.tensor(np.array(b))) ** 2).sum() / (torch.tensor(np.array(b)) ** 2).sum()
        for w, a, b in zip((2.0, 0.5, 0.25), own, wanted, strict=True)
    )
    total.backward()
    np.testing.assert_allclose(jax.grad(loss)(IMAGES[1]), x.grad.numpy(), rtol=1e-3, atol=1e-7)


def test_weights_may_differ_per_image_without_compiling_again():
    """One array alone, the others alone, and all: in one program."""
    ones = FEW.replace(leaf_weights={"units": 1.0, "rest": (1.0, 1.0)})
    together = invert(several, targets_of(several), ones)
    before = slot_programs.advance._cache_size()
    units = np.array([1.0, 0.0, 1.0, 1.0, 1.0], np.float32)
    rest = np.array([0.0, 1.0, 1.0, 1.0, 1.0], np.float32)
    own = ones.replace(leaf_weights={"units": units, "rest": (rest, rest)})
    found = invert(several, targets_of(several), own)
    assert slot_programs.advance._cache_size() == before
    of_units = invert(whole, targets_of(whole))
    of_rest = invert(lambda image: several(image)["rest"], targets_of(several)["rest"])
    for i, alone in enumerate((of_units, of_rest, together, together, together)):
        np.testing.assert_allclose(found.image[i], alone.image[i], atol=0.05)
        assert found.relative_loss[i] == pytest.approx(alone.relative_loss[i], rel=1e-3)
    assert not np.allclose(found.image[:2], together.image[:2], atol=1.0)


def test_a_job_does_not_depend_on_its_neighbours():
    targets = targets_of(several)
    poisoned = jax.tree.map(lambda x: x.at[2:].multiply(100.0), targets)
    alone, among_others = (invert(several, one, slots=2) for one in (targets, poisoned))
    np.testing.assert_array_equal(alone.image[:2], among_others.image[:2])
    assert not np.array_equal(alone.image[2:], among_others.image[2:])


def test_parts_of_a_run_are_those_of_the_whole():
    stop = recipes.CALIBRATED.replace(steps=25, tolerance=0.15, stop_early=True)
    rows = [jax.tree.map(lambda x, i=i: np.asarray(x[i]), targets_of(several)) for i in range(5)]
    jobs = [Job(i, rows[i], r, number=2 * i + r) for i, r in itertools.product(range(5), range(2))]

    def run(some):
        done = engine.run(several, some, key=KEY, recipe=stop, space=SPACE, slots=4)
        return {(one.index, one.restart): one.image.tobytes() for one in done}

    whole_run = run(jobs)
    for part in (jobs[5:], jobs[::2], jobs[::-1]):
        assert run(part).items() <= whole_run.items()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t["units"],
            "targets must be {'rest': (*, *), 'units': *}, as phi's descriptors and the data term"
            " ask, not *",
        ),
        (
            lambda t: {**t, "rest": t["rest"][:1]},
            "as phi's descriptors and the data term ask, not {'rest': (*,), 'units': *}",
        ),
        (
            lambda t: {**t, "units": t["units"][:, :3]},
            "targets have shape [5, 3] at ['units']; this",
        ),
        (
            lambda t: {**t, "units": t["units"][:3]},
            "targets have 3 rows at ['units'], and 5 before",
        ),
        (lambda t: {**t, "units": np.ones((5, 12), int)}, "targets['units'] of dtype int64"),
        (
            lambda t: {**t, "units": t["units"].at[3].set(np.nan)},
            "targets [3] hold values that are not finite in float32 at ['units']",
        ),
    ],
)
def test_other_trees_are_refused(change, words):
    with pytest.raises(InputError) as caught:
        invert(several, change(targets_of(several)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_other_weights_are_refused():
    with pytest.raises(InputError, match="the recipe's leaf_weights must be .* not {'units': "):
        invert(several, targets_of(several), FEW.replace(leaf_weights={"units": 1.0}))
    row = jax.tree.map(lambda x: np.asarray(x[0]), targets_of(several))
    job = Job(5, row, recipe=FEW.replace(leaf_weights={"units": 1.0, "rest": (1.0, 1.0)}))
    with pytest.raises(InputError, match="job 5: its recipe has other priors or leaf_weights"):
        list(engine.run(several, [job], key=KEY, recipe=FEW, space=SPACE, slots=2))
    with pytest.raises(InputError, match=r"job 5: its target\['units'\] has shape \[3\]"):
        cut = {**row, "units": row["units"][:3]}
        list(engine.run(several, [Job(5, cut)], key=KEY, recipe=FEW, space=SPACE, slots=2))


def test_weights_are_recorded_and_none_are_not():
    weights = {"units": 2.0, "rest": (0.5, 0.25)}
    record = recipes.record(FEW.replace(leaf_weights=weights))
    assert record.pop("leaf_weights") == {"['rest'][0]": 0.5, "['rest'][1]": 0.25, "['units']": 2.0}
    assert record == recipes.record(FEW) and "leaf_weights" not in record
