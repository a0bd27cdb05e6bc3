"""Progress bars of the scripts, on stderr."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tqdm import tqdm


def bar(total: int, unit: str, *, done: int = 0, description: str | None = None) -> tqdm:
    """Returns a bar for a `with` block; of no work at all none is shown.

    done: the part of `total` that needs no work any more.
    """
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        desc=description,
        mininterval=1.0,
        dynamic_ncols=True,
        disable=not total,
    )


@contextlib.contextmanager
def described(description: str, total: int, unit: str) -> Iterator[Callable[[int], Any]]:
    """Gives a function to call with the number of units done, as `report.material.Progress`."""
    with bar(total, unit, description=description) as shown:
        yield shown.update


def follow(
    training: Iterable[tuple[int, Mapping[str, float], Any]],
    total: int,
    unit: str,
    *,
    done: int,
    beside: str,
) -> None:
    """Runs a training to its end, with its loss and the metrics whose names end in `beside`.

    training: yields (steps done, newest metrics, state). done: steps of the run that it resumes.
    """
    with bar(total, unit, done=done) as shown:
        for steps, metrics, _ in training:
            shown.update(steps - shown.n)
            newest = {k: v for k, v in metrics.items() if k == "loss" or k.endswith(beside)}
            shown.set_postfix({k: f"{v:.4g}" for k, v in newest.items()}, refresh=False)
