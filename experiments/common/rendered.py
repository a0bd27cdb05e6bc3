"""Rendered scenes for the scripts that take them by kind, number and seed."""

import hashlib

import jax
import numpy as np
from jax.sharding import Mesh

from posenet_jax import numerics, scenes
from posenet_jax.data.rendered_examples import RenderedExamples
from posenet_jax.data.traces import content_digest
from posenet_jax.errors import InputError

from . import images, options

_BATCH = 32
_INVENTED_FACADES = 256


def batch(mesh: Mesh, together: int, *, unit: int = 1) -> int:
    """Scenes rendered together on all devices; 0 is 32 on each.

    Raises InputError where they are no multiple of `unit` on each device.
    """
    if together % (unit * mesh.size):
        raise InputError(
            f"--render_batch must be a multiple of {unit * mesh.size} on {mesh.size} devices,"
            f" received {together}"
        )
    return together or _BATCH * mesh.size


def rendered_examples(
    kind: str, count: int, seed: int, facades: str | None, output: str, size: int = 100
) -> RenderedExamples:
    """Scenes with the facades of a folder, or with invented ones; files left out are named."""
    mesh = Mesh(np.asarray(jax.local_devices()), ("scenes",))
    atlas, textures, content = _atlas(facades, seed, output)
    return RenderedExamples(
        kind=kind,
        count=count,
        seed=seed,
        atlas=atlas,
        textures=textures,
        facades=content,
        mesh=mesh,
        size=size,
        batch=_BATCH * mesh.size,
    )


def _atlas(facades: str | None, seed: int, output: str) -> tuple[scenes.Atlas, str, str | None]:
    """Returns the atlas, and digests of the names and contents of the files it was made of."""
    if not facades:
        key = jax.random.fold_in(numerics.seed_key(seed), 2**31 - 1)
        return scenes.procedural_atlas(key, num=_INVENTED_FACADES), "procedural", None
    files = images.listed(facades, output)
    made = scenes.atlas_from_files(list(files), max_pixels=options.MAX_PIXELS.value)
    for failure in made.failures:
        images.tell(failure)
    names = "\n".join(file.name for file in files)
    textures = hashlib.sha256(names.encode()).hexdigest()[:16]
    return made.atlas, textures, content_digest(list(files))
