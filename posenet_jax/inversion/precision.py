"""Products in low precision in the first steps of an inversion, in full precision in the last ones.

Low is what the device multiplies fastest: operands of 10 bits of mantissa on GPUs (TF32), of 7 on
TPUs (bfloat16). A CPU has full precision alone. Slots are at different steps, and a product is one
for all of them. So what advances all slots is made of two steps, one of each precision, each of the
slots whose turn it is; the others stay as they are. A step that no slot needs is left out.

A slot's own steps decide which of the two advances it, so its result does not depend on its
neighbours. While all slots are in the same half, which is nearly always so where all jobs have as
many steps, a call costs one step; else it costs both.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from posenet_jax.inversion.descent import State, Status
from posenet_jax.inversion.shapes import Flag

Step = Callable[[State], State]


def stepped(step: Step, state: State, low: Flag) -> State:
    """Returns the state after one step of all that run.

    step: of all slots, or of one; it leaves those that do not run as they are. low: which are in
    low precision (`descent.in_low_precision`), like `state.steps`.
    """
    for turn, precision in ((low, "default"), (~low, "highest")):
        needed = jnp.any(turn & (state.status == Status.RUNNING))
        advance = functools.partial(_advance, step, turn, precision)
        state = lax.cond(needed, advance, lambda state: state, state)
    return state


def _advance(step: Step, turn: Flag, precision: str, state: State) -> State:
    """Returns the state after a step of those whose turn it is; the others wait as if ended."""
    waiting = jnp.where(turn, state.status, Status.OUT_OF_STEPS).astype(state.status.dtype)
    with jax.default_matmul_precision(precision):
        after = step(state.replace(status=waiting))  # type: ignore[attr-defined]
    return after.replace(status=jnp.where(turn, after.status, state.status))  # type: ignore[attr-defined]
