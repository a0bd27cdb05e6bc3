"""Measurements taken in turn, and again where other processes were busy meanwhile."""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

# Cores that others may keep busy in a turn that counts. PyTorch's threads wait for one another at
# every layer: one busy neighbour costs it a factor of ten, and would make a fine, false ratio.
QUIET = 0.1
NO_PEER = "PyTorch is the peer of this benchmark: pip install .[oracle]"


class Turn(NamedTuple):
    """One measurement."""

    rate: float  # of whatever was measured, a second
    others_busy: float  # cores that other processes used meanwhile


class Watch:
    """Time since it was made, and what other processes have used of the cores meanwhile."""

    def __init__(self) -> None:
        self._others, self._start = _others_seconds(), time.perf_counter()

    def turn(self, work: float) -> Turn:
        """Returns the measurement of so much work, done since."""
        seconds = time.perf_counter() - self._start
        return Turn(work / seconds, (_others_seconds() - self._others) / seconds)


def quietly(measure: Callable[[], float], patience: int) -> Turn:
    """One turn; taken again, up to `patience` times, while others keep the cores busy."""
    turns = []
    for _ in range(1 + patience):
        watch = Watch()
        rate = measure()
        turns.append(watch.turn(0.0)._replace(rate=rate))
        if turns[-1].others_busy <= QUIET:
            break
    return min(turns, key=lambda turn: turn.others_busy)


def _others_seconds() -> float:
    """Core·seconds that everything but this process has used so far; 0 where it cannot be read."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, *rest = map(int, file.readline().split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK") - time.process_time()
