"""Flags by which several processes, on one machine or many, share a run's work.

They need a folder in common and nothing else: each takes its shards and writes them there. JAX's
own service can number them.
"""

import jax
from absl import flags

_INDEX = flags.DEFINE_integer("process_index", 0, "Which process this is.", lower_bound=0)
_COUNT = flags.DEFINE_integer(
    "process_count", 1, "Processes that share the work, one command each.", lower_bound=1
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where jax.distributed is to join the processes."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Let jax.distributed find address, number and index in the cluster's environment (SLURM, Open "
    "MPI, Kubernetes, TPU pods).",
)


def share() -> tuple[int, int]:
    """(this process, how many there are); call it before anything asks JAX for a device."""
    if _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _COUNT.value, _INDEX.value)
    elif _DISTRIBUTED.value:
        jax.distributed.initialize()
    else:
        return _INDEX.value, _COUNT.value
    return jax.process_index(), jax.process_count()
