"""Says which files of the repository are stale for an encoder, and makes them anew.

    posenet-jax remake --encoder=streetnet
    posenet-jax remake --run=demo,sensitivity --out=runs/remade --install=all

Without --run it prints, of each product in docs/products.json, its files, whether they are current
or stale, with which weights they were made (decoders and cards name their encoder themselves), and
the commands that make them. --encoder names the encoder that they are to be of.

With --run it runs the commands, decoders before what decodes, in a folder of --out that has the
encoder's fingerprint; what is made there already is not made again, and an interrupted command is
resumed. Data that a chosen product needs and no flag gives is named before the first command. It
prints which file belongs where, and what a person has to write by hand from what the commands
printed; --install=all copies the files and records their weights, --install=own copies the
decoders alone, for an encoder that the documents are not about. When a product's figures have been
written, --written=NAME records that.

Exit code: 0; 1 if a command left images out (it has named them); 2 if the run could not be made.
"""

import os
from pathlib import Path

from absl import flags

from .common import buckets, options, runtime

_ENCODER = options.encoder()
_RUN = flags.DEFINE_list(
    "run", [], "Products to make, separated by commas: their names, or `stale`, or `all`."
)
_OUT = options.out(required=False, local=True)
_INSTALL = flags.DEFINE_enum(
    "install",
    None,
    ["own", "all"],
    "Copy what was made to its place. own: what bears the encoder's name, its decoders; all: the"
    " documents too, which are this encoder's then, and record that.",
)
_WRITTEN = flags.DEFINE_list(
    "written",
    [],
    "Products whose figures have been written by hand with the encoder's present weights, separated"
    " by commas: record that.",
)
_PRODUCTS = flags.DEFINE_string(
    "products",
    None,
    "File of the products' records, instead of the repository's own; paths in it begin in the"
    " folder above its own.",
)
_INPUTS = {
    "photos": options.photos(),
    "val_images": options.validation_images(),
    "facades": options.facades(),
    "strecha": options.strecha(),
    "streets": buckets.string("streets", None, "Folder of photographs of streets."),
    "cars": buckets.string("cars", None, "Folder of photographs of cars."),
    "rooms": buckets.string("rooms", None, "Folder of photographs of rooms."),
}

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.io import files, storage

from .common import products
from .common.products import Product
from .common.remaking import Remaking


def _full(path: str) -> str:
    return path if storage.is_bucket(path) else os.path.abspath(os.path.expanduser(path))


def _records() -> Path:
    return Path(_full(_PRODUCTS.value or str(products.RECORDS)))


def _remaking() -> Remaking:
    named, records = _ENCODER.value, _records()
    return Remaking(
        products=products.read(records),
        encoder=weights.load_encoder(named),
        named=_full(named) if named.endswith(".safetensors") else named,
        inputs={name: flag.value and _full(flag.value) for name, flag in _INPUTS.items()},
        work=Path(_full(_OUT.value)) if _OUT.value else None,
        root=records.parents[1],
    )


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
            copied = remaking.install(product, _records() if _INSTALL.value == "all" else None)
            print(f"{product.name}: copied {', '.join(copied) or 'nothing'}")
    return 1 if any(left_out) else 0


def main() -> int:
    """Prints the table, or makes products; returns the exit code."""
    remaking = _remaking()
    if _WRITTEN.value:
        written = remaking.products.chosen(_WRITTEN.value)
        products.record_weights(_records(), remaking.now().written(written))
    if _RUN.value:
        return _make(remaking, remaking.chosen(_RUN.value))
    print(*products.table(remaking.now(), remaking.networks()), sep="\n")
    return 0


if __name__ == "__main__":
    runtime.run(main)
