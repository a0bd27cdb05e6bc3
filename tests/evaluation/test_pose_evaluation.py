"""Evaluation: angles against closed forms and SciPy, figures against counts made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from scipy import stats
from scipy.spatial.transform import Rotation

from posenet_jax import metrics
from posenet_jax.data.photograph_pairs import PhotographPairs
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import init_params
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation, rendered_evaluation
from posenet_jax.metrics import PairErrors


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.asarray(jax.devices()), ("pairs",))


def _cameras(count, largest_degrees, seed=0):
    """Random pairs: view 2 turned about a random axis and moved."""
    rng = np.random.default_rng(seed)
    first = Rotation.random(count, rng=rng)
    axis = rng.normal(size=(count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.radians(rng.uniform(0, largest_degrees, count))
    second = first * Rotation.from_rotvec(axis * angle[:, None])
    rotation = np.stack([first.as_matrix(), second.as_matrix()], axis=1).astype(np.float32)
    centre = rng.normal(size=(count, 2, 3)).astype(np.float32)
    return rotation, centre, np.degrees(angle), first


def test_rotation_and_normal_errors_are_angles():
    poses = jnp.zeros((2, 6)).at[1, 0].set(np.deg2rad(30.0))
    np.testing.assert_allclose(
        metrics.rotation_errors(poses, jnp.zeros((2, 6))), [0, 30], atol=1e-3
    )
    normals = jnp.array([[0.0, 0.0, 9.0], [0.0, 3.0, 0.0]])
    truth = jnp.array([[0.0, 0.0, 1.0]] * 2)
    np.testing.assert_allclose(metrics.normal_errors(normals, truth), [0, 90], atol=1e-3)


def test_pair_errors_against_scipy():
    rotation, centre, angle, first = _cameras(40, 80.0)
    errors = metrics.pair_errors(np.zeros((40, 6), np.float32), rotation, centre)
    np.testing.assert_allclose(errors.true_rotation, angle, atol=1e-2)
    np.testing.assert_allclose(errors.rotation, angle, atol=1e-2)  # a pose of zero: the identity
    moved = first.inv().apply(centre[:, 1] - centre[:, 0])
    guess = np.zeros((40, 6), np.float32)
    guess[:, 3] = 5.0
    cosine = moved[:, 0] / np.linalg.norm(moved, axis=1)
    found = metrics.pair_errors(guess, rotation, centre).translation
    np.testing.assert_allclose(found, np.degrees(np.arccos(cosine)), atol=2e-2)


def test_the_correlation_of_yaws_tells_a_mean_from_an_answer_and_left_from_right():
    """Against SciPy: yaw is the turn about the camera's vertical, of cameras that turn level."""
    rng = np.random.default_rng(3)
    yaws = rng.uniform(-40, 40, 50)
    rotation = np.tile(np.eye(3), (50, 2, 1, 1))
    rotation[:, 1] = Rotation.from_euler("y", yaws[:, None], degrees=True).as_matrix()
    centre = np.zeros((50, 2, 3))
    answer = np.zeros((50, 6), np.float32)
    answer[:, 0] = np.radians(yaws + rng.normal(0, 30, 50))
    expected = stats.pearsonr(answer[:, 0], yaws).statistic
    assert 0.3 < expected < 0.9
    found = metrics.yaw_correlation(answer, rotation, centre)
    assert found == pytest.approx(expected, abs=1e-5)
    mirrored = metrics.yaw_correlation(-0.1 * answer, rotation, centre)
    assert mirrored == pytest.approx(-expected, abs=1e-5)
    assert np.isnan(metrics.yaw_correlation(np.zeros((50, 6)), rotation, centre))
    through_zero = np.linalg.lstsq(np.radians(yaws)[:, None], answer[:, 0], rcond=None)[0][0]
    slope = metrics.yaw_slope
    assert slope(answer, rotation, centre) == pytest.approx(through_zero, rel=1e-4)
    assert slope(0.2 * answer, rotation, centre) == pytest.approx(0.2 * through_zero, rel=1e-4)
    still = np.broadcast_to(np.eye(3, dtype=np.float32), rotation.shape)
    assert np.isnan(slope(answer, still, centre))


def test_a_pair_that_does_not_move_has_no_direction():
    rotation, centre, _, _ = _cameras(4, 20.0)
    centre[2, 1] = centre[2, 0]
    found = metrics.pair_errors(np.ones((4, 6), np.float32), rotation, centre).translation
    assert np.isnan(found[2]) and np.isfinite(found[[0, 1, 3]]).all()


