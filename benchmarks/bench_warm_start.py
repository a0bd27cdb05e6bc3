"""Worth of a decoder's image as the start of an inversion: steps saved, and their cost.

    python -m benchmarks.bench_warm_start --images=PHOTOS --first=40 --count=32 --json=warm.json

Recipes `calibrated` and `warm` on the same descriptors: the steps until each image's relative loss
(eq. 3) is below each of --tolerances, and what is reached when all steps are done. Pictures are
compared with their originals by luminance correlation and by the judge network. With
--learning_rates, `warm` at each of them.
"""

import json
import os
import time

import jax
import numpy as np
from absl import flags

from experiments.common import runtime
from posenet_jax.data.sources import FolderImages
from posenet_jax.decoders import decoding
from posenet_jax.encoders.bundled_encoders import DEFAULT, JUDGE
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.evaluation.measures import Context, measured
from posenet_jax.images.image_list import list_images
from posenet_jax.inversion import engine, recipes
from posenet_jax.inversion.recipes import Recipe

_IMAGES = flags.DEFINE_string("images", None, "Folder of photographs.", required=True)
_FIRST = flags.DEFINE_integer("first", 0, "How many photographs to pass over.", lower_bound=0)
_COUNT = flags.DEFINE_integer("count", 32, "Photographs.", lower_bound=2)
_LAYER = flags.DEFINE_enum("layer", "fc5", ["fc5", "conv4"], "Layer to invert.")
_ENCODER = flags.DEFINE_string("encoder", DEFAULT, "A bundled encoder or a .safetensors file.")
_DECODER = flags.DEFINE_string("decoder", None, "A decoder; ENCODER-LAYER if not given.")
_RATES = flags.DEFINE_list("learning_rates", [], "Of recipe warm; its own if not given.")
_STEPS = flags.DEFINE_list("steps", [], "Of recipe warm when all are done; its own if not given.")
_TOLERANCES = flags.DEFINE_list("tolerances", ["0.08", "0.05", "0.03"], "Relative losses.")
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file as well.")


def measure(
    encoder: Encoder, originals: np.ndarray, recipe: Recipe, decoder: decoding.Decoder
) -> dict[str, float]:
    """Medians over the images."""
    tap, space = encoder.tap(_LAYER.value), encoder.preprocessing
    targets = tap.describe(originals)
    start = decoding.decode(decoder, targets) if recipe.start == "image" else None
    figures = {}
    for tolerance in _TOLERANCES.value:
        early = recipe.replace(stop_early=True, tolerance=float(tolerance))
        found = engine.invert(tap, targets, key=jax.random.key(0), recipe=early, start=start)
        reached = found.relative_loss <= early.tolerance
        figures[f"steps_to_{tolerance}"] = float(np.median(np.where(reached, found.steps, np.inf)))
        figures[f"share_at_{tolerance}"] = float(reached.mean())
    began = time.perf_counter()
    found = engine.invert(tap, targets, key=jax.random.key(0), recipe=recipe, start=start)
    figures["seconds_an_image"] = (time.perf_counter() - began) / len(originals)
    figures["relative_loss"] = float(np.median(found.relative_loss))
    pictures = np.asarray(space.to_image(found.image))
    judge = load_encoder(JUDGE).tap("fc5")
    names = ("luminance_correlation", "judge_relative_loss", "spectral_deviation")
    measures = measured(Context(tap, targets, pictures, originals, judge), names)
    for name in names:
        figures[name] = float(np.median(measures[name]))
    return figures


def main() -> int:
    """Measures, prints, records."""
    encoder = load_encoder(_ENCODER.value)
    decoder = decoding.decoder_for(encoder, _LAYER.value, _DECODER.value)
    source = FolderImages(list_images(_IMAGES.value, limit=_FIRST.value + _COUNT.value))
    rows = range(_FIRST.value, len(source))
    originals = np.stack([encoder.preprocessing.resize(source[row].image) for row in rows])
    tried = {"calibrated": recipes.CALIBRATED}
    for steps in _STEPS.value or [recipes.WARM.steps]:
        for rate in _RATES.value or [recipes.WARM.learning_rate]:
            tried[f"warm, rate {rate}, {steps} steps"] = recipes.WARM.replace(
                learning_rate=float(rate), steps=int(steps)
            )
    record = {}
    for name, recipe in tried.items():
        record[name] = measure(encoder, originals, recipe, decoder)
        shown = "  ".join(f"{figure} {value:.4g}" for figure, value in record[name].items())
        print(f"{name}: {shown}  load {os.getloadavg()[0]:.2f}", flush=True)
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(record, file, indent=1)
    return 0


if __name__ == "__main__":
    runtime.run(main)
