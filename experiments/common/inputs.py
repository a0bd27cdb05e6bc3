"""Flags that say which images a script takes, made from the registry of sources.

The imports that take seconds stand in functions that are called after flags are parsed: `--help` is
to answer at once.
"""

import contextlib
import itertools
from typing import TYPE_CHECKING

from absl import flags

from . import options
from .source import Given
from .sources import SOURCES

if TYPE_CHECKING:
    from posenet_jax.data.loading import LoadedImages
    from posenet_jax.data.sources import ImageSource, NamedImage
    from posenet_jax.images.preprocessing import Preprocessing

_CHOICES = {name: source.define(name, None, source.help) for name, source in SOURCES.items()}
OPTIONS = {
    option.name: option.define(option.name, option.default, option.help)
    for option in dict.fromkeys(option for source in SOURCES.values() for option in source.options)
}
"""Further flags of the sources, by name; several sources may read the same one."""
LIMIT = options.limit()
THREADS = flags.DEFINE_integer(
    "threads", 0, "Threads that read images; 0: one a core.", lower_bound=0
)


def require(*others: flags.FlagHolder) -> None:
    """Refuses command lines that do not give just one source, or one of other flags."""
    names = [*_CHOICES, *(other.name for other in others)]
    flags.register_multi_flags_validator(
        names, lambda given: sum(map(bool, given.values())) == 1, f"give one of {_listed(names)}"
    )


def number_given() -> int:
    """Returns how many flags name a source."""
    return len(_given())


def names() -> str:
    """Returns the flags of all sources as a sentence lists them."""
    return _listed(list(_CHOICES))


def source(output: str, *, limit: int | None = None) -> "ImageSource":
    """Opens the source that is given, without what lies in the run's output folder.

    limit: images at most, 0: all; None: as many as --limit says. Raises InputError where not just
    one is given, or it cannot be had.
    """
    from posenet_jax.data.sources import FirstImages
    from posenet_jax.errors import InputError

    if number_given() != 1:
        raise InputError(f"give one of {names()}")
    chosen = SOURCES[_given()[0]]
    most = LIMIT.value if limit is None else limit
    values = {option.name: OPTIONS[option.name].value for option in chosen.options}
    value, max_pixels = _CHOICES[chosen.name].value, options.MAX_PIXELS.value
    opened = chosen.open(Given(value, values, output, most, max_pixels))
    return FirstImages(opened, most) if 0 < most < len(opened) else opened


def load(output: str, preprocessing: "Preprocessing") -> "LoadedImages":
    """Reads all images of the source into memory; those that cannot be read are named.

    Raises InputError where not one can be read.
    """
    from posenet_jax.data.loading import load_images
    from posenet_jax.errors import InputError

    from . import images

    opened = source(output)
    loaded = load_images(opened, preprocessing, threads=THREADS.value)
    for failure in loaded.failures:
        images.tell(failure)
    if not loaded.names:
        raise InputError(_none_read(len(opened)))
    return loaded


def first(output: str, preprocessing: "Preprocessing") -> "list[NamedImage]":
    """Reads the first --limit images that can be read; those before them that cannot are named.

    Raises InputError where not one can be read.
    """
    from posenet_jax.data.loading import readable
    from posenet_jax.errors import InputError

    from . import images

    opened = source(output, limit=0)
    read = readable(opened, preprocessing, threads=THREADS.value, report=images.tell)
    with contextlib.closing(read) as found:
        chosen = list(itertools.islice(found, LIMIT.value or None))
    if not chosen:
        raise InputError(_none_read(len(opened)))
    return chosen


def _none_read(count: int) -> str:
    (name,) = _given()
    return f"none of the {count} images of --{name}={_CHOICES[name].value} could be read"


def _given() -> list[str]:
    return [name for name, choice in _CHOICES.items() if choice.value]


def _listed(names: list[str]) -> str:
    *others, last = (f"--{name}" for name in names)
    return f"{', '.join(others)} and {last}"
