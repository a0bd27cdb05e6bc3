"""Takes something from fc5 descriptors, and measures what is lost with it.

    posenet-jax operate_descriptors --out=runs/surgery
    posenet-jax operate_descriptors --images=PHOTOS --out=runs/surgery

Operations: rounding to b bits a unit, or to on and off; Gaussian noise (its standard deviation in
units of the descriptor's own root mean square); keeping the k units of highest mean, or k at
random, the rest zero or at its mean; keeping k principal components, or k random directions about
the mean. Ranges, means and components are fitted on other scenes than those operated on, or, where
images are given, on every other of them (of rendered ones the second views).

Writes surgery.csv (a row an operation and amount: relative loss, eq. 3; disagreement of the pose
heads in degrees; of rendered pairs their rotation error in degrees; means with intervals of 95 %
over images; the last rows are the controls: the mean descriptor, another image's), surgery.png,
pictures.png (what the decoder makes of a few) and run.json.

Results of an earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not
be read or written (they are named, the others are done); 2 if the run could not be made.
"""

from absl import flags

from .common import buckets, inputs, options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_DECODER = buckets.string(
    "decoder",
    None,
    "Decoder that makes the pictures: a bundled one or a .safetensors file; the one bundled for the"
    " encoder's fc5 if not given, and no pictures where there is none.",
)
_KIND = options.rendered_kind()
_PAIRS = flags.DEFINE_integer(
    "pairs", 256, "Rendered pairs to operate on, where no images are given.", lower_bound=2
)
_FITTED = flags.DEFINE_integer(
    "fitted", 1024, "Other rendered pairs, to fit ranges, means and components on.", lower_bound=2
)
_SEED = options.seed(options.MEASURING_SEED)
_SHOWN = options.shown(8)

flags.register_validator(
    "scenes",
    lambda _: bool(inputs.number_given()) or not flags.FLAGS["scenes"].present,
    "it goes with --render; pairs are counted by --pairs",
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import functools

import jax
import numpy as np
from tqdm.auto import tqdm

from posenet_jax import numerics, sharding
from posenet_jax.analysis import findings, surgery
from posenet_jax.data import training_pairs
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import analysis_plots

from .common import images, progress, results

_BATCH = 64


def _given(encoder: Encoder) -> tuple[surgery.Images, np.ndarray, int]:
    loaded = inputs.load(_OUT.value, encoder.preprocessing)
    return *surgery.halves(encoder, loaded.pixels), len(loaded.failures)


def _rendered(encoder: Encoder, key: jax.Array) -> tuple[surgery.Images, np.ndarray, int]:
    mesh = sharding.device_mesh("pairs")
    atlas_key, own_key, other_key = jax.random.split(key, 3)
    _, atlas, skipped = images.facade_atlases(
        inputs.OPTIONS["facades"].value, atlas_key, mesh, _OUT.value
    )
    config = findings.configured(_KIND.value, encoder.preprocessing.side)
    source = training_pairs.RenderedPairs(atlas, config, _BATCH, mesh)
    with progress.bar(_PAIRS.value + _FITTED.value, "pair") as bar:
        operands, others = (
            surgery.rendered(encoder, source, key=one_key, count=count, progress=bar.update)
            for one_key, count in ((own_key, _PAIRS.value), (other_key, _FITTED.value))
        )
    return operands, others.descriptor, len(skipped)


def main() -> int:
    """Operates, measures, writes and prints; returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    decoder = decoding.decoder_if_any(encoder, "fc5", _DECODER.value)
    scene_key, key = jax.random.split(numerics.seed_key(_SEED.value))
    given = _given(encoder) if inputs.number_given() else None
    files = ["surgery.csv", "surgery.png", *(["pictures.png"] if decoder else [])]
    out = OutputFolder(_OUT.value, "operate_descriptors", files)
    operands, fitted, failures = given or _rendered(encoder, scene_key)
    operated = list(surgery.operations(key, operands.descriptor, fitted))
    rows = surgery.table(encoder, operands, tqdm(operated, unit="operation", dynamic_ncols=True))
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "decoder": decoder.fingerprint if decoder else None,
        "images": len(operands.descriptor),
        "fitted_on": len(fitted),
        "true_rotation_deg": surgery.mean_rotation(operands),
        "left_out": failures,
    }
    pages = {"surgery.png": functools.partial(analysis_plots.surgery_figure, rows=rows)}
    if decoder:
        columns = surgery.pictures(decoder, operands, operated, count=_SHOWN.value)
        title = f"{encoder.name} fc5, operated on and decoded"
        pages["pictures.png"] = functools.partial(image_grid, columns=columns, title=title)
    missing = results.write(out, record, tables={"surgery.csv": rows}, pages=pages)
    print(f"wrote {out.path}/{', '.join(files)} and run.json{missing}")
    return 1 if failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
