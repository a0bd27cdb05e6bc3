"""Image·steps a second of our inversion and of a plain PyTorch loop, in turn, in one run.

Recipe `paper`: TV, L6, clipping, Adam. Both sides have the same weights, targets and start, and
must first reach the same loss; each then runs at its own best batch size. The load is logged, and
what other processes used of the cores: where that is much, the ratio means little.

    python -m benchmarks.bench_inversion --images=PHOTOS --json=inversion.json

On a GPU both sides work there, with full-precision products, and want larger --batches.

With --images, also the time to bring each of 256 photographs to a relative loss of 0.05: see
`time_to_quality`.
"""

import functools
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.turns import NO_PEER, QUIET, Turn, quietly
from experiments.common import runtime
from posenet_jax.encoders.bundled_encoders import DEFAULT
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.encoders.encoder_networks import trainable
from posenet_jax.encoders.streetnet import TAPS
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion import descent, engine, objective, recipes

try:
    import torch

    from benchmarks import time_to_quality, torch_inversion, torch_networks
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    torch = None

_ENCODER = flags.DEFINE_string("encoder", DEFAULT, "A bundled encoder or a .safetensors file.")
_LAYER = flags.DEFINE_enum("layer", "fc5", TAPS, "The tap to invert.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Time of each measurement.", lower_bound=0.1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of each side at its best.", lower_bound=1)
_BATCHES = flags.DEFINE_list("batches", ["8", "16", "32", "64"], "Batch sizes each side tries.")
_PATIENCE = flags.DEFINE_integer(
    "patience", 2, "How often a turn is taken again while other processes are busy."
)
_THREADS = flags.DEFINE_integer("torch_threads", 2, "PyTorch's threads.", lower_bound=1)
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of photographs for time_to_quality_ratio; not measured if not given."
)
_COUNT = flags.DEFINE_integer("count", 256, "Photographs at most.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file as well.")

RECIPE = recipes.PAPER.replace(steps=10**6, tolerance=0.0)

# Shares of the loss by which the two sides may differ. The first loss is one forward pass: float32
# rounding. Adam's first steps go by the gradient's sign, so that a pixel whose gradient is a
# rounding error may move 26.6 grey levels the other way: from then on only the median image is held
# to a rounding, and after some ten steps, chaotic at this rate, only the median loss to some 10 %.
FIRST_TOLERANCE = 1e-5
EARLY_STEPS, EARLY_TOLERANCE = 3, 1e-4
AGREEMENT_STEPS, AGREEMENT_TOLERANCE = 50, 0.1
AGREEMENT_IMAGES = 16

Rate = Callable[[int, float], float]


class _TimeIsUp(Exception):
    """Ends an inversion that has run for long enough."""


def problem(tap: Tap, size: int, count: int) -> tuple[jax.Array, jax.Array]:
    """Targets [count, …], of smooth random images, and starts [count, size, size, 3]."""
    target_key, start_key = jax.random.split(jax.random.key(0))
    coarse = 60.0 * jax.random.normal(target_key, (count, 12, 12, 3))
    smooth = jax.image.resize(coarse, (count, size, size, 3), "linear")
    starts = RECIPE.start_deviation * jax.random.normal(start_key, (count, size, size, 3))
    return jax.jit(lambda tap, x: tap(x))(tap, smooth), starts


# Each side's rate --------------------------------------------------------------------------------


def our_rate(encoder: Encoder, tap: Tap, batch: int, seconds: float) -> float:
    """Image·steps a second of `invert`, without its start: first step, compilation, transfers."""
    targets, _ = problem(tap, encoder.preprocessing.side, batch)
    done, start = 0, 0.0

    def progress(count):
        nonlocal done, start
        now = time.perf_counter()
        if not start:
            start = now
            return
        done += count
        if now - start >= seconds:
            raise _TimeIsUp

    try:
        engine.invert(
            tap,
            targets,
            key=jax.random.key(1),
            recipe=RECIPE,
            space=encoder.preprocessing,
            slots=batch,
            progress=progress,
        )
    except _TimeIsUp:
        pass
    return done / (time.perf_counter() - start)


def torch_steps(encoder: Encoder, tap: Tap, batch: int) -> Iterator["torch.Tensor"]:
    """The peer's steps on the same problem; yields the losses [batch]."""
    architecture = encoder.module.architecture
    targets, starts = problem(tap, encoder.preprocessing.side, batch)
    targets = np.array(targets)
    return torch_inversion.losses(
        architecture,
        tap.layer,
        torch_inversion.freeze(torch_networks.from_flax(encoder.params)),
        torch_networks.channels_first(starts),
        torch.from_numpy(np.moveaxis(targets, -1, 1) if targets.ndim == 4 else targets),
        RECIPE,
        torch_inversion.faster_threshold(batch=batch),
    )


def torch_rate(encoder: Encoder, tap: Tap, batch: int, seconds: float) -> float:
    """Image·steps a second of the PyTorch loop, without its first step."""
    steps = torch_steps(encoder, tap, batch)
    next(steps)
    torch_inversion.wait()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(steps)
        torch_inversion.wait()
        done += batch
    return done / (time.perf_counter() - start)


