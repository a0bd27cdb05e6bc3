"""Kind of source of images, as scripts know it: the flags that name it, and what opens it.

To add one, write a record like those of `folder_source` and `dataset_source`, and list it in
`sources.SOURCES`.

Where a source is described nothing is imported that takes long, as flags are defined before JAX is
imported: `open` imports what it needs.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

if TYPE_CHECKING:
    from posenet_jax.data.sources import ImageSource

Definition = Callable[..., flags.FlagHolder]
"""Function of a flag's name, default and help, such as `flags.DEFINE_string`: its type."""


class Option(NamedTuple):
    """Flag that a source reads besides the one that names it."""

    name: str
    default: Any
    help: str
    define: Definition = flags.DEFINE_string


class Given(NamedTuple):
    """Command line of a run, as far as a source has to know it."""

    value: Any  # of the flag that names the source
    options: Mapping[str, Any]  # values of its further flags, by name
    output: str  # folder of the run, whose pictures are no images of the source
    limit: int  # images at most, 0: all; a source that does not look at it is cut
    max_pixels: int  # of the largest image that is read


class Source(NamedTuple):
    """Kind of source: `--name` chooses it."""

    name: str
    help: str
    open: Callable[[Given], "ImageSource"]  # raises InputError where it cannot be had
    options: tuple[Option, ...] = ()
    define: Definition = flags.DEFINE_string  # of the flag `--name`
