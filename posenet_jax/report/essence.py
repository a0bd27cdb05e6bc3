"""One page that says what a descriptor holds: images beside pictures made of their descriptors.

    original | calibrated | natural | decoder | draws | mean of draws | their deviation

What all pictures of a descriptor share it determines; where the draws of one generator differ, it
leaves the choice. N images, uint8 RGB [N, H, W, 3].
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from PIL import Image

from posenet_jax import reconstruction
from posenet_jax.data.loading import LoadedImages
from posenet_jax.decoders import decoding, generator_space
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import image_sets
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.images.contact_sheet import contact_sheet
from posenet_jax.inversion.recipes import CALIBRATED, NATURAL, Recipe, with_steps
from posenet_jax.reconstruction import Reconstruction

Array = jax.Array

DRAWS = 4
_ENLARGED = 2


@dataclasses.dataclass(frozen=True)
class Prior:
    """An inversion of the same targets with another prior."""

    title: str
    recipe: Recipe
    decoder: Decoder | None = None

    @property
    def settings(self) -> Recipe:
        """The recipe with the generator that it begins in, if it begins in one."""
        return generator_space.recipe_in(self.recipe, self.decoder)


def essence_priors(decoder: Decoder, generator: Decoder) -> list[Prior]:
    """Returns inversions with no prior, with total variation, and begun in two generators."""
    return [
        Prior("no prior", dataclasses.replace(CALIBRATED, name="no prior", priors={})),
        Prior("calibrated", CALIBRATED),
        Prior("natural", NATURAL, generator),
        Prior("from decoder", NATURAL, decoder),
    ]


def inverted(
    encoder: Encoder,
    layer: str,
    originals: LoadedImages,
    prior: Prior,
    *,
    key: Array,
    steps: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Reconstruction:
    """Returns inversions of the originals' descriptors with a prior. steps: None: the recipe's."""
    return reconstruction.reconstruct(
        encoder,
        layer,
        originals.pixels,
        key=key,
        recipe=with_steps(prior.recipe, steps),
        decoder=prior.decoder,
        positions=originals.positions,
        progress=progress,
    )


def drawn(
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    decoder: Decoder,
    generator: Decoder,
    *,
    key: Array,
) -> dict[str, np.ndarray]:
    """Returns the columns made without inversion: heading -> pictures."""
    targets = encoder.tap(layer).describe(originals)
    made = decoding.draws(generator, targets, key, count=2 * DRAWS)
    of_draws = image_sets.draw_columns(made, originals)
    spread = {name: own for name, own in of_draws.items() if name.split()[0] in _SPREAD}
    return {
        "decoder": decoding.draws(decoder, targets, key, count=1)[0],
        **{f"draw {number + 1}": made[number] for number in range(min(DRAWS, len(made)))},
        **spread,
    }


_SPREAD = ("mean", "deviation")  # of the draws


def losses(
    encoder: Encoder, layer: str, originals: np.ndarray, columns: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns heading -> relative loss [N] of each column's pictures encoded anew."""
    tap = encoder.tap(layer)
    targets = tap.describe(originals)
    context = Context(tap, targets, originals, originals)
    found = {}
    for name, pictures in columns.items():
        own = measured(context.with_pictures(pictures), ["picture_relative_loss"])
        found[name] = own["picture_relative_loss"]
    return found


def page(
    originals: np.ndarray,
    columns: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    title: str,
) -> np.ndarray:
    """Returns the page, uint8 RGB [H, W, 3], twice as large as a contact sheet.

    labels: heading -> relative loss [N], below each picture.
    """
    cells = {name: [f"{value:.3f}" for value in values] for name, values in labels.items()}
    sheet = contact_sheet({"original": originals, **columns}, cell_labels=cells, title=title)
    size = _ENLARGED * sheet.shape[1], _ENLARGED * sheet.shape[0]
    return np.asarray(Image.fromarray(sheet).resize(size, Image.Resampling.LANCZOS))


def decoders(
    encoder: Encoder, layer: str, decoder: str | None, generator: str | None
) -> tuple[Decoder, Decoder]:
    """Returns the decoder of the mean image, and the generator; the bundled ones of None."""
    return (
        decoding.decoder_for(encoder, layer, decoder),
        generator_space.generator_for(encoder, layer, generator),
    )
