"""A training in a process of its own, to be killed in the middle.

A regression by gradient descent with momentum: cheap, and every step depends on all before it.
Prints a line for every step.

python -m training_child WORKDIR [slowly]
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax.io import files, storage
from posenet_jax.training import training_loop


@jax.jit
def step(state, batch):
    loss, slope = jax.value_and_grad(lambda w: jnp.mean((batch @ w - 1.0) ** 2))(state["w"])
    speed = 0.9 * state["speed"] - 0.01 * slope
    return {"w": state["w"] + speed, "speed": speed}, {"loss": loss}


def batch(number):
    return jax.random.normal(jax.random.fold_in(jax.random.key(0), number), (8, 50))


def evaluate(state):
    return {"norm": float(jnp.linalg.norm(state["w"]))}


def training(workdir: Path, steps: int = 60):
    """The run, a step at a time."""
    config = training_loop.LoopConfig(
        steps=steps, log_every=5, evaluate_every=20, checkpoint_every=7, keep_checkpoints=2
    )
    first = {"w": jnp.zeros(50), "speed": jnp.zeros(50)}
    return training_loop.train(
        first, step=step, batch=batch, evaluate=evaluate, workdir=workdir, config=config
    )


def main(workdir: Path, pause: float) -> None:
    for done, _, state in training(workdir):
        print(done, flush=True)
        weights = np.asarray(state["w"])
        time.sleep(pause)
    files.write_atomically(workdir / "final.npy", lambda file: np.save(file, weights))


if __name__ == "__main__":
    main(storage.path(sys.argv[1]), 0.02 if "slowly" in sys.argv else 0.0)
