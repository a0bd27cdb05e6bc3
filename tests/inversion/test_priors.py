"""Registry of priors: one added from outside is minimised, searched and printed like the others."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.bulk import search
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, objective, recipes
from posenet_jax.inversion.priors import PRIORS, Prior
from posenet_jax.report import inversion_sections

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=4)


@pytest.fixture
def l2(monkeypatch):
    prior = Prior(lambda image: 0.5 * jnp.sum(image * image), "λ L2", (1e-4, 1e2))
    monkeypatch.setitem(PRIORS, "l2", prior)


def test_an_added_prior_is_minimised(l2):
    """Ridge regression: ‖x - t‖₂ + w/2 ‖x‖² is least at t (1 - 1 / (w ‖t‖)) for w ‖t‖ > 1."""
    target = np.random.default_rng(0).normal(0, 10, 48).astype(np.float32)
    weights = np.array([0.02, 0.05, 0.2], np.float32)
    recipe = recipes.PAPER_NO_PRIOR.replace(
        priors={"l2": weights}, steps=600, schedule="cosine", final_rate=1e-3
    )
    found = engine.invert(
        jnp.ravel, np.stack([target] * 3), key=jax.random.key(0), recipe=recipe, space=SPACE
    )
    length = np.linalg.norm(target)
    assert np.all(weights * length > 1.0)
    for image, weight in zip(found.image, weights, strict=True):
        np.testing.assert_allclose(image.ravel(), target / (weight * length), atol=0.05)


def test_an_added_prior_is_drawn_in_a_search(l2):
    recipe = recipes.PAPER.replace(priors={**recipes.PAPER.priors, "l2": 0.5})
    stage = search.second_stage(recipe, 2500)
    assert stage.ranges["l2_weight"] == search.Range(1e-4, 1e2)
    drawn = search.draw(stage, 3, seed=0)
    assert drawn["l2_weight"][0] == 0.5 and len(set(drawn["l2_weight"])) == 4
    own = search.recipe_of(stage, drawn, images=2, steps=30, patience=9)
    for name in ("tv", "l6", "l2"):
        np.testing.assert_array_equal(own.priors[name], np.repeat(drawn[f"{name}_weight"], 2))


def test_an_added_prior_is_a_row_of_table_1(l2, tmp_path):
    recipe = recipes.CALIBRATED.replace(priors={"l2": 0.25, "tv": 0.125})
    rows = inversion_sections.hyperparameters(tmp_path, recipe).parts[0].rows
    shown = {row["hyper-parameter"]: list(row.values())[1:] for row in rows}
    assert shown["λ L2"] == ["not printed", "0", "0.25"]
    assert shown["λ TV"] == ["4.00e-6", "4e-06", "0.125"]
    assert shown["λ L6"] == ["1.95e-15", "1.95e-15", "0"]


def test_the_loss_does_not_depend_on_the_order_of_the_priors():
    image = jnp.asarray(np.random.default_rng(0).normal(0, 50, (8, 8, 3)).astype(np.float32))
    weights = {"tv": 1e-3, "l6": 1e-12, "l6_norm": 1e-2}
    losses = [
        objective.loss(image, image, image, recipes.PAPER.replace(priors=dict(order)))
        for order in (weights.items(), reversed(weights.items()))
    ]
    assert losses[0] == losses[1]


# The options of `calibrated` as inversion.json of a version without `Recipe.priors` has them.
_BEFORE = """{"learning_rate": 40.0, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-08,
"tv_weight": 0.03, "l6_weight": 0.03, "clip_percentile": 21.4, "warmup": 10, "final_rate": 0.02,
"start_deviation": 2.0, "tolerance": 0.05, "steps": 300, "patience": 0, "name": "calibrated",
"data_term": "relative_square", "schedule": "cosine", "l6_form": "power", "start": "noise",
"tv_beta": 1.0, "clipping": false, "stop_early": false}"""


def test_records_are_those_of_folders_begun_before():
    assert recipes.record(recipes.CALIBRATED) == json.loads(_BEFORE)
    other = recipes.PAPER.replace(priors={"l6_norm": 0.5, "tv_squared": 0.25})
    assert recipes.record(other).items() >= {
        "l6_form": "norm", "l6_weight": 0.5, "tv_beta": 2.0, "tv_weight": 0.25,
    }.items()  # fmt: skip
    drawn = recipes.PAPER.replace(priors={"tv": np.array([1e-6, 2e-6]), "l6": 0.0})
    # The digest was computed by hashlib of the float32 bytes.
    assert recipes.record(drawn)["tv_weight"] == "8e8365e205d88269"


@pytest.mark.parametrize("names", [[], ["tv"], ["tv", "tv_squared"], ["tv", "l6", "l6_norm"]])
def test_other_sets_of_priors_are_recorded_by_name(names):
    record = recipes.record(recipes.PAPER.replace(priors=dict.fromkeys(names, 1.0)))
    assert record["priors"] == dict.fromkeys(names, 1.0)
    assert "tv_weight" not in record and json.loads(json.dumps(record)) == record


def test_sparse_edges_are_numpys_sum_of_powers_with_a_gradient_where_the_image_is_flat():
    image = np.random.default_rng(0).normal(0, 0.3, (5, 7, 3))
    image[:3, :3] = 0.25
    right, below = np.zeros_like(image), np.zeros_like(image)
    right[:, :-1], below[:-1] = np.diff(image, axis=1), np.diff(image, axis=0)
    expected = np.sum((np.sum(right**2 + below**2, axis=-1) + 1e-4) ** 0.3)
    penalty = PRIORS["sparse"].penalty
    assert float(penalty(jnp.float32(image))) == pytest.approx(expected, rel=1e-5)
    gradient = np.asarray(jax.grad(penalty)(jnp.float32(image)))
    assert np.all(np.isfinite(gradient)) and not np.any(gradient[1, 1])
    direction = np.random.default_rng(1).normal(size=image.shape)
    moved = [float(penalty(jnp.float32(image + h * direction))) for h in (2e-3, -2e-3)]
    assert np.vdot(gradient, direction) == pytest.approx((moved[0] - moved[1]) / 4e-3, rel=2e-2)