# Agreement ---------------------------------------------------------------------------------------


def our_losses(encoder: Encoder, tap: Tap, count: int, steps: int) -> np.ndarray:
    """[steps, count] losses of the engine's iterates."""
    space = encoder.preprocessing
    targets, starts = problem(tap, space.side, count)
    state = jax.vmap(lambda key: descent.init(key, RECIPE, space))(
        jax.random.split(jax.random.key(0), count)
    ).replace(parameters=starts)

    @jax.jit
    def advance(state, tap, targets):
        images = state.parameters
        values = jax.vmap(objective.loss, (0, 0, 0, None))(images, tap(images), targets, RECIPE)
        one = functools.partial(descent.step, encode=tap)
        return jax.vmap(one, (0, 0, None))(state, targets, RECIPE), values

    losses = []
    for _ in range(steps):
        state, values = advance(state, tap, targets)
        losses.append(np.asarray(values))
    return np.array(losses)


def check_agreement(encoder: Encoder, tap: Tap) -> dict[str, float]:
    """How far the two sides' losses are apart. InputError if they do not solve one problem."""
    ours = our_losses(encoder, tap, AGREEMENT_IMAGES, AGREEMENT_STEPS)
    peer = torch_steps(encoder, tap, AGREEMENT_IMAGES)
    theirs = np.array([next(peer).cpu().numpy() for _ in range(AGREEMENT_STEPS)])
    apart = np.abs(ours - theirs) / theirs
    # Of the last ten steps: single iterates chatter.
    final = [float(np.median(side[-10:] / side[0])) for side in (ours, theirs)]
    found = {
        "first_loss": (float(apart[0].max()), FIRST_TOLERANCE),
        "early_losses": (float(np.median(apart[:EARLY_STEPS], axis=1).max()), EARLY_TOLERANCE),
        "final_loss": (abs(final[0] / final[1] - 1.0), AGREEMENT_TOLERANCE),
    }
    for name, (difference, allowed) in found.items():
        if not difference <= allowed:
            raise InputError(
                f"no comparison: the two sides do not reach the same loss ({name} differ by "
                f"{difference:.1e}, allowed {allowed:.0e})"
            )
    differences = {f"{name}_differ_by": difference for name, (difference, _) in found.items()}
    return differences | {"final_share_of_loss": final[0], "torch_final_share_of_loss": final[1]}


# What crosses to the host ------------------------------------------------------------------------


def slot_traffic(encoder: Encoder, tap: Tap, slots: int, rounds: int = 3) -> dict[str, float]:
    """Copies, calls and waste of slots that are refilled; images end after 5–40 steps."""
    targets, _ = problem(tap, encoder.preprocessing.size, rounds * slots)
    steps = np.random.default_rng(0).integers(5, 41, len(targets))
    jobs = (
        engine.Job(number, np.asarray(target), recipe=RECIPE.replace(steps=float(own)))
        for number, (target, own) in enumerate(zip(targets, steps, strict=True))
    )
    tally = engine.Tally()
    for _ in engine.run(tap, jobs, key=jax.random.key(1), recipe=RECIPE, slots=slots, tally=tally):
        pass
    return {
        "images_to_host_an_image": tally.images_to_host / tally.images,
        "bytes_to_host_an_image": tally.bytes_to_host / tally.images,
        "programs_a_step": tally.programs / tally.steps,
        "wasted_share_of_image_steps": tally.wasted,
    }


def _print_traffic(found: dict[str, float]) -> None:
    print("images and bytes to the host an image   programs a step   image·steps wasted")
    images, copied, programs, wasted = found.values()
    print(f"{images:22.2f} {copied:12.0f} {programs:19.2f} {wasted:20.1%}", flush=True)


# What the machine can do -------------------------------------------------------------------------


def flops_per_image_step(tap: Tap, size: int) -> float:
    """Multiply-adds counted twice, of the forward pass to the tap and of its input gradient.

    The gradient of a layer with respect to its input costs what the layer costs.
    """
    image = jax.ShapeDtypeStruct((size, size, 3), jnp.float32)
    taps = jax.eval_shape(lambda x: tap.module.apply({"params": tap.params}, x), image)
    total = 0
    for layer in TAPS[: TAPS.index(tap.layer) + 1]:
        positions = np.prod(taps[layer].shape[:-1], dtype=int)
        total += 2 * int(positions) * tap.params[layer]["kernel"].size
    return 2.0 * total


