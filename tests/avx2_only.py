"""Runs pytest as on a processor with AVX2 and no AVX-512, whose kernels round otherwise.

    python tests/avx2_only.py -m bytes

Which kernels XLA's libraries take is decided by the processor and by no flag: `--xla_cpu_max_isa`
reaches only the code that XLA generates itself. So the processor is made to say less: see
avx2_only.c. Says so, and ends with 0, where that cannot be done or would change nothing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_KEPT = HERE.parent / ".pytest_cache"
_ASKS = (
    "from numpy._core._multiarray_umath import __cpu_features__ as has;"
    "raise SystemExit(not has['AVX2'] or has['AVX512F'])"
)


def main(arguments: list[str]) -> int:
    """Returns pytest's exit code."""
    if "avx512f" not in Path("/proc/cpuinfo").read_text().split():
        return _skipped("this processor has no AVX-512: the other tests have run without it")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return _skipped("there is no C compiler")
    _KEPT.mkdir(exist_ok=True)
    library = _KEPT / "avx2_only.so"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library]
    subprocess.run([*command, HERE / "avx2_only.c"], check=True)
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "JAX_COMPILATION_CACHE_DIR": str(_KEPT / "xla_avx2"),
    }
    if subprocess.run([sys.executable, "-c", _ASKS], env=environment).returncode:
        return _skipped("this processor or kernel cannot hide AVX-512 (cpuid faulting)")
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment).returncode


def _skipped(why: str) -> int:
    print(f"skipped, not run as with AVX2 alone: {why}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
