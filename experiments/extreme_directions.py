"""Finds the changes of an image that a descriptor sees most and least, and images that fool it.

    posenet-jax extreme_directions --images=PHOTOS --limit=8 --out=runs/extremes \\
        --beside=streetnet-random-0/fc5,squeezenet/features
    posenet-jax extreme_directions --images=PHOTOS --limit=8 --out=runs/judge \\
        --against=judge/fc5

At each image the Jacobian of the descriptor says which change of a given energy moves it most (the
first right singular vector), which of those that it sees moves it least (the last one), and which
it does not see at first order (the null space; of it the smoothest one, and what is unseen of the
difference to the next image). The image is changed by so much, and the descriptor's real movement
measured: beside a random change, and beside the difference to the next image as it is.

With --against, instead: images that the encoder takes for the same and the other network for
others, as far from the original as it can be, and the other way round.

Writes spectrum.csv (a row an image and network), walks.csv (a row for each of these, direction and
length, with the direction's energy by octaves of spatial frequency) and extremes.jpg; instead, with
--against, opposed.csv (a row an image and way round) and opposed.jpg; and images/ and run.json.
Results of an earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not
be read or written (they are named, the others are done); 2 if the run could not be made.
"""

import time

from absl import flags

from .common import buckets, inputs, options, runtime

_OUT = options.out()
_ENCODER = options.encoder()
_LAYER = options.layer()
_BESIDE = buckets.strings(
    "beside",
    [],
    "Further networks to find directions of, as ENCODER/LAYER separated by commas:"
    " squeezenet/features.",
)
_AGAINST = buckets.string(
    "against",
    None,
    "Network to set against the encoder, as ENCODER/LAYER: one of them is held, the other moved.",
)
_GREY_LEVELS = flags.DEFINE_list(
    "grey_levels",
    ["1", "5", "20"],
    "Lengths of the changes, root mean square in grey levels, separated by commas.",
)
_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Steps of each image with --against; the recipe's own number (300) if not given.",
    lower_bound=1,
)
_JUDGE = options.judge()
_SHOWN = options.shown(6)
_SEED = options.seed()
_SLOTS = options.slots()
inputs.require()


def _are_lengths(values: list[str]) -> bool:
    try:
        return bool(values) and all(0.0 < float(value) <= 255.0 for value in values)
    except ValueError:
        return False


