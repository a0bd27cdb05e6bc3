"""Draws one page that says what a descriptor holds: images, and pictures of their descriptors.

    posenet-jax essence --images=PHOTOS --limit=8 --out=runs/essence
    posenet-jax essence --images=PHOTOS --limit=6 --priors --out=runs/priors

Columns: original; inversion with recipe calibrated; with recipe natural; the decoder trained by
squared error; four draws of the adversarial decoder, the mean of eight and their deviation. Below
each picture stands the relative loss of its descriptor (0: the same). With --priors the same
targets are inverted with no prior, with total variation (calibrated), begun in a picture of the
adversarial decoder (natural), and in that of the decoder trained by squared error: what the prior
adds.

Writes essence.jpg (with --priors, priors.jpg), results.csv and run.json. Results of an earlier run
in the same folder are replaced. Exit code: 0; 1 if some images could not be read or written (they
are named, the others are done); 2 if the run could not be made.
"""

from absl import flags

from .common import inputs, options, runtime

inputs.require()
_OUT = options.out()
_ENCODER = options.encoder()
_LAYER = options.decoded_layer()
_DECODER = options.mean_decoder()
_GENERATOR = options.generator()
_PRIORS = flags.DEFINE_bool(
    "priors",
    False,
    "Set inversions with four priors side by side instead of inversions, decoders and draws.",
)
_STEPS = options.inversion_steps()
_SEED = options.seed()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from pathlib import Path

import numpy as np

from posenet_jax import numerics
from posenet_jax.encoders import weights
from posenet_jax.inversion import recipes
from posenet_jax.io.files import write_jpeg
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import essence

from .common import progress, results


def main() -> int:
    """Makes the pictures, writes the page and returns the exit code."""
    encoder, layer = weights.load_encoder(_ENCODER.value), _LAYER.value
    decoder, generator = essence.decoders(encoder, layer, _DECODER.value, _GENERATOR.value)
    originals = inputs.load(_OUT.value, encoder.preprocessing)
    name = "priors.jpg" if _PRIORS.value else "essence.jpg"
    out = OutputFolder(_OUT.value, "essence", [name, "results.csv"])
    key = numerics.seed_key(_SEED.value)
    priors = essence.essence_priors(decoder, generator)
    if not _PRIORS.value:
        priors = [one for one in priors if one.title in ("calibrated", "natural")]
    steps = sum(_STEPS.value or int(one.recipe.steps) for one in priors)
    with progress.bar(len(originals.pixels) * steps, "image·step") as bar:
        made = {
            one.title: essence.inverted(
                encoder, layer, originals, one, key=key, steps=_STEPS.value, progress=bar.update
            )
            for one in priors
        }
    columns = {title: one.image for title, one in made.items()}
    if not _PRIORS.value:
        columns |= essence.drawn(encoder, layer, originals.pixels, decoder, generator, key=key)
    labelled = {name: own for name, own in columns.items() if not name.startswith("deviation")}
    losses = essence.losses(encoder, layer, originals.pixels, labelled)
    rows = [
        {"image": image, "picture": title, "picture_relative_loss": float(own[row])}
        for title, own in losses.items()
        for row, image in enumerate(originals.names)
    ]
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "decoders": {one.name: one.fingerprint for one in (decoder, generator)},
        "recipes": [recipes.record(one.settings) for one in priors],
        "images_left_out": len(originals.failures),
    }
    title = f"{encoder.name} {layer}; below each picture its relative loss"

    def draw(path: Path) -> None:
        write_jpeg(path, essence.page(originals.pixels, columns, losses, title))

    missing = results.write(out, record, tables={"results.csv": rows}, pages={name: draw})
    print("medians of the relative loss of the pictures, encoded anew:")
    print(*(f"  {title:20} {np.median(own):.3f}" for title, own in losses.items()), sep="\n")
    print(f"wrote {out.path}/{name}, results.csv and run.json{missing}")
    return 1 if originals.failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
