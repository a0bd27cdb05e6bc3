"""How many slots fit: what a step needs of a device's memory, and what the device has.

G groups of slots, over the D devices of a mesh.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from posenet_jax import numerics
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import slot_programs
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.shapes import Target

# Of the memory, that a step may need: the rest is for images on their way in and out, for other
# programs' weights and batches, and for what the allocator cannot put together again.
SHARE = 0.5
_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def fitting(
    encode: Any,
    target: Target,
    *,
    recipe: Recipe,
    space: Preprocessing,
    mesh: Mesh,
    looped: bool,
    most: int,
    memory: int | None = None,
) -> int:
    """Returns `most` groups, halved until a step fits in half of each device's memory.

    encode: on the devices. target: one, or its shapes. looped: see `slot_programs.advance`. most: a
    multiple of the devices; at least one group a device remains. memory: bytes of a device; what it
    has where None. Compiles the step, as `run` does; where most groups do not fit, for two or three
    numbers of them.
    """
    devices = mesh.devices.size
    memory = available(mesh) if memory is None else memory
    if memory is None:
        return most

    def need(groups: int) -> int:
        held = slot_programs.shapes(recipe, target, space, mesh, devices * groups)
        return step_memory(encode, held, mesh=mesh, looped=looped)

    return devices * halved(most // devices, need, int(SHARE * memory))


def halved(most: int, need: Callable[[int], int], budget: int) -> int:
    """Returns `most`, or its first half, quarter, … that needs no more than the budget; at least 1.

    need: bytes, nearly in proportion; asked for as few numbers as will do.
    """
    number = most
    while number > 1 and (needed := need(number)) > budget:
        share = budget / needed
        number //= 2
        while number > 1 and number > share * most:
            number //= 2
        most = number
    return number


def step_memory(encode: Any, held: slot_programs.Held, *, mesh: Mesh, looped: bool) -> int:
    """Returns the bytes that a step needs on each device, weights included; 0: not known.

    held: shapes of what slots hold.
    """
    with numerics.not_finite_allowed():  # the configuration in which `Slots` calls it
        compiled = slot_programs.advance.lower(
            held.state,
            encode,
            held.target,
            held.recipe,
            np.int32(1),
            mesh=mesh,
            looped=looped,
        ).compile()
    found = compiled.memory_analysis()
    if found is None:
        return 0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes)


def available(mesh: Mesh) -> int | None:
    """Returns the bytes of each device's memory; None where that is not known.

    Of an accelerator all that JAX may take, whatever is in use, so that equal devices have equal
    slots. CPU devices share what the machine has free, or its control group.
    """
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        free = _free_memory()
        return None if free is None else free // mesh.devices.size
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit")


def _free_memory() -> int | None:
    """Returns the bytes that the machine has free; fewer where a control group allows fewer."""
    try:
        kilobytes = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        kilobytes = None
    if kilobytes:
        free = [1024 * int(kilobytes[1])]
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]  # of other systems: all
    else:
        free = []
    return min(free + _free_in_groups(), default=None)


def _free_in_groups() -> list[int]:
    """Returns what is left of each limit of this process's control groups (version 2)."""
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    folder = _GROUPS / own
    free = []
    for group in (folder, *folder.parents):
        if not group.is_relative_to(_GROUPS):
            break
        limit, used = (_number(group / name) for name in ("memory.max", "memory.current"))
        if limit is not None and used is not None:
            free.append(max(0, limit - used + _reclaimable(group)))
    return free


def _number(path: Path) -> int | None:
    """Returns the number in a file; None where it is missing or says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(group: Path) -> int:
    """Returns the bytes of files that the group's memory holds and can do without."""
    try:
        found = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def is_exhausted(error: Exception) -> bool:
    """Returns whether an error of JAX's says that a device is out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)
