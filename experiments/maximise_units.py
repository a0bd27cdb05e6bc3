"""Finds the image that each unit of a layer responds to most, all units in one run.

    posenet-jax maximise_units --render=streets --scenes=256 --out=runs/units
    posenet-jax maximise_units --images=PHOTOS --units=3,17,200 --out=runs/units

Responses are given as multiples of the highest to any of the images given.

Writes units.jpg (the images found; with --show_given, each beside the image given that the unit
responds to most), units.csv (a row a unit), images/ (the images found) and run.json. Results of an
earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not be read or
written (they are named, the others are done); 2 if the run could not be made.
"""

import resource
import time

from absl import flags

from .common import inputs, options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_LAYER = options.layer()
_UNITS = flags.DEFINE_list(
    "units", [], "Units, counted from 0 through the layer's activations; all if not given."
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Steps of each image; the recipe's own number (150) if not given.", lower_bound=1
)
_SEED = options.seed()
_SLOTS = options.slots()
_SHOW_GIVEN = flags.DEFINE_bool(
    "show_given",
    False,
    "Show the image given that each unit responds to most beside the one found.",
)
inputs.require()
flags.register_validator(
    "units",
    lambda units: all(unit.strip().isdecimal() for unit in units),
    "give whole numbers from 0, separated by commas",
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import functools

import numpy as np

from posenet_jax import numerics
from posenet_jax.analysis import units
from posenet_jax.encoders import weights
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.inversion import recipes
from posenet_jax.io.output_folder import OutputFolder

from .common import progress, results


def _page(found: units.Responses, given: np.ndarray, title: str) -> results.Draw:
    """Returns what draws units.jpg."""
    columns = {"": found.picture}
    if _SHOW_GIVEN.value:
        columns = {"found": found.picture, "given": given[found.reference]}
    labels = [
        f"{unit}{'*' if silent else ''}: {'silent' if np.isnan(times) else f'{times:.1f}×'}"
        for unit, times, silent in zip(found.unit, found.multiple, found.silent, strict=True)
    ]
    return functools.partial(image_grid, columns=columns, row_labels=labels, title=title)


def main() -> int:
    """Maximises, writes and prints; returns the exit code."""
    encoder = weights.load_encoder(_ENCODER.value)
    tap = encoder.tap(_LAYER.value)
    chosen = units.chosen(tap, list(map(int, _UNITS.value)))
    recipe = recipes.with_steps(units.RECIPE, _STEPS.value)
    given = inputs.load(_OUT.value, encoder.preprocessing)
    pictures = [f"images/unit_{unit:05d}.png" for unit in chosen]
    out = OutputFolder(_OUT.value, "maximise_units", ["units.jpg", "units.csv", *pictures])
    start = time.perf_counter()
    with progress.bar(len(chosen) * int(recipe.steps), "image·step") as bar:
        found = units.maximised(
            tap,
            given.pixels,
            key=numerics.seed_key(_SEED.value),
            units=chosen,
            recipe=recipe,
            slots=_SLOTS.value or None,
            progress=bar.update,
        )
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "images": len(given.pixels),
        "images_left_out": len(given.failures),
        "recipe": recipes.record(recipe),
        "seconds": seconds,
        "peak_memory_gib": memory,
    }
    title = (
        f"Images that units of {encoder.name} {tap.layer} respond to most; response over the"
        f" highest to {len(given.pixels)} images; *: begun with one of them"
    )
    missing = results.write(
        out,
        record,
        tables={"units.csv": found.table(given.names)},
        pictures=dict(zip(pictures, found.picture, strict=True)),
        pages={"units.jpg": _page(found, given.pixels, title)},
    )
    print(f"{len(chosen)} units of {encoder.name} {tap.layer} in {seconds:.0f} s, {memory:.1f} GiB")
    print(*units.summary(found), sep="\n")
    print(f"wrote {out.path}/units.jpg, units.csv, run.json and images/{missing}")
    return 1 if given.failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
