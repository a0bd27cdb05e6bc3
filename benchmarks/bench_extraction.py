"""Rate of extraction beside the encoder's own forward rate; waiting, memory, disk.

    python -m benchmarks.bench_extraction --json=extraction.json
    python -m benchmarks.bench_extraction --rounds=0 --memory=1000,10000,100000

Each round measures, in turn, the encoder alone on batches that lie in memory, the extraction of
images in memory, and that of JPEG files; every rate is printed with the load. The peak of resident
memory is that of a process of its own for each number of images, of `--memory_source`: images made
from their position, or files (links to a few).
"""

import itertools
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
from absl import app, flags, logging
from jax.sharding import Mesh
from PIL import Image

from experiments.common import runtime
from posenet_jax.bulk import extraction
from posenet_jax.data.sources import FolderImages, ImageSource, NamedImage
from posenet_jax.encoders import weights

_ENCODER = flags.DEFINE_string("encoder", "streetnet-random-0", "Whose rate.")
_LAYER = flags.DEFINE_string("layer", "fc5", "Layer whose activations are written.")
_FORMAT = flags.DEFINE_enum("format", "array_record", ["array_record", "safetensors"], "Of files.")
_COUNT = flags.DEFINE_integer("count", 8192, "Images a measurement.")
_FILES = flags.DEFINE_integer("files", 4096, "JPEG files a measurement; 0: none.")
_SIDE = flags.DEFINE_integer("side", 256, "Height and width of the files, pixels.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Times that each is measured, in turn.")
_BATCH = flags.DEFINE_integer("batch_size", 0, "Images encoded together; 0: as extraction has it.")
_MEMORY = flags.DEFINE_list("memory", [], "Numbers of images whose memory peak to measure.")
_SOURCE = flags.DEFINE_enum(
    "memory_source", "generated", ["generated", "files"], "Of the images for --memory."
)
_ONE = flags.DEFINE_integer("peak_of", 0, "Used for --memory: measure this one here.")
_JSON = flags.DEFINE_string("json", None, "Write the results to this file as well.")

_WHOLE = 800_000
_POOL = 256
# File systems allow only so many names for one file.
_LINKS = 20_000


