"""Rendered scenes for the scripts that take them by kind, number and seed."""

import jax
import numpy as np
from jax.sharding import Mesh

from experiments import images
from posenet_jax import scenes
from posenet_jax.data.rendered_examples import RenderedExamples

_BATCH = 32
_INVENTED_FACADES = 256


def rendered_examples(
    kind: str, count: int, seed: int, facades: str | None, output: str, size: int = 100
) -> RenderedExamples:
    """Scenes with the facades of a folder, or with invented ones; files left out are named."""
    mesh = Mesh(np.asarray(jax.local_devices()), ("scenes",))
    atlas, textures = _atlas(facades, seed, output)
    return RenderedExamples(
        kind=kind,
        count=count,
        seed=seed,
        atlas=atlas,
        textures=textures,
        mesh=mesh,
        size=size,
        batch=_BATCH * mesh.size,
    )


def _atlas(facades: str | None, seed: int, output: str) -> tuple[scenes.Atlas, str]:
    """(the atlas, what it was made of)."""
    if not facades:
        key = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)
        return scenes.procedural_atlas(key, num=_INVENTED_FACADES), "procedural"
    files = images.listed(facades, output)
    made = scenes.atlas_from_files(list(files), max_pixels=images.MAX_PIXELS.value)
    for failure in made.failures:
        images.tell(failure)
    return made.atlas, files.fingerprint
