"""Time and memory of bulk inversion against images, devices and slots, each run in its own process.

Rounds go through all settings in turn; the table holds each setting's median time an image and
largest memory. Images are the embedded demonstration's, with noise of their own.

    python -m benchmarks.bench_scaling --json=scaling.json
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments.common import runtime
from posenet_jax.bulk import bulk_inversion
from posenet_jax.data.sources import NamedImage
from posenet_jax.encoders import weights
from posenet_jax.images import image_files
from posenet_jax.images.image_list import list_images
from posenet_jax.inversion import engine, recipes

_IMAGES = flags.DEFINE_list(
    "images", ["16", "256", "1024", "4096"], "Numbers of images, at the default slots."
)
_SLOTS = flags.DEFINE_list("slots", ["8", "16", "32", "64"], "Slots, at --slot_images images.")
_SLOT_IMAGES = flags.DEFINE_integer("slot_images", 256, "Images with which slots and devices vary.")
_STEPS = flags.DEFINE_integer("steps", 20, "Steps an image.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 1, "Times that each setting is run.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file as well.")
_ONE = flags.DEFINE_string("one", None, "IMAGES,SLOTS: run this setting alone, in this process.")


class NoisyImages:
    """Any number of images, made when asked for: an `ImageSource`."""

    def __init__(self, count: int) -> None:
        folder = Path(weights.PRETRAINED).parent / "demo_images"
        self._images = [image_files.read_image(path) for path in list_images(folder)]
        self._count = count
        self.fingerprint = f"noisy-{count}"

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        return f"{position:06d}"

    def __getitem__(self, position) -> NamedImage:
        image = self._images[position % len(self._images)]
        noise = np.random.default_rng(int(position)).normal(0.0, 10.0, image.shape)
        return NamedImage(self.name(position), np.clip(image + noise, 0.0, 255.0).astype(np.uint8))


def run_one(images: int, slots: int) -> dict[str, float]:
    """Seconds from the first step's end to the last's, compilation left out, and peak memory."""
    encoder = weights.load_encoder()
    recipe = recipes.CALIBRATED.replace(steps=_STEPS.value)
    # Of the first progress told: what was compiled until then is not the engine's pace.
    first: list[tuple[float, int]] = []
    done = 0

    def progress(steps: int) -> None:
        nonlocal done
        done += steps
        if not first:
            first.append((time.perf_counter(), done))

    with tempfile.TemporaryDirectory() as folder:
        bulk_inversion.invert_all(
            encoder,
            "fc5",
            NoisyImages(images),
            folder,
            recipe,
            bulk_inversion.BulkConfig(slots=slots),
            progress=progress,
        )
        end = time.perf_counter()
    began, before = first[0]
    return {
        "images": images,
        "slots": slots or engine.default_slots(encoder.tap("fc5"), recipe=recipe),
        "devices": jax.device_count(),
        "seconds_an_image": (end - began) / (done - before) * recipe.steps,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _in_a_process(images: int, slots: int, devices: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_scaling", f"--one={images},{slots}"]
    command += [f"--steps={_STEPS.value}", f"--cpu_devices={devices}"]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(made.stdout.splitlines()[-1])


def main() -> int:
    """Runs all settings in turn, prints the table and writes it."""
    if _ONE.value:
        print(json.dumps(run_one(*map(int, _ONE.value.split(",")))))
        return 0
    devices = jax.device_count()
    settings = [(int(images), 0, devices) for images in _IMAGES.value]
    settings += [(_SLOT_IMAGES.value, int(slots), devices) for slots in _SLOTS.value]
    settings += [(_SLOT_IMAGES.value, 8 * count, count) for count in range(1, devices + 1)]
    runs: dict[tuple[int, int, int], list[dict[str, float]]] = {s: [] for s in settings}
    rows = []
    for _ in range(_ROUNDS.value):
        for setting, found in runs.items():
            found.append(_in_a_process(*setting))
    print("images  devices  slots  ms an image  peak MiB")
    for found in runs.values():
        row = found[0] | {
            "seconds_an_image": statistics.median(one["seconds_an_image"] for one in found),
            "peak_mib": max(one["peak_mib"] for one in found),
        }
        rows.append(row)
        print(
            f"{row['images']:6}  {row['devices']:7}  {row['slots']:5}"
            f"  {1e3 * row['seconds_an_image']:11.1f}  {row['peak_mib']:8.0f}"
        )
    if _JSON.value:
        record = {"steps": _STEPS.value, "rows": rows, "load": os.getloadavg()}
        Path(_JSON.value).write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    runtime.run(main)