class Generated:
    """`count` images of a pool that lies in memory."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        rng = np.random.default_rng(0)
        self.pool = rng.integers(0, 256, (_POOL, size, size, 3)).astype(np.uint8)
        self.fingerprint = f"generated-{count}"

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        return f"{position:06d}"

    def __getitem__(self, position) -> NamedImage:
        return NamedImage(self.name(position), self.pool[position % _POOL])


def write_files(folder: Path, count: int, side: int) -> None:
    """`count` names of JPEG files: coarse noise, which compresses as photographs do."""
    rng = np.random.default_rng(0)
    originals = max(min(count, 64), -(-count // _LINKS))
    for number in range(count):
        path = folder / f"{number % 100:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number < originals:
            coarse = rng.integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
            Image.fromarray(coarse).resize((side, side)).save(path, quality=90)
        else:
            first = number % originals
            os.link(folder / f"{first % 100:02d}" / f"{first:06d}.jpg", path)


def forward_rate(tap, batch_size: int, count: int, mesh: Mesh) -> float:
    """Images a second of the network alone, the next batch handed over before the last is done."""
    pool = Generated(1, tap.preprocessing.side).pool
    batch = np.resize(pool, (batch_size, *pool.shape[1:]))
    jax.block_until_ready(extraction.encode(tap, batch, mesh))
    start, owed = time.perf_counter(), []
    for _ in range(-(-count // batch_size)):
        owed.append(extraction.encode(tap, batch, mesh))
        if len(owed) > 2:
            jax.block_until_ready(owed.pop(0))
    jax.block_until_ready(owed)
    return -(-count // batch_size) * batch_size / (time.perf_counter() - start)


def extract(encoder, source: ImageSource) -> dict[str, float]:
    """Rate, waiting and bytes a descriptor of one extraction from nothing to the manifest."""
    config = extraction.ExtractionConfig(file_format=_FORMAT.value, batch_size=_BATCH.value)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        summary = extraction.extract(encoder, _LAYER.value, source, out, config)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(out).rglob("*") if path.is_file())
    return {
        "images_per_second": len(source) / seconds,
        "wait_share": summary.wait_share,
        "bytes_an_image": size / len(source),
    }


def measure_rates(encoder) -> list[dict]:
    """A line for each measurement of each round."""
    mesh = Mesh(np.asarray(jax.local_devices()), ("images",))
    tap = jax.device_put(
        encoder.tap(_LAYER.value).prepared(),
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()),
    )
    batch = _BATCH.value or extraction.default_batch(mesh.size)
    generated = Generated(_COUNT.value, encoder.preprocessing.side)
    extract(encoder, Generated(batch, encoder.preprocessing.side))  # compiles
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        turns = {
            "encoder alone": lambda: {
                "images_per_second": forward_rate(tap, batch, _COUNT.value, mesh)
            },
            "from memory": lambda: extract(encoder, generated),
        }
        if _FILES.value:
            write_files(Path(folder), _FILES.value, _SIDE.value)
            files = FolderImages(folder)
            turns["from files"] = lambda: extract(encoder, files)
        for number, (name, measure) in itertools.product(range(_ROUNDS.value), turns.items()):
            line = {"round": number, "name": name, **measure(), "load": os.getloadavg()[0]}
            lines.append(line)
            wait = f"  waiting {line['wait_share']:5.1%}" if "wait_share" in line else " " * 16
            rate = f"{line['images_per_second']:9.1f} images/s"
            print(f"{name:14s}{rate}{wait}  load {line['load']:.2f}", flush=True)
    return lines


def summarise(lines: list[dict]) -> dict[str, dict[str, float]]:
    """Shares of the encoder's rate, round by round, and what the whole data set would take."""
    summary: dict[str, dict[str, float]] = {}
    rates = {
        name: [line["images_per_second"] for line in lines if line["name"] == name]
        for name in dict.fromkeys(line["name"] for line in lines)
    }
    for name in [name for name in rates if name != "encoder alone"]:
        shares = [a / b for a, b in zip(rates[name], rates["encoder alone"], strict=True)]
        rate = statistics.median(rates[name])
        size = statistics.median(x["bytes_an_image"] for x in lines if x["name"] == name)
        summary[name] = {
            "share_of_forward_rate": statistics.median(shares),
            "hours_for_800000": _WHOLE / rate / 3600,
            "gib_for_800000": _WHOLE * size / 2**30,
        }
        print(
            f"{name}: {statistics.median(shares):.0%} of the encoder's rate"
            f" ({', '.join(f'{share:.0%}' for share in shares)}); {_WHOLE:,} images:"
            f" {_WHOLE / rate / 3600:.2f} h, {_WHOLE * size / 2**30:.2f} GiB"
        )
    return summary


def print_peak(encoder, count: int) -> None:
    """The peak of resident memory of extracting so many, as JSON, of this process."""
    with tempfile.TemporaryDirectory() as folder:
        if _SOURCE.value == "files":
            write_files(Path(folder), count, _SIDE.value)
            source: ImageSource = FolderImages(folder)
        else:
            source = Generated(count, encoder.preprocessing.side)
        figures = extract(encoder, source)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    print(json.dumps({"images": count, "peak_mib": peak / 2**20} | figures))


def measure_memory() -> list[dict]:
    """A process of its own for each number of images."""
    lines = []
    for count in _MEMORY.value:
        command = [sys.executable, "-m", "benchmarks.bench_extraction", f"--peak_of={count}"]
        for flag in ("encoder", "layer", "format", "batch_size", "memory_source", "side"):
            command.append(f"--{flag}={flags.FLAGS[flag].value}")
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        line = json.loads(output.splitlines()[-1]) | {"load": os.getloadavg()[0]}
        lines.append(line)
        print(
            f"{line['images']:8d} images ({_SOURCE.value}): peak {line['peak_mib']:7.1f} MiB,"
            f" {line['images_per_second']:.1f} images/s, load {line['load']:.2f}",
            flush=True,
        )
    return lines


def main(argv) -> None:
    """Measures and prints."""
    del argv
    logging.set_verbosity(logging.WARNING)
    runtime.configure()
    encoder = weights.load_encoder(_ENCODER.value)
    if _ONE.value:
        print_peak(encoder, _ONE.value)
        return
    rates = measure_rates(encoder) if _ROUNDS.value else []
    record = {
        "encoder": encoder.name,
        "layer": _LAYER.value,
        "format": _FORMAT.value,
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "rates": rates,
        "summary": summarise(rates),
        "memory": measure_memory(),
    }
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
