"""Images a second that train a decoder: ours and the same network in PyTorch, in turn, in one run.

    python -m benchmarks.bench_decoder --json=decoder.json

Descriptors and images are given: what is timed is the decoder's forward and backward pass and
Adam's step. Both sides start from the same weights on the same batch and must first lose alike.
Then our rate at each of --batches, the paper's comparison (section 5): it found 64 the most
efficient. The load is logged, and what other processes used of the cores: where that is much, the
ratio means little.
"""

import functools
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.turns import NO_PEER, QUIET, Turn, quietly
from experiments.common import runtime
from posenet_jax.decoders import decoding
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import InputError
from posenet_jax.training import decoder_training
from posenet_jax.training.decoder_training import AXIS, DecoderBatch, DecoderConfig

try:
    import torch

    from benchmarks import torch_decoder
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    torch = None

_CASES = flags.DEFINE_list(
    "cases", ["mirror:fc5", "mirror:conv4", "deep:fc5"], "Networks and the layers they decode."
)
_BATCH = flags.DEFINE_integer("batch_size", 64, "Images a step in the comparison.", lower_bound=1)
_BATCHES = flags.DEFINE_list(
    "batches",
    ["64", "128", "192", "256", "320", "384", "512", "640", "768", "960"],
    "Batch sizes of ours to time, with the first of --cases; empty: none.",
)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Time of each measurement.", lower_bound=0.1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of each side.", lower_bound=1)
_PATIENCE = flags.DEFINE_integer(
    "patience", 2, "How often a turn is taken again while other processes are busy."
)
_THREADS = flags.DEFINE_integer("torch_threads", 2, "PyTorch's threads.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file as well.")

LEARNING_RATE = 1e-4
# Shares by which losses may differ: one forward pass, then what Adam makes of rounded gradients.
FIRST_TOLERANCE, LATER_TOLERANCE = 1e-5, 1e-2
AGREEMENT_STEPS = 4


def problem(layer: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random descriptors [count, ...] and smooth uint8 images [count, 100, 100, 3]."""
    shape = decoding.descriptor_shape(random_encoder(), layer)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 10, 10, 3), dtype=np.uint8)
    descriptors = np.maximum(rng.normal(size=(count, *shape)), 0.0).astype(np.float32)
    return descriptors, coarse.repeat(10, 1).repeat(10, 2)


def our_steps(network: str, layer: str, count: int) -> Iterator[jax.Array]:
    """Losses of `train_step`, each ready when the next is asked for."""
    encoder = random_encoder()
    descriptors, images = problem(layer, count)
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
    config = DecoderConfig(network=network)
    first = decoder_training.init_state(config, descriptors.shape[1:], 0)
    state, tap, scale, rate = jax.device_put(
        (first, encoder.tap(layer), jnp.float32(1.0), jnp.float32(LEARNING_RATE)),
        NamedSharding(mesh, PartitionSpec()),
    )
    batch = jax.device_put(
        DecoderBatch((images,), descriptors), NamedSharding(mesh, PartitionSpec(AXIS))
    )
    while True:
        state, metrics = decoder_training.train_step(
            state, batch, tap, scale, rate, config=config, mesh=mesh
        )
        yield jax.block_until_ready(metrics["loss"])


def torch_steps(network: str, layer: str, count: int) -> Iterator[float]:
    """The peer's losses, from the same weights."""
    descriptors, images = problem(layer, count)
    shape = descriptors.shape[1:]
    state = decoder_training.init_state(DecoderConfig(network=network), shape, 0)
    space = random_encoder().preprocessing
    wanted = np.array(space.to_network(images)) / decoding.value_range(space)
    decoder = torch_decoder.peer_of(NETWORKS[network](), shape).load_flax(state.variables)
    return torch_decoder.losses(
        decoder, _channels_first(descriptors), _channels_first(wanted), LEARNING_RATE
    )


def _channels_first(values: np.ndarray) -> "torch.Tensor":
    return torch.from_numpy(np.moveaxis(values, -1, 1) if values.ndim == 4 else values)


def check_agreement(network: str, layer: str, count: int) -> list[float]:
    """By what share the two sides' first losses differ. InputError if it is too much."""
    sides = [steps(network, layer, count) for steps in (our_steps, torch_steps)]
    ours, theirs = ([float(next(side)) for _ in range(AGREEMENT_STEPS)] for side in sides)
    apart = [abs(a - b) / b for a, b in zip(ours, theirs, strict=True)]
    if apart[0] > FIRST_TOLERANCE or max(apart) > LATER_TOLERANCE:
        raise InputError(
            f"no comparison: the two sides' losses with {network}, {layer} differ by "
            + ", ".join(f"{x:.1e}" for x in apart)
        )
    return apart


def images_per_second(steps: Iterator, count: int) -> float:
    """Number of the steps to come, by their median time, for --seconds and five at least."""
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < _SECONDS.value:
        before = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - before)
    return count / statistics.median(times)


