"""Flags of the scripts that train a decoder, besides `decoder_options`."""

from absl import flags

from . import options

STEPS = options.training_steps(20_000)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 2e-3, "Highest learning rate of Adam.", lower_bound=0.0
)
_DROPS = flags.DEFINE_list(
    "drops",
    [],
    "Steps after which the learning rate is divided by ten, separated by commas; empty: none.",
)
EVALUATE = flags.DEFINE_integer(
    "evaluate_every", 1000, "Steps between evaluations, a multiple of 50.", lower_bound=50
)
CHECKPOINT = flags.DEFINE_integer(
    "checkpoint_every",
    500,
    "Steps between checkpoints, at least 1; where they take longer than five minutes, there is one"
    " every five minutes.",
    lower_bound=1,
)


def drops() -> tuple[int, ...]:
    """Returns the steps of --drops. Raises InputError where one is not a number."""
    from posenet_jax.errors import InputError  # here, as nothing is to import JAX for --help

    try:
        return tuple(int(drop) for drop in _DROPS.value)
    except ValueError as error:
        raise InputError(f"--drops takes numbers of steps, received {_DROPS.value}") from error
