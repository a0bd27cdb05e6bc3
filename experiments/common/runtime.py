"""What every script does before its first JAX call, and how it reports a person's mistakes.

The library never touches JAX's global configuration; the scripts do it here.
"""

import gc
import logging as stdlib_logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from absl import app, flags, logging

from posenet_jax.errors import Collapsed, InputError, NotFinite, shown

_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    0,
    "CPU devices to spread a batch over where there is no accelerator; 0: one for each core.",
    lower_bound=0,
)
_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/posenet_jax/xla"),
    "Folder where compiled programs are kept from one run to the next; empty: nowhere.",
)


def configure() -> None:
    """Devices and compilation cache; call it before anything asks JAX for a device."""
    # Looking for garbage among the objects of so many modules would take a tenth of tracing's time.
    gc.freeze()
    gc.set_threshold(20_000)
    # Of a checkpoint that cannot be written it prints every task's traceback beside the sentence.
    stdlib_logging.getLogger("asyncio").setLevel(stdlib_logging.CRITICAL)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", _CPU_DEVICES.value or cores or 1)
    if _COMPILATION_CACHE.value:
        folder = Path(_COMPILATION_CACHE.value).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # The many small programs of a script take seconds together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def tell(sentence: str) -> None:
    """Prints what a person should know besides the results."""
    print(sentence, file=sys.stderr)


def run(main: Callable[[], int]) -> None:
    """Runs an absl script; a mistake of the caller's becomes one sentence and exit code 2."""

    def guarded(argv: list[str]) -> int:
        if len(argv) > 1:
            print(f"error: unexpected argument {argv[1]!r}; see --help", file=sys.stderr)
            return 2
        logging.set_verbosity(logging.WARNING)
        configure()
        try:
            return main()
        except (Collapsed, InputError, NotFinite) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            print(f"error: {_described(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130

    app.run(guarded)


def _described(error: OSError) -> str:
    """The file, where one is known, and the reason, in one line."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    named = isinstance(error.filename, str | bytes | os.PathLike)
    return f"{shown(error.filename)}: {reason}" if named else reason
