"""Inverts the descriptors of images and shows what the network kept of them.

    posenet-jax invert --images=PHOTOS --layer=fc5 --recipe=calibrated --out=runs/fc5
    posenet-jax invert --images=PHOTOS --restarts=4 --diverse=0.03 --out=runs/groups
    posenet-jax invert --render=streets --scenes=8 --out=runs/streets

Writes results.csv, images/ with the reconstructions, grid.png (original | reconstruction, labelled
with the relative loss) and run.json. Results of an earlier run in the same folder are replaced. The
same seed on the same machine gives the same bytes. With --diverse an image's restarts repel each
other, groups.csv says how far apart they are, and the run takes twice as long: it makes as many
independent ones to compare with.
Exit code: 0; 1 if some images could not be read or written (they are named, the others are done);
2 if the run could not be made.
"""

from absl import flags

from .common import inputs, options, recipe_options, runtime

inputs.require()
_OUT = options.out()
# A list here alone, as this script's page of pictures sets layers side by side.
_LAYERS = flags.DEFINE_list(
    "layer",
    "fc5",
    "Layer with the descriptor: one of the encoder's taps, or several with commas between.",
)
_ENCODER = options.encoder()
_DECODER = options.start_decoder()
_SEED = options.seed()
_SLOTS = options.slots()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import functools
from typing import Any

from posenet_jax import numerics, reconstruction
from posenet_jax.data.loading import LoadedImages
from posenet_jax.encoders import weights
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.reconstruction import Reconstruction

from .common import inverting, progress, results


def _grid(originals: LoadedImages, columns: dict[str, Reconstruction]) -> results.Draw:
    """Originals and reconstructions, with the relative loss under each."""
    labels = {
        name: [f"{value:.3f}" for value in made.result.relative_loss]
        for name, made in columns.items()
    }
    pictures = {"original": originals.pixels}
    pictures |= {name: made.image for name, made in columns.items()}
    recipe = recipe_options.RECIPE.value
    title = f"{_ENCODER.value}, {recipe}: relative loss under each reconstruction"
    return functools.partial(image_grid, columns=pictures, cell_labels=labels, title=title)


def main() -> int:
    """Inverts, writes the results and returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    for layer in _LAYERS.value:
        encoder.tap(layer)
    restarts, recipe = recipe_options.RESTARTS.value, recipe_options.chosen()
    recipes = inverting.recipes(recipe, restarts)
    decoders = {
        layer: reconstruction.start_decoder(encoder, layer, recipe, _DECODER.value)
        for layer in _LAYERS.value
    }
    originals = inputs.load(_OUT.value, encoder.preprocessing)
    pictures = inverting.names(originals.stems, list(decoders), restarts)
    tables = ["results.csv", *(["groups.csv"] if restarts > 1 else [])]
    out = OutputFolder(_OUT.value, "invert", ["grid.png", *tables, *pictures])
    with progress.bar(len(pictures) * recipe.steps * len(recipes), "image·step") as bar:
        found = [
            {
                layer: reconstruction.reconstruct_group(
                    encoder,
                    layer,
                    originals.pixels,
                    key=numerics.seed_key(_SEED.value),
                    recipe=own,
                    decoder=decoder,
                    positions=originals.positions,
                    slots=_SLOTS.value or None,
                    progress=bar.part(),
                )
                for layer, decoder in decoders.items()
            }
            for own in recipes
        ]
    layers = found[0]
    rows = inverting.tables(layers, found[-1], originals)
    record: dict[str, Any] = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "images_left_out": len(originals.failures),
    }
    if begun := {own.name: own.fingerprint for own in decoders.values() if own}:
        record["decoders"] = begun
    missing = results.write(
        out,
        record,
        tables=rows,
        pictures=inverting.pictures(layers, originals.stems),
        pages={"grid.png": _grid(originals, inverting.columns(layers))},
    )
    print(*inverting.sentences(layers, rows.get("groups.csv", [])), sep="\n")
    print(f"wrote {out.path}/grid.png, {', '.join(tables)}, run.json and images/{missing}")
    return 1 if originals.failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
