"""Means of readings of a pose. Oracle: SciPy's rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from scipy.spatial.transform import Rotation

from posenet_jax import geometry
from posenet_jax.encoders.encoder import Encoder, init_params
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.streetnet import Compact
from posenet_jax.evaluation import averaged_poses, pose_evaluation
from posenet_jax.images.preprocessing import Preprocessing

COUNT = 7


@pytest.fixture(scope="module")
def poses():
    rng = np.random.default_rng(0)
    angles, centre = rng.uniform(-1.2, 1.2, (COUNT, 3)), rng.normal(size=(COUNT, 3))
    return np.concatenate([angles, centre], axis=1).astype(np.float32)


def _matrices(poses):
    angles = jnp.asarray(np.asarray(poses)[:, :3])
    return np.asarray(jax.vmap(geometry.rotation_from_yaw_pitch_roll)(angles), np.float64)


def test_inverse_is_the_first_camera_seen_from_the_second(poses):
    back = np.asarray(averaged_poses.inverse(jnp.asarray(poses)))
    turned = Rotation.from_matrix(_matrices(poses)).inv()
    np.testing.assert_allclose(_matrices(back), turned.as_matrix(), atol=1e-5)
    np.testing.assert_allclose(back[:, 3:], -turned.apply(poses[:, 3:]), atol=1e-5)


def test_mirrored_is_the_pose_of_reflected_cameras():
    rng = np.random.default_rng(1)
    cameras = Rotation.random(2 * COUNT, rng=rng).as_matrix().reshape(COUNT, 2, 3, 3)
    centre = rng.normal(size=(COUNT, 2, 3))
    reflected = np.diag([-1.0, 1.0, 1.0])
    both = [
        geometry.relative_poses(jnp.asarray(r, jnp.float32), jnp.asarray(c, jnp.float32))
        for r, c in ((cameras, centre), (reflected @ cameras @ reflected, centre @ reflected))
    ]
    np.testing.assert_allclose(averaged_poses.mirrored(both[0]), both[1], atol=1e-5)


def test_mean_is_the_chordal_mean_of_rotations_and_that_of_centres(poses):
    rng = np.random.default_rng(2)
    readings = [poses + rng.normal(scale=0.2, size=poses.shape).astype(np.float32) for _ in "abc"]
    found = np.asarray(averaged_poses.mean([jnp.asarray(x) for x in readings]))
    turns = np.stack([_matrices(x) for x in readings])
    expected = [Rotation.from_matrix(turns[:, pair]).mean().as_matrix() for pair in range(COUNT)]
    np.testing.assert_allclose(_matrices(found), expected, atol=1e-5)
    np.testing.assert_allclose(found[:, 3:], np.mean(readings, axis=0)[:, 3:], atol=1e-5)
    np.testing.assert_allclose(averaged_poses.mean([jnp.asarray(poses)]), poses, atol=1e-5)


def test_predictions_are_means_of_what_the_heads_say_of_each_reading():
    module = Compact(descriptor_size=16)
    params, head_params = init_params(module, jax.random.key(5))
    scale = PoseScale(mean=jnp.zeros(6), std=jnp.full(6, 0.05))
    space = Preprocessing(means=(104.0, 117.0, 123.0))
    encoder = Encoder(params, head_params, scale, module, space, "small")
    mesh = Mesh(np.asarray(jax.devices()), ("pairs",))
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (4, 2, 10, 10, 3))
    image = coarse.repeat(10, 2).repeat(10, 3).astype(np.uint8)

    def said(views):
        """Rotations and centres of view 2 in view 1's frame, asked for from either view."""
        first, second = (encoder.tap("fc5").describe(view) for view in views)
        here, back = (np.asarray(encoder.poses(*x)) for x in ((first, second), (second, first)))
        turned = _matrices(back).transpose(0, 2, 1)
        there = -np.einsum("pij,pj->pi", turned, back[:, 3:])
        return [(_matrices(here), here[:, 3:]), (turned, there)]

    views = image[:, 0], image[:, 1]
    across = np.diag([-1.0, 1.0, 1.0])
    reflected = said([view[:, :, ::-1] for view in views])
    either = said(views)
    every = either + [(across @ turn @ across, centre @ across) for turn, centre in reflected]
    for readings, of in ((1, either[:1]), (2, either), (4, every)):
        pose = pose_evaluation.predict(encoder, image, mesh, readings=readings).pose
        turns = np.stack([turn for turn, _ in of])
        mean = [Rotation.from_matrix(turns[:, pair]).mean().as_matrix() for pair in range(4)]
        np.testing.assert_allclose(_matrices(pose), mean, atol=1e-3)
        centre = np.mean([centre for _, centre in of], axis=0)
        np.testing.assert_allclose(pose[:, 3:], centre, atol=2e-3)
    assert np.abs(every[0][0] - every[1][0]).max() > 0.01
    assert np.abs(every[1][0] - every[2][0]).max() > 0.01
