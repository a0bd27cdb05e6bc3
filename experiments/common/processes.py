"""Flags by which several processes, on one machine or many, share a run's work.

They need a folder in common and nothing else: each takes its shards and writes them there. JAX's
own service can number them.
"""

from absl import flags

_INDEX = flags.DEFINE_integer(
    "process_index", 0, "Number of this process, from 0 to --process_count less one.", lower_bound=0
)
_COUNT = flags.DEFINE_integer(
    "process_count", 1, "Processes that share the work, one command each.", lower_bound=1
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Address HOST:PORT of process 0, where jax.distributed joins the processes; none if not given.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Let jax.distributed find address, number and index in the cluster's environment (SLURM, Open "
    "MPI, Kubernetes, TPU pods).",
)


def share() -> tuple[int, int]:
    """(this process, how many there are); call it before anything asks JAX for a device."""
    import jax

    if _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _COUNT.value, _INDEX.value)
    elif _DISTRIBUTED.value:
        jax.distributed.initialize()
    else:
        return _INDEX.value, _COUNT.value
    return jax.process_index(), jax.process_count()
