"""Decodes the descriptors of images with a trained decoder, and measures what came back.

    python -m experiments.decode --images=PHOTOS --layer=fc5 --out=runs/decoded
    python -m experiments.decode --compare --images=PHOTOS --layer=fc5 --out=runs/compared

--compare sets all bundled decoders of the layer side by side, and inversion by optimisation (recipe
calibrated). Writes results.csv, one row an image and method with every measure beside its control,
metrics.json, images/METHOD/ with the pictures, grid.png and run.json.

Of each picture: mean squared error (1 = from black to white), PSNR, SSIM; relative loss of the
picture encoded anew (eq. 3), its pairwise-normalised error, the rank of its original among all;
agreement of the pose heads; luminance correlation; spectral deviation; relative loss in a judge
network. In metrics.json their means, medians and intervals of 95 % over images, and of the whole
set: energy_ratio, gradient energy over the originals' (1: as sharp); kernel_distance to the
originals in the judge's conv4 (KID; the originals' own halves beside it); diversity_ratio. A
decoder that reads noise is measured on one draw; draws.png, draw_variance (of a pixel over draws)
and mean_error (of their mean) show what the descriptor leaves open.

Results of an earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not
be read or written (they are named, the others are done); 2 if the run could not be made.
"""

from pathlib import Path
from typing import Any

from absl import flags

from experiments.common import options, runtime

_IMAGES = options.images(required=True)
_OUT = options.out()
_LAYER = options.decoded_layer()
_ENCODER = options.encoder()
_DECODER = flags.DEFINE_list(
    "decoder",
    None,
    "Decoders, with commas between: bundled ones or .safetensors files; ENCODER-LAYER if not given,"
    " or with --compare all that are bundled for it.",
)
_COMPARE = flags.DEFINE_bool(
    "compare",
    False,
    "Set all bundled decoders of the layer and inversion by optimisation side by side.",
)
_JUDGE = options.judge()
_LIMIT = options.limit()
_GRID = options.shown(32)
_DRAWS = flags.DEFINE_integer(
    "draws", 8, "Images made of each descriptor, by decoders that read noise.", lower_bound=2
)
_STEPS = options.inversion_steps()
_SEED = options.seed()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import jax
import numpy as np
from tqdm import tqdm

from experiments.common import images
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation import image_sets, results_table
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.images import contact_sheet
from posenet_jax.inversion import recipes
from posenet_jax.io import files, provenance
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.metrics import bootstrap_summary, kernel_distance
from posenet_jax.reconstruction import Reconstruction, figures, reconstruct

_SHOWN_DRAWS = 3
_DEVIATION = 4  # times, in draws.png


def _decoders(encoder: Encoder) -> list[decoding.Decoder]:
    layer, names = _LAYER.value, _DECODER.value
    if not names and _COMPARE.value:
        names = decoding.bundled(encoder, layer)
    names = names or [f"{encoder.name}-{layer}"]
    found = [decoding.decoder_for(encoder, layer, name) for name in names]
    if len({decoder.name for decoder in found}) < len(found):
        raise InputError("two of the decoders have the same name; rename one file")
    return found


def _inverted(encoder: Encoder, originals: np.ndarray) -> Reconstruction:
    recipe = recipes.with_steps(recipes.CALIBRATED, _STEPS.value)
    work = len(originals) * recipe.steps
    with tqdm(total=work, unit="image·step", mininterval=1.0, dynamic_ncols=True) as bar:
        return reconstruct(
            encoder,
            _LAYER.value,
            originals,
            key=jax.random.key(_SEED.value),
            recipe=recipe,
            progress=bar.update,
        )


