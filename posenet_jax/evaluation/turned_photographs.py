"""Accuracy of an encoder on views turned on one photograph: real pixels, exact rotations.

Which way a camera turned is what such pairs show (`yaw_correlation`). Their median error says
little: they turn by a few degrees, and an encoder that always answers "hardly" has a small one.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import PhotoPairs
from posenet_jax.data.virtual_rotation import VirtualRotation
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.evaluation.pose_evaluation import Evaluation

_TOGETHER = 64  # pairs cut together, on all devices in total


def evaluate(
    encoder: Encoder,
    photographs: jax.Array,
    pairs: int,
    *,
    key: jax.Array,
    mesh: Mesh,
    readings: int = 1,
) -> Evaluation:
    """Evaluates an encoder on pairs of views of photographs, one field of view a pair.

    photographs: [N, H, W, 3] uint8 on every device. pairs: a multiple of 64, or 8, 16 or 32. Only
    poses count. readings: of a pose, as for `pose_evaluation.predict`. Raises InputError for an
    encoder without heads.
    """
    rotation = VirtualRotation(size=encoder.preprocessing.side)
    source = PhotoPairs(photographs, min(_TOGETHER, pairs), mesh, rotation, posed=True)
    drawn = training_pairs.drawn(source, key, pairs)
    none = jnp.zeros_like(drawn.match_weight)
    return pose_evaluation.evaluate_rendered(
        encoder,
        dataclasses.replace(drawn, match_weight=none, normal_weight=none),
        mesh,
        readings=readings,
    )
