"""Sets of images on which scripts measure what inversions keep: rendered scenes and photographs."""

import functools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax

from posenet_jax import numerics, sharding
from posenet_jax.analysis import findings, layer_retention
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.analysis.layer_retention import Probes
from posenet_jax.images.preprocessing import Preprocessing

from . import images, photo_sets, rendered


class MeasuredSets(NamedTuple):
    """Images by the name of their set, and streets for linear probes where there are streets."""

    groups: dict[str, SceneSet]
    probes: Probes | None
    start_key: jax.Array  # of the inversions' initial noise
    facades_left_out: int
    photographs_left_out: int


def read(
    *,
    kinds: Sequence[str],
    photographs: Sequence[str],
    space: Preprocessing,
    count: int,
    probe_scenes: int,
    seed: int,
    facades: str | None,
    batch: int,
    output: str,
) -> MeasuredSets:
    """Renders `count` scenes of each kind, reads as many photographs of each NAME=FOLDER.

    Probes' streets are rendered when they are asked for. batch: scenes rendered together, 0: as
    many as the devices take. output: the script's folder, whose images do not count.
    """
    photos, unreadable = photo_sets.read(photographs, space, count, kinds, output)
    rendered_key, start_key = jax.random.split(numerics.seed_key(seed))
    groups: dict[str, SceneSet] = {}
    probes, skipped = None, 0
    if kinds:
        atlas_key, scene_key, probe_key = jax.random.split(rendered_key, 3)
        mesh = sharding.device_mesh("scenes")
        _, atlas, left_out = images.facade_atlases(facades, atlas_key, mesh, output)
        skipped = len(left_out)
        draw = partial(
            findings.scene_sets,
            atlas=atlas,
            size=space.side,
            mesh=mesh,
            batch=rendered.batch(mesh, batch),
        )
        groups = draw(scene_key, kinds, count=count, twins=findings.TWINS)

        @functools.cache
        def streets() -> SceneSet:
            return draw(probe_key, ["cities"], count=probe_scenes)["cities"]

        facts = [seed, probe_scenes, space.side, layer_retention.digest(atlas)]
        if "cities" in groups:
            tested = probe_scenes - 2 * probe_scenes // 3
            probes = Probes("cities", streets, tested, facts)
    groups |= {name: findings.photograph_set(found.images) for name, found in photos.items()}
    return MeasuredSets(groups, probes, start_key, skipped, unreadable)
