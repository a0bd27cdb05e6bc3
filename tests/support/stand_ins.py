"""What stands in a folder for the words in capitals, and for the files, of the guides' commands."""

import json
from pathlib import Path

import numpy as np
import street_view_files
from foreign_weights import theirs
from PIL import Image
from safetensors.numpy import save_file
from scipy.spatial.transform import Rotation

from experiments.common import products
from posenet_jax.encoders.imagenet import AlexNet
from posenet_jax.encoders.resnet import ResNet50

PHOTOGRAPHS = 20  # of which one is in the test part of a data set
_FEW = "--steps=2 --batch_size=8 --rendered=0"
# What makes each command small of the products that `remake` is to make; of the others there is no
# record here.
SMALL_PRODUCTS = {
    "decoder-fc5": [_FEW],
    # None reads conv4 of `compact`, whose map has another size.
    "decoder-conv4": [f"--layer=fc5 {_FEW}"],
    "decoder-fc5-adversarial": [
        f"{_FEW} --drops=",
        f"{_FEW} --evaluate_every=50",
        f"{_FEW} --evaluate_every=50 --comparator=compact-random-1/conv1"
        " --discriminator_taps=conv1",
    ],
    "imagenet-networks": ["--limit=2 --steps=2"],
    "poses": ["--pairs=8"],
}


def write(name: str, folder: Path) -> None:
    """Writes what a word of a command stands for into a folder. KeyError: there is none."""
    _MAKERS[name](folder / name)


def names() -> list[str]:
    return list(_MAKERS)


def _images(folder: Path) -> None:
    """Noise of few pixels, made large; another in each folder."""
    folder.mkdir()
    rng = np.random.default_rng(list(folder.name.encode()))
    for number in range(PHOTOGRAPHS):
        coarse = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((200, 160)).save(folder / f"{number:02d}.jpg")


def _with_cameras(folder: Path) -> None:
    """Three photographs, each beside its camera."""
    folder.mkdir(parents=True)
    for number, angle in enumerate((0, 15, 40)):
        noise = np.random.default_rng(number).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        rotation = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        lines = ["40 0 18", "0 40 12", "0 0 1", "0 0 0"]
        lines += [" ".join(map(str, row)) for row in rotation] + [f"{number} 0 0", "36 24"]
        (folder / f"{number}.png.camera").write_text("\n".join(lines))


def _street_view(folder: Path) -> None:
    for view in range(3):
        place = (3.0 * view - 3.0, -20.0, -2.0)
        picture = np.full((16, 16, 3), 80 * view, np.uint8)
        street_view_files.write_view(folder / "0006", view=view, place=place, picture=picture)


def _resnet(path: Path) -> None:
    save_file(theirs(ResNet50(blocks=(1, 1, 1, 1), width=8)), path)


def _alexnet(path: Path) -> None:
    save_file(theirs(AlexNet()), path)


def _records(path: Path) -> None:
    """Records of some products, the repository's own commands made small."""
    records = json.loads(products.RECORDS.read_text("utf-8"))["products"]
    kept = [one for one in records if one["name"] in SMALL_PRODUCTS]
    for one in kept:
        one["commands"] = [
            f"JAX_DISABLE_MOST_OPTIMIZATIONS=1 {command} --cpu_devices=1 {more}"
            for command, more in zip(one["commands"], SMALL_PRODUCTS[one["name"]], strict=True)
        ]
    path.parent.mkdir()
    path.write_text(json.dumps({"products": kept, "independent": {}}))


_MAKERS = {
    **dict.fromkeys(("PHOTOS", "OTHERS", "FACADES", "STREETS", "CARS", "ROOMS"), _images),
    "FOLDER": _with_cameras,
    "STRECHA": lambda folder: _with_cameras(folder / "wall"),
    "3D_STREET_VIEW": _street_view,
    "resnet50.safetensors": _resnet,
    "FILE.safetensors": _alexnet,
    "docs/products.json": _records,
}