def matmul_rate(seconds: float) -> float:
    """FLOP a second of large float32 matrix products: the better of JAX's and PyTorch's."""
    peer = torch_inversion.device()
    size, devices = 1536 if peer.type == "cpu" else 8192, jax.device_count()
    mesh = jax.make_mesh((devices,), ("rows",))
    a = jnp.ones((devices * size, size))
    a = jax.device_put(a, NamedSharding(mesh, PartitionSpec("rows")))
    b = jax.device_put(jnp.ones((size, size)), NamedSharding(mesh, PartitionSpec()))
    x, y = torch.ones(2 * size, size, device=peer), torch.ones(size, size, device=peer)
    product = jax.jit(jnp.matmul)
    ours = _repetitions(lambda: jax.block_until_ready(product(a, b)), seconds)
    theirs = _repetitions(lambda: (x @ y, torch_inversion.wait()), seconds)
    return 2.0 * size**3 * max(devices * ours, 2 * theirs)


def _repetitions(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, from the quickest of them: the ceiling, not the average."""
    call()
    start, best = time.perf_counter(), np.inf
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
    return 1.0 / best


# The comparison ----------------------------------------------------------------------------------


def best_batches(sides: dict[str, Rate], batches: list[int], seconds: float) -> dict[str, int]:
    """Each side's fastest batch size; prints the table."""
    rates: dict[str, dict[int, float]] = {side: {} for side in sides}
    for batch in batches:
        turns = {side: _quietly(rate, batch, seconds) for side, rate in sides.items()}
        print(_row(f"batch {batch}", turns), flush=True)
        for side, turn in turns.items():
            rates[side][batch] = turn.rate
    return {side: max(found, key=found.__getitem__) for side, found in rates.items()}


def compare(encoder: Encoder, tap: Tap) -> dict:
    """Everything that is reported."""
    record: dict = {"load_before": os.getloadavg(), "agreement": check_agreement(encoder, tap)}
    sides: dict[str, Rate] = {
        "ours": functools.partial(our_rate, encoder, tap),
        "torch": functools.partial(torch_rate, encoder, tap),
    }
    batches = best_batches(sides, [int(b) for b in _BATCHES.value], _SECONDS.value / 2)
    rounds, gemm = [], 0.0
    for number in range(_ROUNDS.value):
        turns = {s: _quietly(rate, batches[s], _SECONDS.value) for s, rate in sides.items()}
        rounds.append(turns)
        gemm = max(gemm, matmul_rate(_SECONDS.value / 8))
        print(_row(f"round {number + 1}", turns), flush=True)
    ours, theirs = (statistics.median(r[s].rate for r in rounds) for s in ("ours", "torch"))
    ratios = [r["ours"].rate / r["torch"].rate for r in rounds]
    others_busy = max(turn.others_busy for r in rounds for turn in r.values())
    if others_busy > QUIET:
        print(f"not quiet: others used {others_busy:.2f} cores; the ratio means little")
    flops = flops_per_image_step(tap, encoder.preprocessing.side)
    record["time_to_quality_ratio"] = None
    if _IMAGES.value:
        record |= time_to_quality.compare(
            encoder, tap, _IMAGES.value, _COUNT.value, batches["ours"], batches["torch"]
        )
    traffic = slot_traffic(encoder, tap, batches["ours"])
    _print_traffic(traffic)
    return record | {
        "slot_traffic": traffic,
        "ratio_vs_torch": statistics.median(ratios),
        "gemm_fraction": ours * flops / gemm,
        "image_steps_per_second": ours,
        "torch_image_steps_per_second": theirs,
        "load": os.getloadavg(),
        "batch_size": batches["ours"],
        "torch_batch_size": batches["torch"],
        "quiet": others_busy <= QUIET,
        "rounds": [{side: turn._asdict() for side, turn in r.items()} for r in rounds],
        "gflops_matmul": gemm / 1e9,
        "gflop_per_image_step": flops / 1e9,
        "encoder": encoder.name,
        "layer": tap.layer,
        "devices": jax.device_count(),
        "device_kind": jax.devices()[0].device_kind,
        "torch_threads": torch.get_num_threads(),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "torch")},
    }


def _quietly(rate: Rate, batch: int, seconds: float) -> Turn:
    return quietly(lambda: rate(batch, seconds), _PATIENCE.value)


def _row(title: str, turns: dict[str, Turn]) -> str:
    columns = "".join(
        f"  {side} {turn.rate:7.1f} (others {turn.others_busy:.2f})" for side, turn in turns.items()
    )
    return f"{title:10s}{columns}  image·steps/s  load {os.getloadavg()[0]:.2f}"


def chosen_encoder() -> Encoder:
    """The encoder of --encoder; where none is bundled yet, one with random weights."""
    try:
        return load_encoder(_ENCODER.value)
    except InputError:
        if _ENCODER.value not in trainable():
            raise
        print(f"no bundled weights for {_ENCODER.value}: random ones, which cost the same")
        return load_encoder(f"{_ENCODER.value}-random-0")


def main() -> int:
    """Compare, print, record."""
    if torch is None:
        raise InputError(NO_PEER)
    torch.set_num_threads(_THREADS.value)
    torch_inversion.full_precision()
    encoder = chosen_encoder()
    record = compare(encoder, encoder.tap(_LAYER.value))
    for name, value in record.items():
        print(f"{name}: {value}")
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(record, file, indent=1)
    return 0


if __name__ == "__main__":
    runtime.run(main)
