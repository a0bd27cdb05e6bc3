"""Rendered scenes as a source: both views of each."""

import functools
from typing import TYPE_CHECKING

from absl import flags

from . import buckets, options
from .source import Given, Option, Source

if TYPE_CHECKING:
    from posenet_jax.data.rendered_examples import RenderedImages


def _open(given: Given) -> "RenderedImages":
    from posenet_jax.data.rendered_examples import RenderedImages

    from .rendered import rendered_examples

    count, seed, facades = (given.options[name] for name in ("scenes", "scene_seed", "facades"))
    examples = rendered_examples(given.value, count, seed, facades, given.output)
    return RenderedImages(examples, given.limit or None)


RENDERED = Source(
    "render",
    "Kind of scenes to render instead of reading --images.",
    _open,
    (
        Option(
            "scenes",
            1000,
            "Scenes to render, two views of each.",
            functools.partial(flags.DEFINE_integer, lower_bound=1),
        ),
        Option(
            "scene_seed",
            0,
            "Seed of the rendered scenes, besides --seed.",
            functools.partial(flags.DEFINE_integer, lower_bound=0),
        ),
        Option("facades", None, options.FACADES, buckets.string),
    ),
    define=options.kind,
)
