"""Images through an encoder and back: inversion of their descriptors, with their measures.

N images at both ends, uint8 [N, H, W, C] as the encoder reads them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import struct

from posenet_jax import metrics
from posenet_jax.decoders import generator_space
from posenet_jax.decoders.decoding import Decoder, decode, decoder_for, draws
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import results_table
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.evaluation.method_comparison import Method
from posenet_jax.inversion import engine
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.recipes import Recipe

if TYPE_CHECKING:  # it brings TensorFlow Datasets, which takes seconds
    from posenet_jax.data.loading import LoadedImages

Array = jax.Array


@struct.dataclass
class Reconstruction:
    """One entry an image. Each measure is an attribute too: `reconstruction.luminance_rank`."""

    image: np.ndarray  # [N, H, W, C] uint8
    result: engine.Result
    measures: dict[str, np.ndarray]  # [N] each, of `evaluation.measures`, controls among them

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["measures"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}") from None


def start_decoder(encoder: Encoder, layer: str, recipe: Recipe, name: str | None) -> Decoder | None:
    """Returns the decoder whose images inversions begin with; None where they begin with noise.

    Of a recipe that begins in a generator, that generator. name: a bundled one or a .safetensors
    file; None: the layer's own where the recipe wants one.
    """
    if recipe.start == "noise" and not name:
        return None
    if recipe.start == "generator":
        return generator_space.generator_for(encoder, layer, name)
    return decoder_for(encoder, layer, name)


def reconstruct(
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    *,
    key: Array,
    recipe: Recipe,
    decoder: Decoder | None = None,
    positions: Sequence[int] | None = None,
    slots: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Reconstruction:
    """Encodes uint8 images [N, H, W, C] at `layer` and inverts their descriptors.

    recipe: without groups, for which there is `reconstruct_group`.
    positions: of the images in the list that they were read from; None: none was left out.
    decoder: of this layer, where the recipe begins with a decoder's images or in a generator.
    Raises InputError where one is wanted and not given, or given and not wanted.
    """
    (made,) = reconstruct_group(
        encoder,
        layer,
        originals,
        key=key,
        recipe=recipe,
        decoder=decoder,
        positions=positions,
        slots=slots,
        progress=progress,
    )
    return made


def reconstruct_group(
    encoder: Encoder,
    layer: str,
    originals: np.ndarray,
    *,
    key: Array,
    recipe: Recipe,
    decoder: Decoder | None = None,
    positions: Sequence[int] | None = None,
    slots: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Reconstruction]:
    """Returns the reconstructions by each member of the recipe's groups, as `reconstruct` does."""
    tap, space = encoder.tap(layer), encoder.preprocessing
    targets = tap.describe(originals)
    result = engine.invert(
        tap,
        targets,
        key=key,
        recipe=generator_space.recipe_in(recipe, decoder),
        start=decode(decoder, targets) if decoder and recipe.start != "generator" else None,
        positions=positions,
        slots=slots,
        progress=progress,
    )
    pictures = np.asarray(space.to_image(result.image))
    if recipe.group == 1:
        result, pictures = jax.tree.map(lambda x: x[:, None], (result, pictures))
    context = Context(tap, targets, pictures[:, 0], originals, encoder=encoder)
    return [
        Reconstruction(
            image=pictures[:, member],
            result=jax.tree.map(lambda x, member=member: x[:, member], result),
            measures=measured(context.with_pictures(pictures[:, member]) if member else context),
        )
        for member in range(recipe.group)
    ]


def together(members: Sequence[Reconstruction]) -> Reconstruction:
    """Returns the reconstructions of all members, those of the first one first: R · N entries."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *members)


def group_table(
    members: Sequence[Reconstruction],
    independent: Sequence[Reconstruction],
    names: Sequence[str],
    *,
    layer: str,
) -> list[dict[str, Any]]:
    """Returns a line for each image: mean distance and fidelity of its members.

    independent: as many restarts that do not repel each other, to compare with.
    """
    columns: dict[str, Any] = {"image": names, "layer": [layer] * len(names)}
    for before, group in (("", members), ("independent_", independent)):
        pictures = np.stack([member.image for member in group], axis=1)
        losses = np.stack([member.result.relative_loss for member in group], axis=1)
        columns[f"{before}distance"] = [float(metrics.spread(own)) for own in pictures]
        columns[f"{before}relative_loss"] = losses.mean(axis=1).tolist()
        columns[f"{before}worst_relative_loss"] = losses.max(axis=1).tolist()
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def group_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the means of a `group_table` in words."""
    means = {name: np.mean([row[name] for row in rows]) for name in rows[0] if "_loss" in name}
    apart, other = (np.mean([row[f"{of}distance"] for row in rows]) for of in ("", "independent_"))
    return (
        f"restarts of an image are {apart:.1f} grey levels apart at a relative loss of "
        f"{means['relative_loss']:.4f}; independent ones {other:.1f} at "
        f"{means['independent_relative_loss']:.4f}"
    )


def figures(reconstruction: Reconstruction) -> list[dict[str, Any]]:
    """Returns numbers and status of each image, by the columns of results.csv."""
    result = reconstruction.result
    return [
        {
            "steps": int(result.steps[i]),
            "starts": int(result.starts[i]),
            "status": Status(int(result.status[i])).sentence,
            "loss": float(result.loss[i]),
            "relative_loss": float(result.relative_loss[i]),
            "descriptor_error": float(result.descriptor_error[i]),
        }
        | {name: values[i].item() for name, values in reconstruction.measures.items()}
        for i in range(len(reconstruction.image))
    ]


INVERSION = "inversion"
"""Name of inversion among the methods that make pictures of descriptors."""


def by_methods(
    encoder: Encoder,
    layer: str,
    originals: "LoadedImages",
    targets: np.ndarray,
    *,
    key: Array,
    decoders: Sequence[Decoder],
    count: int,
    recipe: Recipe | None = None,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, Method]:
    """Makes pictures of the originals' descriptors at `layer`, `targets`: by each decoder, then by
    inversion.

    count: draws of a decoder that reads noise. recipe: of the inversion, which begins with noise;
    None: no inversion. progress: as in `reconstruct`.
    """
    methods = {one.name: Method(draws(one, targets, key, count=count)) for one in decoders}
    if recipe is not None:
        made = reconstruct(
            encoder,
            layer,
            originals.pixels,
            key=key,
            recipe=recipe,
            positions=originals.positions,
            progress=progress,
        )
        methods[INVERSION] = Method(made.image[None], figures(made))
    return methods


def endings(reconstruction: Reconstruction) -> str:
    """Returns the counts of inversions by the reason of their end, as a sentence lists them."""
    counts = {one.sentence: int(np.sum(reconstruction.result.status == one)) for one in Status}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def summary(reconstruction: Reconstruction) -> list[str]:
    """Returns lines for a person: the measures beside their controls."""
    loss = {"relative_loss": reconstruction.result.relative_loss}
    return results_table.summary(loss | reconstruction.measures)


def table(
    reconstruction: Reconstruction,
    names: Sequence[str],
    *,
    layer: str,
    positions: Sequence[int] | None = None,
    restart: int = 0,
) -> list[dict[str, Any]]:
    """Returns a line of results.csv for each image.

    positions: of the images in the list that they were read from; None: none was left out.
    """
    numbers = range(len(names)) if positions is None else positions
    return [
        results_table.line(position=position, image=name, layer=layer, figures=own, restart=restart)
        for position, name, own in zip(numbers, names, figures(reconstruction), strict=True)
    ]
