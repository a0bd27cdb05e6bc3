"""Bulk inversion of photographs at 224×224 beside a plain PyTorch loop, in turn, in one run.

    python -m benchmarks.bench_bulk --images=PHOTOS --count=1000 --steps=20 --json=bulk.json

Ours is one run of `bulk_inversion.invert_all`: photographs are read, encoded, inverted, measured
and written. After each fifth of its image·steps it stands still, and the PyTorch loop inverts some
of the same photographs, from the same starts with the same weights; that is read, encoded and
inverted, and neither measured nor written. Both work in float32. The peak of resident memory is
that of each of our turns: it must not rise with the photographs done.

A rate does not depend on the weights: by default they are random. `--encoder=FILE` takes a
`state_dict` of torchvision's ResNet-18.
"""

import contextlib
import csv
import importlib.metadata
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks.turns import NO_PEER, QUIET, Turn, Watch
from experiments.common import runtime
from posenet_jax import numerics
from posenet_jax.bulk import bulk_inversion
from posenet_jax.data.sources import FolderImages
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.errors import InputError
from posenet_jax.images.image_list import list_images
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import groups, recipes
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.io import files

try:
    import torch

    from benchmarks import torch_inversion, torch_networks
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    torch = None

_ENCODER = flags.DEFINE_string("encoder", "resnet18-random-0", "ResNet-18: by name, or a file.")
_LAYER = flags.DEFINE_enum("layer", "features", ["layer4", "features"], "The tap to invert.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of photographs.", required=True)
_COUNT = flags.DEFINE_integer("count", 1000, "Photographs at most.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "Steps of each photograph.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 5, "Turns of each side.", lower_bound=1)
_PEER = flags.DEFINE_integer("torch_images", 32, "Photographs of a PyTorch turn.", lower_bound=1)
_BATCH = flags.DEFINE_integer("torch_batch", 16, "Its batch.", lower_bound=1)
_SLOTS = flags.DEFINE_integer("slots", 0, "Our slots; 0: as many as by default.", lower_bound=0)
_THREADS = flags.DEFINE_integer("torch_threads", 2, "PyTorch's threads.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file as well.")

# Share by which the two sides' median relative losses may differ: float32, enlarged by the steps.
AGREEMENT = 0.02


class Round(NamedTuple):
    """A turn of each side; rates in image·steps a second."""

    ours: Turn
    torch: Turn
    peak_mebibytes: float | None  # of memory resident in our turn
    images: int  # that ours has done by then


class PyTorchLoop:
    """The peer: batches of photographs, read, encoded and inverted one after the other."""

    def __init__(self, encoder: Encoder, layer: str, source: FolderImages, recipe: Recipe) -> None:
        self._space, self._source, self._recipe = encoder.preprocessing, source, recipe
        self._network, self._layer = encoder.module.architecture, layer
        self._weights = torch_inversion.freeze(torch_networks.from_flax(encoder.params))
        self.losses: dict[int, float] = {}

    def invert(self, positions: list[int], starts: np.ndarray) -> None:
        """Inverts one batch; starts: [B, H, W, 3]."""
        pixels = np.stack([self._space.resize(self._source[i].image) for i in positions])
        images = torch_networks.channels_first(self._space.to_network(pixels))
        with torch.no_grad():
            network = torch_networks.NETWORKS[self._network]
            targets = network(self._weights, images.to(torch_inversion.device()))[self._layer]
        found = torch_inversion.calibrated(
            self._network,
            self._layer,
            self._weights,
            torch_networks.channels_first(starts),
            targets,
            self._recipe,
            int(self._recipe.steps),
        )
        self.losses |= dict(zip(positions, found.best.tolist(), strict=True))

    def turn(self, first: int, count: int, batch: int) -> Turn:
        """Inverts `count` photographs from the `first` on; after the last comes the first again."""
        numbers = [i % len(self._source) for i in range(first, first + count)]
        batches = [numbers[i : i + batch] for i in range(0, count, batch)]
        starts = [first_iterates(one, self._recipe, self._space) for one in batches]
        watch = Watch()
        for one, start in zip(batches, starts, strict=True):
            self.invert(one, start)
        return watch.turn(count * self._recipe.steps)


def first_iterates(positions: list[int], recipe: Recipe, space: Preprocessing) -> np.ndarray:
    """Returns the images [B, H, W, 3] from which a bulk run of seed 0 starts."""
    key = numerics.seed_key(0)
    states = [groups.init(jax.random.fold_in(key, i), recipe, space) for i in positions]
    return np.stack([state.parameters for state in states])