def compare(network: str, layer: str, count: int) -> dict:
    """The two sides in turn."""
    apart = check_agreement(network, layer, count)
    sides = {"ours": our_steps(network, layer, count), "torch": torch_steps(network, layer, count)}
    for steps in sides.values():
        next(steps)  # compiles, allocates
    rounds = []
    for number in range(_ROUNDS.value):
        turns = {side: _turn(steps, count) for side, steps in sides.items()}
        rounds.append(turns)
        print(_row(f"{network} {layer} {number + 1}", turns), flush=True)
    return {
        "ratio_vs_torch": statistics.median(r["ours"].rate / r["torch"].rate for r in rounds),
        "images_per_second": statistics.median(r["ours"].rate for r in rounds),
        "torch_images_per_second": statistics.median(r["torch"].rate for r in rounds),
        "losses_differ_by": apart,
        "quiet": all(turn.others_busy <= QUIET for r in rounds for turn in r.values()),
        "rounds": [{side: turn._asdict() for side, turn in r.items()} for r in rounds],
    }


def batch_sizes(network: str, layer: str) -> dict[str, float]:
    """Our images a second at each of --batches."""
    rates = {}
    for count in map(int, _BATCHES.value):
        steps = our_steps(network, layer, count)
        next(steps)
        turn = _turn(steps, count)
        print(_row(f"batch {count}", {"ours": turn}), flush=True)
        rates[str(count)] = turn.rate
    return rates


def _turn(steps: Iterator, count: int) -> Turn:
    return quietly(functools.partial(images_per_second, steps, count), _PATIENCE.value)


def _row(title: str, turns: dict[str, Turn]) -> str:
    columns = "".join(
        f"  {side} {turn.rate:6.1f} (others {turn.others_busy:.2f})" for side, turn in turns.items()
    )
    return f"{title:15s}{columns}  images/s  load {os.getloadavg()[0]:.2f}"


def main() -> int:
    """Compare, print, record."""
    if torch is None:
        raise InputError(NO_PEER)
    torch.set_num_threads(_THREADS.value)
    cases = [case.split(":") for case in _CASES.value]
    if not all(len(c) == 2 and c[0] in NETWORKS and c[1] in ("fc5", "conv4") for c in cases):
        raise InputError(f"--cases takes network:layer, received {','.join(_CASES.value)}")
    load = os.getloadavg()
    found = {f"{n}:{layer}": compare(n, layer, _BATCH.value) for n, layer in cases}
    record = {
        "ratio_vs_torch": found[_CASES.value[0]]["ratio_vs_torch"],
        "batch_size": _BATCH.value,
        "cases": found,
        "images_per_second_by_batch_size": batch_sizes(*cases[0]),
        "load_before": load,
        "load": os.getloadavg(),
        "devices": jax.device_count(),
        "torch_threads": torch.get_num_threads(),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "torch")},
    }
    for name, value in record.items():
        print(f"{name}: {value}")
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(record, file, indent=1)
    return 0


if __name__ == "__main__":
    runtime.run(main)
