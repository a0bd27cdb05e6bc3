"""Cost of a training step, and the fraction of it that makes its data.

Times the update on pairs already made, the rendering of a step's streets, the resampling of its
photographs, and the whole as the trainer runs it, in turn, round after round.

    python -m benchmarks.bench_training --photos=PHOTOS --json=training.json
"""

import json
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

from experiments.common import runtime
from posenet_jax import scenes, sharding
from posenet_jax.data import training_pairs
from posenet_jax.encoders.encoder_networks import trainable
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.images.preprocessing import CUSTOMARY
from posenet_jax.training import pose_training

_PHOTOS = flags.DEFINE_string("photos", None, "Folder of photographs; random ones if not given.")
_ARCHITECTURE = flags.DEFINE_enum("architecture", "streetnet", trainable(), "Encoder.")
_PAIRS = flags.DEFINE_integer("pairs", 16, "Rendered pairs a step, and as many of photographs.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of all parts.", lower_bound=1)
_CALLS = flags.DEFINE_integer("calls", 8, "Calls a turn.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file as well.")


def _seconds(call: Callable[[int], object]) -> float:
    start = time.perf_counter()
    for number in range(_CALLS.value):
        jax.block_until_ready(call(number))
    return (time.perf_counter() - start) / _CALLS.value


def _sources(mesh: Mesh) -> tuple[training_pairs.RenderedPairs, training_pairs.PhotoPairs]:
    atlas, _, _ = training_pairs.facade_atlases(None, jax.random.key(0), mesh)
    rendered = training_pairs.RenderedPairs(atlas, scenes.SceneConfig(), _PAIRS.value, mesh)
    if _PHOTOS.value:
        photos, _ = training_pairs.load_photos(_PHOTOS.value, mesh)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (256, 150, 150, 3), dtype=np.uint8)
        photos = jax.device_put(noise, sharding.on_every_device(mesh))
    return rendered, training_pairs.PhotoPairs(photos, _PAIRS.value, mesh, posed=True)


def main() -> int:
    """Measures and prints; returns the exit code."""
    mesh = Mesh(np.asarray(jax.devices()), ("pairs",))
    config = pose_training.TrainConfig(
        architecture=_ARCHITECTURE.value, rendered_pairs=_PAIRS.value, photo_pairs=_PAIRS.value
    )
    config.check_fits(mesh)
    rendered, photos = _sources(mesh)
    state = jax.device_put(pose_training.init_state(config), sharding.on_every_device(mesh))
    scale = PoseScale(mean=jnp.zeros(6), std=jnp.ones(6))
    ready = rendered(jax.random.key(1)), photos(jax.random.key(2))

    def update(batches):
        nonlocal state
        state, metrics = pose_training.train_step(
            state, batches, scale, config=config, space=CUSTOMARY, mesh=mesh
        )
        jax.block_until_ready(state)  # as the trainer does on CPU
        return metrics

    parts: dict[str, Callable[[int], object]] = {
        "update": lambda number: update(ready),
        "rendering": lambda number: rendered(jax.random.key(number)),
        "photographs": lambda number: photos(jax.random.key(number)),
        "whole": lambda number: update(
            (rendered(jax.random.key(number)), photos(jax.random.key(number)))
        ),
    }
    for call in parts.values():
        jax.block_until_ready(call(0))  # compiles
    rounds = [{name: _seconds(call) for name, call in parts.items()} for _ in range(_ROUNDS.value)]
    seconds = {name: statistics.median(r[name] for r in rounds) for name in parts}
    record = {
        "seconds": seconds,
        "steps_per_second": 1.0 / seconds["whole"],
        "rendering_share": seconds["rendering"] / seconds["whole"],
        "data_share": 1.0 - seconds["update"] / seconds["whole"],
        "rendered_images_per_second": 2 * _PAIRS.value / seconds["rendering"],
        "trained_images_per_second": 4 * _PAIRS.value / seconds["whole"],
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "load": os.getloadavg()[0],
    }
    for name, value in seconds.items():
        print(f"{name:12s} {1e3 * value:8.1f} ms")
    print(
        f"{record['steps_per_second']:.2f} steps/s; rendering {record['rendering_share']:.1%}, "
        f"all data {record['data_share']:.1%} of a step; load {record['load']:.2f}"
    )
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(record | {"rounds": rounds}, file, indent=2)
    return 0


if __name__ == "__main__":
    runtime.run(main)
