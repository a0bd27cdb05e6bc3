"""Inverts the descriptors of images and shows what the network kept of them.

    python -m experiments.invert --images=PHOTOS --layer=fc5 --recipe=calibrated --out=runs/fc5
    python -m experiments.invert --render=streets --scenes=8 --out=runs/streets

Writes results.csv, images/ with the reconstructions, grid.png (original | reconstruction, labelled
with the relative loss) and run.json. Results of an earlier run in the same folder are replaced. The
same seed on the same machine gives the same bytes.
Exit code: 0; 1 if some images could not be read or written (they are named, the others are done);
2 if the run could not be made.
"""

from absl import flags

from experiments.common import inputs, options, runtime

inputs.require()
_OUT = options.out()
# A list here alone, as this script's page of pictures sets layers side by side.
_LAYERS = flags.DEFINE_list(
    "layer",
    "fc5",
    "Layer with the descriptor: one of the encoder's taps, or several with commas between.",
)
_RECIPE = options.recipe()
_ENCODER = options.encoder()
_DECODER = options.start_decoder()
_SEED = options.seed()
_STEPS = options.inversion_steps()
_SLOTS = options.slots()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import functools

from experiments.common import progress, results
from posenet_jax import numerics, reconstruction
from posenet_jax.data.loading import LoadedImages
from posenet_jax.encoders import weights
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.inversion.recipes import RECIPES, with_steps
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.reconstruction import Reconstruction


def _picture(stem: str, layer: str) -> str:
    """Path of a reconstruction in the output folder."""
    return f"images/{stem}.{layer}.png" if len(_LAYERS.value) > 1 else f"images/{stem}.png"


def _grid(originals: LoadedImages, layers: dict[str, Reconstruction]) -> results.Draw:
    """Originals and reconstructions, with the relative loss under each."""
    labels = {
        layer: [f"{value:.3f}" for value in made.result.relative_loss]
        for layer, made in layers.items()
    }
    columns = {"original": originals.pixels} | {layer: made.image for layer, made in layers.items()}
    title = f"{_ENCODER.value}, {_RECIPE.value}: relative loss under each reconstruction"
    return functools.partial(image_grid, columns=columns, cell_labels=labels, title=title)


def main() -> int:
    """Inverts, writes the results and returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    for layer in _LAYERS.value:
        encoder.tap(layer)
    recipe = with_steps(RECIPES[_RECIPE.value], _STEPS.value)
    decoders = {
        layer: reconstruction.start_decoder(encoder, layer, recipe, _DECODER.value)
        for layer in _LAYERS.value
    }
    originals = inputs.load(_OUT.value, encoder.preprocessing)
    files = [_picture(stem, layer) for layer in decoders for stem in originals.stems]
    out = OutputFolder(_OUT.value, "invert", ["grid.png", "results.csv", *files])
    work = len(originals.pixels) * recipe.steps * len(decoders)
    with progress.bar(work, "image·step") as bar:
        layers = {
            layer: reconstruction.reconstruct(
                encoder,
                layer,
                originals.pixels,
                key=numerics.seed_key(_SEED.value),
                recipe=recipe,
                decoder=decoder,
                positions=originals.positions,
                slots=_SLOTS.value or None,
                progress=bar.update,
            )
            for layer, decoder in decoders.items()
        }
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "images_left_out": len(originals.failures),
    }
    rows = [
        row
        for layer, made in layers.items()
        for row in reconstruction.table(
            made, originals.names, layer=layer, positions=originals.positions
        )
    ]
    pictures = {
        _picture(stem, layer): image
        for layer, made in layers.items()
        for stem, image in zip(originals.stems, made.image, strict=True)
    }
    missing = results.write(
        out,
        record,
        tables={"results.csv": rows},
        pictures=pictures,
        pages={"grid.png": _grid(originals, layers)},
    )
    for layer, made in layers.items():
        print(f"{layer}, {len(made.image)} images: {reconstruction.endings(made)}")
        print(*reconstruction.summary(made), sep="\n")
    print(f"wrote {out.path}/grid.png, results.csv, run.json and images/{missing}")
    return 1 if originals.failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