def test_bins_count_every_pair_once_and_take_medians_inside():
    true = np.array([0.0, 9.4, 9.6, 50.0, 110.0, 123.0, 170.0])
    errors = PairErrors(true, true / 2, true, true, true)
    rows = pose_evaluation.rotation_bins(errors)
    assert [row["pairs"] for row in rows] == [2, 1, 0, 1, 0, 0, 2]
    assert rows[0]["rotation_median_deg"] == pytest.approx(2.35)
    assert rows[2]["rotation_median_deg"] is None
    assert rows[0]["published_torch_deg"] == 10.6 and rows[6]["published_caffenet_deg"] == 35.8


def _encoder():
    encoder = weights.random_encoder()
    _, heads = init_params(encoder.module, jax.random.key(1))
    return encoder.replace(head_params=heads, pose_scale=PoseScale(jnp.ones(6), 2 * jnp.ones(6)))


def test_predictions_do_not_depend_on_the_batch(mesh):
    encoder = _encoder()
    image = np.random.default_rng(0).integers(0, 256, (6, 2, 100, 100, 3)).astype(np.uint8)
    whole = pose_evaluation.predict(encoder, image, mesh, batch=12)
    parts = pose_evaluation.predict(encoder, image, mesh, batch=8)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
    # The heads by hand: view 2 of the neighbour, and of two pairs before.
    first, second = whole.descriptors[:, 0], whole.descriptors[:, 1]
    outputs = encoder.heads(first, second[[1, 0, 3, 2, 5, 4]])
    np.testing.assert_allclose(whole.hard, outputs.match, rtol=1e-3, atol=1e-2)
    outputs = encoder.heads(first, second[[4, 5, 0, 1, 2, 3]])
    np.testing.assert_allclose(whole.easy, outputs.match, rtol=1e-3, atol=1e-2)
    pose = 1.0 + 2.0 * np.asarray(encoder.heads(first, second).pose)
    np.testing.assert_allclose(whole.pose, pose, rtol=1e-3, atol=1e-2)


def test_pairs_of_weight_zero_have_no_part_in_the_figures(mesh):
    rotation, centre, _, _ = _cameras(8, 60.0)
    image = np.random.default_rng(0).integers(0, 256, (8, 2, 100, 100, 3)).astype(np.uint8)
    weight = np.array([1, 1, 0, 1, 1, 0, 1, 1], np.float32)
    normal = np.tile(np.array([0, 0, -1.0], np.float32), (8, 1))
    pairs = Pairs(image, rotation, centre, normal, weight, weight, weight)
    said = pose_evaluation.predict(_encoder(), image, mesh, batch=16)
    spoilt = pairs.replace(rotation=np.where(weight[:, None, None, None] > 0, rotation, 0.5))
    assert pose_evaluation.summary(said, pairs) == pose_evaluation.summary(said, spoilt)
    assert pose_evaluation.summary(said, pairs)["pairs"] == 6


def test_an_encoder_without_heads_is_refused(mesh):
    with pytest.raises(InputError, match="no heads"):
        pose_evaluation.predict(
            weights.random_encoder(), np.zeros((1, 2, 100, 100, 3), np.uint8), mesh
        )


@pytest.fixture
def nothing_predicted(monkeypatch):
    """Predictions of poses of zero, the identity, and of logits that are the pairs' numbers."""

    def predict(encoder, image, mesh, readings):
        assert readings == 1
        count = len(image)
        numbers, normal = np.arange(count, dtype=float), np.tile([0.0, 0.0, -1.0], (count, 1))
        return pose_evaluation.Predictions(
            np.ones((count, 2, 4)),
            np.zeros((count, 6), np.float32),
            normal,
            *(numbers, -numbers, -2 * numbers),
        )

    monkeypatch.setattr(pose_evaluation, "predict", predict)