def main() -> int:
    """Decodes, writes the results and returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    decoders = _decoders(encoder)
    tap, space = encoder.tap(_LAYER.value), encoder.preprocessing
    listed = images.listed(_IMAGES.value, _OUT.value, _LIMIT.value)
    found = images.read_some(listed, space)
    positions = images.positions(listed, found)
    out = OutputFolder(_OUT.value, "decode", _files(decoders, found.names))
    originals = np.stack(found.images)
    targets = tap.describe(originals)
    judge = weights.load_encoder(_JUDGE.value) if _JUDGE.value else None
    pictures: dict[str, np.ndarray] = {}
    summary: dict[str, Any] = {}
    drawn: dict[str, np.ndarray] = {}
    told: dict[str, list[dict[str, Any]]] = {}  # what an inversion says of itself
    for decoder in decoders:
        count = _DRAWS.value if decoder.noise else 1
        keys = jax.random.split(jax.random.key(_SEED.value), count)
        draws = np.stack([space.to_image(decoding.decode(decoder, targets, key)) for key in keys])
        pictures[decoder.name], summary[decoder.name] = draws[0], {}
        if decoder.noise:
            summary[decoder.name] = image_sets.draw_measures(draws, originals)
            drawn[decoder.name] = draws
    if _COMPARE.value:
        inverted = _inverted(encoder, originals)
        pictures["inversion"], summary["inversion"] = inverted.image, {}
        told["inversion"] = figures(inverted)
    rows, psnr = [], {}
    nothing: list[dict[str, Any]] = [{}] * len(originals)
    near, far = (judge.tap("fc5"), judge.tap("conv4")) if judge else (None, None)
    for method, made in pictures.items():
        measures = measured(Context(tap, targets, made, originals, near, encoder))
        psnr[method] = [f"{value:.1f} dB" for value in measures["psnr"][: _GRID.value]]
        summary[method] |= {name: bootstrap_summary(values) for name, values in measures.items()}
        summary[method] |= image_sets.set_measures(made, originals, far)
        rows += [
            results_table.line(
                position=position,
                image=listed.name(position),
                layer=_LAYER.value,
                method=method,
                figures=told.get(method, nothing)[row]
                | {name: values[row].item() for name, values in measures.items()},
            )
            for row, position in enumerate(positions)
        ]
    if judge and len(originals) > 3:
        known = image_sets.features(judge.tap("conv4"), originals)
        halves = kernel_distance(known[::2], known[1::2])
        summary["originals"] = {"kernel_distance_of_halves": halves}
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "decoders": {decoder.name: decoder.fingerprint for decoder in decoders},
        "images_left_out": len(found.failures),
    }
    out.begin()
    files.write_csv(out.held("results.csv"), rows)
    metrics = {"images": len(originals), "methods": summary}
    files.write_json(out.held("metrics.json"), metrics)
    out.write_record(provenance.run_record(flags.FLAGS.flag_values_dict(), record))
    for method, made in pictures.items():
        for name, picture in zip(found.names, made, strict=True):
            with out.spared():
                files.write_png(out.path / _picture(method, name), picture)
    for name, draws in drawn.items():
        with out.spared():
            _write_draws(out.path / _draws(name), originals, draws)
    with out.spared():
        _write_grid(out.path / "grid.png", originals, pictures, psnr)
    missing = out.finish(runtime.tell)
    _print(summary, list(pictures), len(originals))
    print(f"wrote {out.path}/grid.png, results.csv, metrics.json, run.json and images/{missing}")
    return 1 if found.failures or out.failures else 0


def _files(decoders: list[decoding.Decoder], names: list[str]) -> list[str]:
    """All that a run may write."""
    methods = [decoder.name for decoder in decoders] + ["inversion"] * _COMPARE.value
    pictures = [_picture(method, name) for method in methods for name in names]
    draws = [_draws(decoder.name) for decoder in decoders if decoder.noise]
    return ["grid.png", "results.csv", "metrics.json", *draws, *pictures]


def _picture(method: str, name: str) -> str:
    return f"images/{method}/{name}.png"


def _draws(decoder: str) -> str:
    return f"draws-{decoder}.png"


def _print(summary: dict[str, Any], methods: list[str], count: int) -> None:
    names = dict.fromkeys(name for method in methods for name in summary[method])
    print(f"{count} images; medians, and figures of the set:")
    print(" " * 30 + "".join(f"{method[-26:]:>28}" for method in methods))
    for name in names:
        values = [summary[method].get(name, np.nan) for method in methods]
        shown = [value["median"] if isinstance(value, dict) else value for value in values]
        print(f"  {name:28}" + "".join(f"{value:28.4f}" for value in shown))


def _write_grid(path: Path, originals: np.ndarray, pictures: dict[str, np.ndarray], psnr) -> None:
    shown = slice(0, _GRID.value)
    columns = {"original": originals[shown]}
    columns |= {method: made[shown] for method, made in pictures.items()}
    title = f"{_ENCODER.value} {_LAYER.value}: PSNR under each"
    contact_sheet.image_grid(path, columns, cell_labels=psnr, title=title)


def _write_draws(path: Path, originals: np.ndarray, draws: np.ndarray) -> None:
    """Parts that all draws share, and that each invents."""
    shown = slice(0, _GRID.value)
    made = draws[:, shown].astype(np.float64)
    deviation = made.std(axis=0).mean(axis=-1, keepdims=True)
    deviation = np.clip(_DEVIATION * deviation, 0, 255).round().astype(np.uint8)
    columns = {"original": originals[shown]}
    columns |= {f"draw {i + 1}": draws[i, shown] for i in range(min(_SHOWN_DRAWS, len(draws)))}
    columns["mean"] = made.mean(axis=0).round().astype(np.uint8)
    columns[f"deviation ×{_DEVIATION}"] = np.repeat(deviation, 3, axis=-1)
    contact_sheet.image_grid(path, columns)


if __name__ == "__main__":
    runtime.run(main)
