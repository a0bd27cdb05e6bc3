"""Progress bars of the scripts, on stderr."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tqdm.auto import tqdm  # a notebook's where there is one


class Bar(tqdm):
    """Bar that says "compiling" until the first units are done, with which its clock begins."""

    def __init__(self, *, desc: str | None = None, **options: Any) -> None:
        self._description = desc
        self._while_compiling = f"{desc}, compiling" if desc else "compiling"
        self._compiling = True
        super().__init__(desc=self._while_compiling, **options)

    def part(self) -> Callable[[int], Any]:
        """Returns `update`, for a part of the work whose program is compiled first."""
        self._compiling = True
        self.set_description(self._while_compiling)
        return self.update

    def update(self, n: float | None = 1) -> bool | None:
        """Counts n units more."""
        if not n:
            return None
        if self._compiling:
            self._compiling = False
            self.unpause()
            self.set_description(self._description)
        return super().update(n)


def bar(total: int | None, unit: str, *, done: int = 0, description: str | None = None) -> Bar:
    """Returns a bar for a `with` block; of no work at all none is shown.

    total: None: not known yet. done: the part of `total` that needs no work any more.
    """
    return Bar(
        total=total,
        initial=done,
        unit=unit,
        desc=description,
        mininterval=1.0,
        dynamic_ncols=True,
        disable=total == 0,
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
