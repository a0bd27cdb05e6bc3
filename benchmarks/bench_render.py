"""Images a second of the renderer: staged, at one ray a pixel and antialiased, or as one program.

Prints the load beside every rate; with another busy process on the machine a rate means little.
"""

import json
import os
import time

import jax
from absl import app, flags

from posenet_jax import scenes

_SIZE = flags.DEFINE_integer("size", 100, "Height and width in pixels.")
_BATCH = flags.DEFINE_integer("batch", 16, "Pairs a batch, two images each.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Time a measurement.")
_DEVICES = flags.DEFINE_integer("cpu_devices", 2, "CPU devices to spread a batch over.")
_KINDS = flags.DEFINE_multi_enum("kind", ["cities"], scenes.kind_names(), "Kinds of scenes.")
_ROUNDS = flags.DEFINE_integer("rounds", 1, "Times that all is measured, kinds in turn.")
_ONE_PROGRAM = flags.DEFINE_bool("one_program", False, "Also render as one jitted program.")
_JSON = flags.DEFINE_string("json", None, "Write the results to this file as well.")


def spread(keys: jax.Array, atlas: scenes.Atlas) -> tuple[jax.Array, scenes.Atlas]:
    """Keys split over all devices, the atlas on each."""
    mesh = jax.sharding.Mesh(jax.devices(), ("batch",))
    by_batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(keys, by_batch), jax.device_put(atlas, everywhere)


def images_per_second(render, keys: jax.Array, seconds: float) -> float:
    """Rate of a function of keys after a first, untimed call."""
    jax.block_until_ready(render(keys))
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        done += jax.block_until_ready(render(keys)).shape[0] * 2
    return done / (time.perf_counter() - start)


def measure(kind: str, name: str, rays: int, keys: jax.Array, atlas: scenes.Atlas) -> dict:
    """One line of the table."""
    config = scenes.kind_named(kind).config(height=_SIZE.value, width=_SIZE.value, rays=rays)

    def render(keys, atlas=atlas):
        return scenes.render_pairs(keys, atlas, config).image

    if name == "one program":
        program = jax.jit(render)
        rate = images_per_second(lambda keys: program(keys, atlas), keys, _SECONDS.value)
    else:
        rate = images_per_second(render, keys, _SECONDS.value)
    load = os.getloadavg()[0]
    print(f"{kind:7s} {name:12s} rays {rays}  {rate:8.1f} images/s  load {load:.2f}", flush=True)
    return {"kind": kind, "name": name, "rays": rays, "images_per_second": rate, "load": load}


def main(argv):
    """Measure and print."""
    del argv
    jax.config.update("jax_num_cpu_devices", _DEVICES.value)
    keys = jax.random.split(jax.random.key(0), _BATCH.value)
    keys, atlas = spread(keys, scenes.procedural_atlas(jax.random.key(1), 64))
    rows = [("staged", rays) for rays in (1, 2, 4)]
    rows += [("one program", 1), ("one program", 2)] if _ONE_PROGRAM.value else []
    turns = [(kind, *row) for _ in range(_ROUNDS.value) for row in rows for kind in _KINDS.value]
    results = [measure(kind, name, rays, keys, atlas) for kind, name, rays in turns]
    record = {
        "size": _SIZE.value,
        "batch": _BATCH.value,
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
    }
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(record | {"results": results}, file, indent=2)


if __name__ == "__main__":
    app.run(main)
