"""Runs killed at random moments and begun again end as undisturbed ones do, byte for byte."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]

# A regression by gradient descent with momentum: cheap, and every step depends on all before it.
_TRAINER = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from posenet_jax import training_loop

@jax.jit
def step(state, batch):
    loss, slope = jax.value_and_grad(lambda w: jnp.mean((batch @ w - 1.0) ** 2))(state["w"])
    speed = 0.9 * state["speed"] - 0.01 * slope
    return {"w": state["w"] + speed, "speed": speed}, {"loss": loss}

def batch(number):
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), number), (8, 50))

workdir = Path(sys.argv[1])
config = training_loop.LoopConfig(
    steps=60, log_every=5, evaluate_every=20, checkpoint_every=7, keep_checkpoints=2)
first = {"w": jnp.zeros(50), "speed": jnp.zeros(50)}
for done, figures, state in training_loop.train(
    first, step=step, batch=batch, evaluate=lambda s: {"norm": float(jnp.linalg.norm(s["w"]))},
    workdir=workdir, config=config):
    print(done, flush=True)
    jax.block_until_ready(state)
    if len(sys.argv) > 2:
        import time; time.sleep(0.02)
np.save(workdir / "final.npy", state["w"])
"""


def _start(workdir, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", _TRAINER, str(workdir), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    _, errors = (process := _start(undisturbed)).communicate(timeout=300)
    assert process.returncode == 0, errors
    moments = random.Random(4)
    for _ in range(4):
        process = _start(killed, "slowly")
        assert process.stdout is not None and process.stdout.readline()  # it has begun
        time.sleep(moments.uniform(0.0, 0.8))
        process.kill()
        process.communicate()
    assert not (killed / "final.npy").exists()
    _, errors = (process := _start(killed)).communicate(timeout=300)
    assert process.returncode == 0, errors
    np.testing.assert_array_equal(np.load(killed / "final.npy"), np.load(undisturbed / "final.npy"))
    tables = [(folder / "metrics.csv").read_text().splitlines() for folder in (killed, undisturbed)]
    times = tables[0][0].split(",").index("steps_per_second")
    rows = [[line.split(",") for line in table] for table in tables]
    for table in rows:
        for row in table:
            del row[times]
    assert rows[0] == rows[1]
    assert not list(killed.glob("*.partial"))