flags.register_validator(
    "grey_levels", _are_lengths, "give numbers above 0, at most 255, separated by commas"
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

import functools
from typing import Any

import numpy as np

from posenet_jax import numerics
from posenet_jax.analysis import opposition, walks
from posenet_jax.data.loading import LoadedImages
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Tap
from posenet_jax.errors import InputError
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.inversion import recipes
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.io.tensors import fingerprint

from .common import progress, results


def _networks(named: list[str]) -> dict[str, Tap]:
    """Returns the encoder's tap and those of further networks, by ENCODER/LAYER."""
    encoder = weights.load_encoder(_ENCODER.value)
    taps = {f"{encoder.name}/{_LAYER.value}": encoder.tap(_LAYER.value)}
    for name in named:
        other, layer = weights.encoder_and_layer(name, size=encoder.preprocessing.side)
        if f"{other.name}/{layer}" in taps:
            raise InputError(f"{other.name}/{layer} is given twice")
        taps[f"{other.name}/{layer}"] = other.tap(layer)
    return taps


def _facts(taps: dict[str, Tap], given: LoadedImages, seconds: float) -> dict[str, Any]:
    return {
        "networks": {name: fingerprint(tap.params) for name, tap in taps.items()},
        "images": len(given.pixels),
        "images_left_out": len(given.failures),
        "seconds": seconds,
    }


def _file_name(*parts: str) -> str:
    return f"images/{'.'.join(part.replace('/', '-') for part in parts)}.png"


def _directions(taps: dict[str, Tap], given: LoadedImages) -> int:
    files = {
        (stem, network, name): _file_name(stem, network, name)
        for stem in given.stems
        for network, tap in taps.items()
        for name in walks.names(tap, len(given.names))
    }
    tables = ["spectrum.csv", "walks.csv"]
    out = OutputFolder(_OUT.value, "extreme_directions", ["extremes.jpg", *tables, *files.values()])
    key, start = numerics.seed_key(_SEED.value), time.perf_counter()
    lengths = [float(value) for value in _GREY_LEVELS.value]
    spectrum, rows, pictures = [], [], {}
    with progress.bar(len(taps) * len(given.names), "image") as bar:
        for network, tap in taps.items():
            found, walked = walks.directions(tap, given.pixels, key=key, progress=bar.update)
            spectrum += walks.spectrum_rows(network, given.names, found)
            own, pictures[network] = walks.walk_rows(
                network, tap, given.names, given.pixels, walked, found.norm, lengths
            )
            rows += own
    missing = results.write(
        out,
        _facts(taps, given, time.perf_counter() - start),
        tables={"spectrum.csv": spectrum, "walks.csv": rows},
        pictures={
            files[stem, network, name]: picture
            for network, of_network in pictures.items()
            for name, of_name in of_network.items()
            for stem, picture in zip(given.stems, of_name, strict=True)
        },
        pages={"extremes.jpg": _page(given, pictures, rows, max(lengths))},
    )
    print(*walks.summary(spectrum, rows), sep="\n")
    print(f"wrote {out.path}/extremes.jpg, {', '.join(tables)}, run.json and images/{missing}")
    return 1 if given.failures or out.failures else 0


def _page(
    given: LoadedImages, pictures: dict[str, Any], rows: list[dict[str, Any]], longest: float
) -> results.Draw:
    """Returns what draws extremes.jpg: of images evenly spaced, a line for each network."""
    count = min(_SHOWN.value, len(given.names))
    chosen = np.linspace(0, len(given.names) - 1, count).round().astype(int)
    columns = {"original": np.repeat(given.pixels[chosen], len(pictures), axis=0)}
    labels = {}
    changes = {
        (row["encoder"], row["direction"], row["image"]): row["change"]
        for row in rows
        if row["grey_levels"] == longest
    }
    for name in walks.NAMES:
        if not all(name in of_network for of_network in pictures.values()):
            continue
        heading = walks.NAMES[name]
        stacked = np.stack([of_network[name][chosen] for of_network in pictures.values()], axis=1)
        columns[heading] = stacked.reshape((-1, *stacked.shape[2:]))
        labels[heading] = [
            f"{changes[network, name, given.names[i]]:.2f}" for i in chosen for network in pictures
        ]
    return functools.partial(
        image_grid,
        columns=columns,
        row_labels=[network for _ in range(count) for network in pictures],
        cell_labels=labels,
        title=f"Changes of {longest:g} grey levels; below each the descriptor's relative change",
    )


def _opposed(taps: dict[str, Tap], given: LoadedImages) -> int:
    (own, first), (other, second) = taps.items()
    judge = weights.load_encoder(_JUDGE.value).tap("fc5") if _JUDGE.value else None
    ways = {own: (own, first, other, second), other: (other, second, own, first)}
    files = {(stem, held): _file_name(stem, held) for stem in given.stems for held in ways}
    tables = ["opposed.csv"]
    out = OutputFolder(_OUT.value, "extreme_directions", ["opposed.jpg", *tables, *files.values()])
    recipe = recipes.with_steps(opposition.RECIPE, _STEPS.value)
    start, rows = time.perf_counter(), []
    pictures: dict[str, np.ndarray] = {}
    labels, columns = {}, {"original": given.pixels[: _SHOWN.value]}
    with progress.bar(2 * len(given.names) * int(recipe.steps), "image·step") as bar:
        for held, held_tap, moved, moved_tap in ways.values():
            found = opposition.opposed(
                held_tap,
                moved_tap,
                given.pixels,
                key=numerics.seed_key(_SEED.value),
                recipe=recipe,
                slots=_SLOTS.value or None,
                progress=bar.update,
            )
            judged = opposition.losses_in(judge, found.pictures, given.pixels) if judge else None
            rows += opposition.table(found, given.names, held, moved, judged)
            pictures |= {
                files[stem, held]: picture
                for stem, picture in zip(given.stems, found.pictures, strict=True)
            }
            heading = "1 held" if held == own else "2 held"
            columns[heading] = found.pictures[: _SHOWN.value]
            labels[heading] = [
                f"{a:.3f} | {b:.2f}" for a, b in zip(found.held, found.moved, strict=True)
            ][: _SHOWN.value]
    title = f"1: {own}, 2: {other}; relative loss held | moved"
    page = functools.partial(image_grid, columns=columns, cell_labels=labels, title=title)
    facts = _facts(taps, given, time.perf_counter() - start)
    missing = results.write(
        out,
        facts | {"recipe": recipe.name, "steps": int(recipe.steps), "limit": opposition.LIMIT},
        tables={"opposed.csv": rows},
        pictures=pictures,
        pages={"opposed.jpg": page},
    )
    print(*opposition.summary(rows), sep="\n")
    print(f"wrote {out.path}/opposed.jpg, opposed.csv, run.json and images/{missing}")
    return 1 if given.failures or out.failures else 0


def main() -> int:
    """Finds, measures, writes and prints; returns the exit code."""
    if _AGAINST.value and _BESIDE.value:
        raise InputError("--beside is for directions: give it or --against")
    taps = _networks([_AGAINST.value] if _AGAINST.value else _BESIDE.value)
    given = inputs.load(_OUT.value, next(iter(taps.values())).preprocessing)
    return _opposed(taps, given) if _AGAINST.value else _directions(taps, given)


if __name__ == "__main__":
    runtime.run(main)
