"""Inverts the descriptors of a folder of images and shows what the network kept of them.

    python -m experiments.invert --images=PHOTOS --layer=fc5 --recipe=calibrated --out=runs/fc5

Writes results.csv, images/ with the reconstructions, grid.png (original | reconstruction, labelled
with the relative loss) and run.json. Results of an earlier run in the same folder are replaced. The
same seed on the same machine gives the same bytes.
Exit code: 0; 1 if some images could not be read or written (they are named, the others are done);
2 if the run could not be made.
"""

from typing import NamedTuple

from absl import flags

from experiments.common import options, runtime

_IMAGES = options.images(required=True)
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
_LIMIT = options.limit()
_SEED = options.seed()
_STEPS = options.inversion_steps()
_SLOTS = options.slots()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import numpy as np
from tqdm import tqdm

from experiments.common import images
from posenet_jax import numerics, reconstruction
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import results_table
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.inversion.descent import Status
from posenet_jax.inversion.recipes import RECIPES, Recipe, with_steps
from posenet_jax.io.files import write_csv, write_png
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.provenance import run_record


class _Images(NamedTuple):
    """N images that could be read."""

    pixels: np.ndarray  # [N, H, W, 3] uint8 RGB
    names: list[str]  # of their pictures
    positions: list[int]  # in the list of files
    paths: list[str]  # below the folder: names in results.csv
    left_out: int


def _load_images(encoder: Encoder) -> _Images:
    files = images.listed(_IMAGES.value, _OUT.value, _LIMIT.value)
    found = images.read_some(files, encoder.preprocessing)
    positions = images.positions(files, found)
    paths = [files.name(position) for position in positions]
    return _Images(np.stack(found.images), found.names, positions, paths, len(found.failures))


def _decoders(encoder: Encoder, recipe: Recipe) -> dict[str, decoding.Decoder | None]:
    """Decoders of every layer, where the recipe begins with their images."""
    if recipe.start == "noise" and not _DECODER.value:
        return dict.fromkeys(_LAYERS.value)
    return {layer: decoding.decoder_for(encoder, layer, _DECODER.value) for layer in _LAYERS.value}


def _reconstruct_layers(
    encoder, originals: _Images, recipe, decoders
) -> dict[str, reconstruction.Reconstruction]:
    work = len(originals.pixels) * recipe.steps * len(_LAYERS.value)
    with tqdm(total=work, unit="image·step", mininterval=1.0, dynamic_ncols=True) as bar:
        return {
            layer: reconstruction.reconstruct(
                encoder,
                layer,
                originals.pixels,
                key=numerics.seed_key(_SEED.value),
                recipe=recipe,
                decoder=decoders[layer],
                positions=originals.positions,
                slots=_SLOTS.value or None,
                progress=bar.update,
            )
            for layer in _LAYERS.value
        }


def _picture(name: str, layer: str) -> str:
    """Path of a reconstruction in the output folder."""
    return f"images/{name}.{layer}.png" if len(_LAYERS.value) > 1 else f"images/{name}.png"


def _write(out: OutputFolder, originals: _Images, layers, record: dict) -> str:
    """Writes table and record first, for their room, and names them last, when all is there."""
    out.begin()
    rows = [
        row
        for layer, made in layers.items()
        for row in reconstruction.table(
            made, originals.paths, layer=layer, positions=originals.positions
        )
    ]
    write_csv(out.held("results.csv"), rows)
    out.write_record(run_record(flags.FLAGS.flag_values_dict(), record))
    for layer, made in layers.items():
        for name, picture in zip(originals.names, made.image, strict=True):
            with out.spared():
                write_png(out.path / _picture(name, layer), picture)
    labels = {
        layer: [f"{value:.3f}" for value in made.result.relative_loss]
        for layer, made in layers.items()
    }
    columns = {"original": originals.pixels} | {layer: made.image for layer, made in layers.items()}
    title = f"{_ENCODER.value}, {_RECIPE.value}: relative loss under each reconstruction"
    with out.spared():
        image_grid(out.path / "grid.png", columns, cell_labels=labels, title=title)
    return out.finish(runtime.tell)


def _summarise(layers: dict[str, reconstruction.Reconstruction]) -> None:
    """Prints what became of the inversions, and their measures beside the controls."""
    for layer, made in layers.items():
        counts = {s.sentence: int(np.sum(made.result.status == s)) for s in Status}
        status = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        print(f"{layer}, {len(made.image)} images: {status}")
        values = {"relative_loss": made.result.relative_loss} | made.measures
        print(*results_table.summary(values), sep="\n")


def main() -> int:
    """Inverts, writes the results and returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    for layer in _LAYERS.value:
        encoder.tap(layer)
    recipe = with_steps(RECIPES[_RECIPE.value], _STEPS.value)
    decoders = _decoders(encoder, recipe)
    originals = _load_images(encoder)
    pictures = [_picture(name, layer) for layer in decoders for name in originals.names]
    out = OutputFolder(_OUT.value, "invert", ["grid.png", "results.csv", *pictures])
    layers = _reconstruct_layers(encoder, originals, recipe, decoders)
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "images_left_out": originals.left_out,
    }
    missing = _write(out, originals, layers, record)
    _summarise(layers)
    print(f"wrote {out.path}/grid.png, results.csv, run.json and images/{missing}")
    return 1 if originals.left_out or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
