"""Flags that divide a run among several processes, on one machine or on many.

The processes need only an output folder in common: each computes its own shards and writes them
there. `jax.distributed` can number the processes.
"""

from absl import flags

_INDEX = flags.DEFINE_integer(
    "process_index", 0, "Number of this process, from 0 to --process_count - 1.", lower_bound=0
)
_COUNT = flags.DEFINE_integer(
    "process_count",
    1,
    "Number of processes that divide the work; each is started by itself.",
    lower_bound=1,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Address HOST:PORT of process 0, for jax.distributed; not used if not given.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Take the address of process 0, the number of processes and this one's from the cluster's"
    " environment, through jax.distributed (SLURM, Open MPI, Kubernetes, TPU pods).",
)


def share() -> tuple[int, int]:
    """Returns this process's number and the count; call it before JAX is asked for a device."""
    import jax

    if _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _COUNT.value, _INDEX.value)
    elif _DISTRIBUTED.value:
        jax.distributed.initialize()
    else:
        return _INDEX.value, _COUNT.value
    return jax.process_index(), jax.process_count()