def test_rendered_pairs_are_evaluated_where_their_weight_is_not_zero(nothing_predicted):
    rotation, centre, angle, _ = _cameras(6, 60.0)
    weight = np.array([1, 0, 1, 1, 0, 1], np.float32)
    normal = np.tile(np.array([0, 0, -1.0], np.float32), (6, 1))
    pairs = Pairs(np.zeros((6, 2)), rotation, centre, normal, weight, weight, weight)
    found = pose_evaluation.evaluate_rendered(None, pairs, None)
    counted = weight > 0
    assert found.labels == ["0", "2", "3", "5"]
    np.testing.assert_allclose(found.errors.rotation, angle[counted], atol=1e-2)
    assert found.metrics["rotation_median_deg"] == pytest.approx(
        np.median(angle[counted]), abs=0.01
    )
    np.testing.assert_array_equal(found.match, [0, 2, 3, 5])
    np.testing.assert_array_equal(found.others["the same street"], [0, -2, -3, -5])
    np.testing.assert_array_equal(found.others["another street"], [0, -4, -6, -10])
    rows = pose_evaluation.table("streets", found)
    assert [(row["set"], row["pair"]) for row in rows] == [("streets", x) for x in found.labels]
    np.testing.assert_allclose([row["true_rotation"] for row in rows], angle[counted], atol=1e-2)
    first, second = pose_evaluation.sentences("streets", found.metrics)
    assert first.startswith("streets: 4 pairs, rotation ") and "the same street" in second


def test_photographs_are_evaluated_scene_by_scene(nothing_predicted):
    rotation, centre, angle, _ = _cameras(5, 60.0)
    scene = np.array(["wall", "wall", "gate", "wall", "gate"])
    names = [(f"{name}/{i}.png", f"{name}/{i + 1}.png") for i, name in enumerate(scene)]
    pairs = PhotographPairs(np.zeros((5, 2)), rotation, centre, names)
    found = pose_evaluation.evaluate_photographs(None, pairs, None)
    assert found.labels[2] == "gate/2.png gate/3.png" and not len(found.match)
    assert found.metrics["pairs"] == 5
    assert {name: one["pairs"] for name, one in found.metrics["scenes"].items()} == {
        "gate": 2,
        "wall": 3,
    }
    for name, one in found.metrics["scenes"].items():
        for key in ("rotation_median_deg", "identity_median_deg"):
            assert one[key] == pytest.approx(np.median(angle[scene == name]), abs=0.01)
    assert len(pose_evaluation.sentences("photographs", found.metrics)) == 1


def test_rendered_sets_have_the_pairs_and_angles_asked_for(nothing_predicted, monkeypatch):
    """The paper's cameras see 89.75°, half as many pairs; both draw the same streets."""
    sets = rendered_evaluation.rendered_sets(50, 192, 1.5)
    assert {name: one.pairs for name, one in sets.items()} == {
        "rendered": 192,
        "rendered_report_view": 64,
        "rendered_along": 64,
    }
    assert sets["rendered_along"].config.chance_along == 1.0
    for config, *_ in sets.values():
        assert (config.height, config.width, config.angle_between) == (50, 50, (0.0, 1.5))
    paper = sets["rendered_report_view"].config
    np.testing.assert_allclose(np.degrees(paper.field_of_view), 89.75)
    rotation, centre, _, _ = _cameras(64, 60.0)
    weight, normal = np.ones(64, np.float32), np.tile(np.array([0, 0, -1.0], np.float32), (64, 1))
    keys = []

    def draw(source, key):
        keys.append((source.config, tuple(jax.random.key_data(key).tolist())))
        return Pairs(np.zeros((64, 2)), rotation, centre, normal, weight, weight, weight)

    monkeypatch.setattr(rendered_evaluation.RenderedPairs, "__call__", draw)
    done: list[int] = []
    found = rendered_evaluation.evaluate(
        None, None, sets, key=jax.random.key(0), mesh=None, progress=done.append
    )
    assert {name: one.metrics["pairs"] for name, one in found.items()} == {
        name: one.pairs for name, one in sets.items()
    }
    assert done == [64] * 5 and keys[0][1] == keys[3][1] and keys[3][0] == paper
    assert "matching_fpr95" in found["rendered"].metrics
    along = found["rendered_along"].metrics
    assert along["pairs"] == 64 and "yaw_correlation" in along
    assert not {"matching_fpr95", "normal_median_deg"} & along.keys()


def test_pairs_that_only_turn_have_no_error_of_translation_and_warn_of_nothing():
    degrees, none = np.array([3.0, 5.0, 10.0]), np.full(3, np.nan)
    values = dict.fromkeys(pose_evaluation.PairErrors._fields, degrees)
    turns = values | {"translation": none, "constant_translation": none}
    found = pose_evaluation.rotation_summary(pose_evaluation.PairErrors(**turns))
    assert np.isnan(found["translation_median_deg"]) and found["rotation_median_deg"] == 5.0
    one = values | {"translation": np.array([np.nan, 7.0, 9.0])}
    found = pose_evaluation.rotation_summary(pose_evaluation.PairErrors(**one))
    assert found["translation_median_deg"] == 8.0
