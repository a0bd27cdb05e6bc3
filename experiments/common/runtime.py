"""Start and end of every script: flags, JAX's configuration, records, errors and exit codes.

The library never touches JAX's global configuration; the scripts do it here. Nothing is imported
here that takes long: `parse` answers `--help` and mistyped flags before a script's own imports.
"""

import gc
import logging as stdlib_logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from absl import app, flags, logging

from posenet_jax.io import storage

from . import buckets, commands

_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    0,
    "CPU devices that batches are split over where there is no accelerator; 0: one for each core.",
    lower_bound=0,
)
_COMPILATION_CACHE = buckets.string(
    "compilation_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/posenet_jax/xla"),
    "Folder in which compiled programs are cached between runs; empty: no cache.",
)


def parse(renamed: Mapping[str, str] | None = None) -> None:
    """Reads the command line; ends the process for --help, and with 2 for an unknown flag.

    Scripts call it once their flags are defined and before the imports that take seconds.
    renamed: {former name of a flag: its name}.
    """
    renamed = renamed or {}
    app.define_help_flags()
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(f"{commands.PACKAGE}."):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    try:
        rest = flags.FLAGS(sys.argv)
    except SystemExit:  # it has printed the help that was asked for
        sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        if error.flagname in renamed:
            _refuse(f"--{error.flagname} is now called --{renamed[error.flagname]}")
        _refuse(f"{error}; see --help")
    except flags.Error as error:
        _refuse(f"{' '.join(str(error).split())}; see --help")
    if len(rest) > 1:
        _refuse(f"unexpected argument {rest[1]!r}; see --help")
    if sentence := buckets.refusal():
        _refuse(sentence)


def _refuse(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


def configure() -> None:
    """Sets JAX's devices and compilation cache; call it before anything asks JAX for a device."""
    import jax

    # Looking for garbage among the objects of so many modules would take a tenth of tracing's time.
    gc.freeze()
    gc.set_threshold(20_000)
    # Where a checkpoint cannot be written it prints every task's traceback beside the sentence.
    stdlib_logging.getLogger("asyncio").setLevel(stdlib_logging.CRITICAL)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", _CPU_DEVICES.value or cores or 1)
    if _COMPILATION_CACHE.value:
        folder = storage.path(_COMPILATION_CACHE.value).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # The many small programs of a script take seconds together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def tell(sentence: str) -> None:
    """Prints a sentence on stderr, apart from the results."""
    print(sentence, file=sys.stderr)


def record(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of run.json: the run's flags, versions, device, commit, and `facts`."""
    from posenet_jax.io.provenance import run_record

    return run_record(flags.FLAGS.flag_values_dict(), facts)


def run(main: Callable[[], int]) -> None:
    """Runs a script's `main`; a mistake in its input becomes one sentence and exit code 2."""
    from posenet_jax.errors import Collapsed, InputError, NotFinite

    if not flags.FLAGS.is_parsed():
        parse()

    def guarded(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)
        warnings.showwarning = lambda message, *_: tell(f"warning: {message}")
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

    app.run(guarded, argv=sys.argv[:1], flags_parser=lambda argv: argv)


def _described(error: OSError) -> str:
    """Returns the file, where one is known, and the reason, in one line."""
    from posenet_jax.errors import shown

    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    named = isinstance(error.filename, str | bytes | os.PathLike)
    return f"{shown(error.filename)}: {reason}" if named else reason
