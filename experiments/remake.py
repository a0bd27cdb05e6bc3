"""Says which files of the repository are stale for an encoder, and makes them anew.

    python -m experiments.remake --encoder=streetnet
    python -m experiments.remake --run=sensitivity,surgery --out=runs/remade
    python -m experiments.remake --run=stale --out=runs/remade --install --photos=PHOTOS \\
        --val_images=OTHERS --streets=STREETS --cars=CARS --rooms=ROOMS --facades=FACADES \\
        --strecha=STRECHA

Without --run it prints, of each product in docs/products.json, the commands that make it and its
files: whether they are current or stale, and the fingerprints of the weights that they were made
with. Decoders and cards name their encoder themselves; for all others docs/products.json says it.

With --run it runs the commands, decoders before what decodes, in folders of --out that have the
encoder's fingerprint; products that are made there already are not made again, and an interrupted
one is resumed. It prints which files belong where, and what a person has to write by hand from what
the commands printed; --install copies the files and records their weights. When the figures of a
product have been written, --written=NAME records that.

Exit code: 0; 1 if a command left images out (it has named them); 2 if the run could not be made.
"""

import os
from pathlib import Path

from absl import flags

from experiments.common import options, runtime

_ENCODER = options.encoder()
_RUN = flags.DEFINE_list(
    "run", [], "Products to make, separated by commas: their names, or `stale`, or `all`."
)
_OUT = options.out(required=False)
_INSTALL = flags.DEFINE_bool(
    "install", False, "Copy the files made to their places, and record their weights."
)
_WRITTEN = flags.DEFINE_list(
    "written",
    [],
    "Products whose figures have been written by hand with the encoder's present weights, separated"
    " by commas: record that.",
)
_PRODUCTS = flags.DEFINE_string(
    "products",
    str(Path(__file__).parents[1] / "docs" / "products.json"),
    "File of the products' records; paths in it begin in the folder above its own.",
)
_INPUTS = {
    "photos": options.photos(),
    "val_images": options.validation_images(),
    "facades": options.facades(),
    "strecha": options.strecha(),
    "streets": options.measured_photographs("streets"),
    "cars": options.measured_photographs("cars"),
    "rooms": options.measured_photographs("rooms"),
}

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from experiments.common import products
from experiments.common.products import Product
from experiments.common.remaking import Remaking
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.io import files


def _full(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _remaking() -> Remaking:
    named, out = _ENCODER.value, _OUT.value
    records = Path(_full(_PRODUCTS.value))
    return Remaking(
        products=products.read(records),
        encoder=weights.load_encoder(named),
        named=_full(named) if named.endswith(".safetensors") else named,
        inputs={name: flag.value and _full(flag.value) for name, flag in _INPUTS.items()},
        work=Path(_full(out)) if out else None,
        root=records.parents[1],
    )


def _chosen(remaking: Remaking) -> list[Product]:
    """Products of --run, those first that others need."""
    every, names = remaking.products.by_name, list(_RUN.value)
    if "all" in names:
        names = list(every)
    elif "stale" in names:
        now = remaking.now()
        stale = [name for name, product in every.items() if now.is_stale(product)]
        names = [name for name in names if name != "stale"] + stale
    return remaking.products.chosen(names)


def _make(remaking: Remaking, chosen: list[Product]) -> int:
    """Makes products, says what belongs where, and returns the exit code."""
    if not _OUT.value:
        raise InputError("--run needs a folder to work in: give --out")
    remaking.check(chosen)
    files.prepare_output(remaking.folder(""))
    left_out = [remaking.make(product) for product in chosen]
    for product in chosen:
        print(*remaking.sentences(product), sep="\n")
        if _INSTALL.value:
            remaking.install(product, _PRODUCTS.value)
    return 1 if any(left_out) else 0


def main() -> int:
    """Prints the table, or makes products; returns the exit code."""
    remaking = _remaking()
    if _WRITTEN.value:
        written = remaking.products.chosen(_WRITTEN.value)
        products.record_weights(_PRODUCTS.value, remaking.now().written(written))
    if _RUN.value:
        return _make(remaking, _chosen(remaking))
    print(*products.table(remaking.now(), remaking.networks()), sep="\n")
    return 0


if __name__ == "__main__":
    runtime.run(main)