class Turns:
    """Progress of our run: hands the machine to the peer after each part of the image·steps."""

    def __init__(self, peer: PyTorchLoop, total: float, turns: int) -> None:
        self.rounds: list[Round] = []
        self._peer, self._total, self._turns = peer, total, turns
        self._done = self._before = 0.0
        self._watch: Watch | None = None  # none yet: the first step compiles

    def __call__(self, image_steps: int) -> None:
        self._done += image_steps
        if self._watch is None:
            self._begin()
        elif self._done >= self._total * (len(self.rounds) + 1) / self._turns:
            _until_idle()
            ours, peak = self._watch.turn(self._done - self._before), _peak_memory()
            number, count = len(self.rounds), _PEER.value
            theirs = self._peer.turn(number * count, count, _BATCH.value)
            self.rounds.append(Round(ours, theirs, peak, round(self._done / _STEPS.value)))
            print(_row(self.rounds[-1]), flush=True)
            self._begin()

    def _begin(self) -> None:
        _forget_peak()
        self._before, self._watch = self._done, Watch()


def _until_idle() -> None:
    """Waits for this process's threads: those that read ahead, and the one that writes."""
    while True:
        before = time.process_time()
        time.sleep(0.1)
        if time.process_time() - before < 0.01:
            return


def _peak_memory() -> float | None:
    """Returns the MiB of memory that were resident at most; None where that cannot be read."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _forget_peak() -> None:
    """Begins the peak anew; where that is not allowed it stays that of the whole run."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _row(one: Round) -> str:
    sides = "".join(
        f"  {name} {turn.rate:6.2f} (others {turn.others_busy:.2f})"
        for name, turn in (("ours", one.ours), ("torch", one.torch))
    )
    peak = "" if one.peak_mebibytes is None else f"  peak {one.peak_mebibytes:.0f} MiB"
    return f"{one.images:5d} images{sides}  image·steps/s{peak}"


def compare(encoder: Encoder, source: FolderImages, recipe: Recipe) -> dict:
    """Everything that is reported. InputError where the two sides do not reach the same loss."""
    peer = PyTorchLoop(encoder, _LAYER.value, source, recipe)
    with tempfile.TemporaryDirectory() as folder:
        few = FolderImages(list_images(_IMAGES.value, limit=_BATCH.value))
        short = recipes.with_steps(recipe, 2)
        _invert(encoder, few, Path(folder) / "compiled", short)
        PyTorchLoop(encoder, _LAYER.value, few, short).turn(0, len(few), _BATCH.value)
        turns = Turns(peer, len(source) * recipe.steps, _TURNS.value)
        _invert(encoder, source, Path(folder) / "bulk", recipe, turns)
        losses = _losses(Path(folder) / "bulk" / "results.csv")
    rounds = turns.rounds
    medians = [float(np.median([side[i] for i in peer.losses])) for side in (losses, peer.losses)]
    if not abs(medians[0] / medians[1] - 1.0) <= AGREEMENT:
        raise InputError(f"no comparison: the median relative losses are {medians}")
    return {
        "ratio_vs_torch": statistics.median(one.ours.rate / one.torch.rate for one in rounds),
        "image_steps_per_second": statistics.median(one.ours.rate for one in rounds),
        "torch_image_steps_per_second": statistics.median(one.torch.rate for one in rounds),
        "peak_mebibytes": [one.peak_mebibytes for one in rounds],
        "relative_loss": medians[0],
        "torch_relative_loss": medians[1],
        "images": len(source),
        "steps": _STEPS.value,
        "torch_images_a_turn": _PEER.value,
        "torch_batch": _BATCH.value,
        "quiet": all(turn.others_busy <= QUIET for one in rounds for turn in one[:2]),
        "rounds": [
            one._asdict() | {"ours": one.ours._asdict(), "torch": one.torch._asdict()}
            for one in rounds
        ],
        "encoder": encoder.name,
        "layer": _LAYER.value,
        "load": os.getloadavg(),
        "devices": jax.device_count(),
        "device_kind": jax.devices()[0].device_kind,
        "torch_threads": torch.get_num_threads(),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "torch")},
    }


def _invert(
    encoder: Encoder,
    source: FolderImages,
    folder: Path,
    recipe: Recipe,
    progress: Turns | None = None,
) -> None:
    config = bulk_inversion.BulkConfig(slots=_SLOTS.value)
    bulk_inversion.invert_all(
        encoder, _LAYER.value, source, folder, recipe, config, progress=progress
    )


def _losses(table: Path) -> list[float]:
    """Returns the relative losses of the photographs, in their order."""
    with table.open(newline="") as file:
        return [float(row["relative_loss"]) for row in csv.DictReader(file)]


def main() -> int:
    """Compare, print, record."""
    if torch is None:
        raise InputError(NO_PEER)
    torch.set_num_threads(_THREADS.value)
    torch_inversion.full_precision()
    encoder = load_encoder(_ENCODER.value)
    if encoder.module.architecture != "resnet18":
        raise InputError(f"--encoder={_ENCODER.value} is no ResNet-18")
    source = FolderImages(list_images(_IMAGES.value, limit=_COUNT.value))
    record = compare(encoder, source, recipes.with_steps(recipes.CALIBRATED, _STEPS.value))
    for name, value in record.items():
        print(f"{name}: {value}")
    if _JSON.value:
        files.write_json(_JSON.value, record)
    return 0


if __name__ == "__main__":
    runtime.run(main)
