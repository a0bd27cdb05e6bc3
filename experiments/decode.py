"""Decodes the descriptors of images with a trained decoder, and measures what came back.

    python -m experiments.decode --images=PHOTOS --layer=fc5 --out=runs/decoded

Writes results.csv, one row an image with every measure beside its controls, images/ with the
decoded pictures, grid.png and run.json. The measures: mean squared error (1 = from black to white),
PSNR, SSIM; relative loss of the picture encoded anew (eq. 3), its pairwise-normalised error, the
rank of its original among all; agreement of the pose heads; luminance correlation; spectral
deviation; relative loss in a judge network. Exit code: 0; 1 if some images could not be read (they
are named, the others are done); 2 if the run could not be made.
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags

from experiments import runtime
from posenet_jax import decoding, fidelity, image_files, reporting, weights
from posenet_jax.errors import InputError
from posenet_jax.reconstruction import descriptors

_IMAGES = flags.DEFINE_string("images", None, "Folder, glob or file of images.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_LAYER = flags.DEFINE_enum("layer", "fc5", ["fc5", "conv4"], "Whose descriptors to decode.")
_ENCODER = flags.DEFINE_string("encoder", "streetnet", "A bundled encoder or a .safetensors file.")
_DECODER = flags.DEFINE_string(
    "decoder",
    None,
    "A bundled decoder or a .safetensors file; ENCODER-LAYER if not given.",
)
_JUDGE = flags.DEFINE_string(
    "judge", "judge", "Encoder that no decoder was trained on, to compare pictures; empty: none."
)
_LIMIT = flags.DEFINE_integer("limit", 0, "Images at most, by name; 0: all.", lower_bound=0)
_GRID = flags.DEFINE_integer("grid", 32, "Images shown in grid.png.", lower_bound=1)


def main() -> int:
    """Decodes, writes the results and returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    decoder = decoding.decoder_for(encoder, _LAYER.value, _DECODER.value)
    tap, space = encoder.tap(decoder.layer), encoder.preprocessing
    paths = image_files.find_images(_IMAGES.value)[: _LIMIT.value or None]
    found = image_files.read_images(paths, space)
    for failure in found.failures:
        print(f"left out: {failure}", file=sys.stderr)
    if not found.images:
        raise InputError(f"none of the {len(paths)} images in {_IMAGES.value} could be read")
    out = reporting.prepare_output(_OUT.value)
    originals = np.stack(found.images)
    targets = descriptors(tap, originals, space)
    pictures = np.asarray(space.to_image(decoding.decode(decoder, targets)))
    judge = weights.load_encoder(_JUDGE.value).tap("fc5") if _JUDGE.value else None
    measures = fidelity.measures(encoder, tap, targets, pictures, originals, judge)
    rows = [
        {"image": name, "layer": decoder.layer, "decoder": decoder.name}
        | {measure: values[row].item() for measure, values in measures.items()}
        for row, name in enumerate(found.names)
    ]
    _write(out, originals, pictures, found.names, measures)
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "decoder": decoder.name,
        "images_left_out": len(found.failures),
    }
    reporting.write_json(
        out / "run.json", reporting.run_record(flags.FLAGS.flag_values_dict(), record)
    )
    reporting.write_csv(out / "results.csv", rows)
    print(f"{len(rows)} images; medians:")
    for measure, values in measures.items():
        print(f"  {measure:30}{np.median(values):10.4f}")
    print(f"wrote {out}/grid.png, results.csv, run.json and images/")
    return 1 if found.failures else 0


def _write(out: Path, originals, pictures, names, measures) -> None:
    folder = out / "images"
    folder.mkdir(exist_ok=True)
    for name, picture in zip(names, pictures, strict=True):
        reporting.write_png(folder / f"{name}.png", picture)
    shown = slice(0, _GRID.value)
    labels = [f"{psnr:.1f} dB" for psnr in measures["psnr"][shown]]
    reporting.image_grid(
        out / "grid.png",
        {"original": originals[shown], "decoded": pictures[shown]},
        cell_labels={"decoded": labels},
        title=f"{_ENCODER.value}, decoded: PSNR under each",
    )


if __name__ == "__main__":
    runtime.run(main)
