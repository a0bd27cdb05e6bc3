"""Many inversions in few slots: a slot whose image is done is given the next one.

S slots advance together, one compiled step for all; each holds one job's target, iterate, optimiser
state, hyper-parameters and status (`descent.State`). Jobs come from an iterator and results go
out in the jobs' order, so that neither need fit in memory. N targets; images are [H, W, C] in
network space.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import CUSTOMARY, Preprocessing
from posenet_jax.inversion import (
    data_terms,
    encode_checks,
    grey_levels,
    job_checks,
    recipes,
    slot_memory,
    slot_programs,
)
from posenet_jax.inversion.descent import Encode
from posenet_jax.inversion.job_queues import Finished, Job
from posenet_jax.inversion.recipes import Recipe
from posenet_jax.inversion.slot_runs import SlotRun
from posenet_jax.inversion.slots import Slots, Tally
from posenet_jax.inversion.traced_functions import as_argument

Array = jax.Array

__all__ = [
    "Finished",
    "Job",
    "Result",
    "Tally",
    "default_chunk",
    "default_slots",
    "invert",
    "most_slots",
    "run",
]

# Results that wait for an earlier one; at 120 kB an image, this bounds the memory.
_MOST_WAITING = 1024


@struct.dataclass
class Result:
    """One entry a target, in the targets' order; of `solver.solve` one alone, as JAX's arrays."""

    image: np.ndarray  # [N, H, W, C] float32, network space: `Preprocessing.to_image` shows it
    loss: np.ndarray  # [N] the objective
    relative_loss: np.ndarray  # [N] eq. 3
    descriptor_error: np.ndarray  # [N] ‖φ - φ0‖ / ‖φ0‖
    steps: np.ndarray  # [N] int32
    status: np.ndarray  # [N] int32, a Status
    starts: np.ndarray  # [N] int32, 2 where the first was not finite


def default_chunk() -> int:
    """Returns the steps of a call at most: it ends when an image does.

    On CPU one: a loop slows convolutions there (jax #12868).
    """
    return 1 if jax.default_backend() == "cpu" else 25


def most_slots(devices: int, group: int = 1) -> int:
    """Returns the slots in all beyond which nothing is gained where memory is no matter.

    On CPU few, for the cache; elsewhere enough to fill the devices. As many whole groups of
    `Recipe.group` as they have room for, at least one a device.
    """
    return devices * group * max(1, (8 if jax.default_backend() == "cpu" else 256) // group)


def default_slots(
    encode: Encode,
    *,
    recipe: Recipe = recipes.CALIBRATED,
    target: Any = None,
    space: Preprocessing | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    most: int | None = None,
) -> int:
    """Returns the slots that `run` takes: `most_slots`, or fewer where a step would not fit.

    A step may need half of a device's memory, on CPU of what the machine has free for each. Slots
    are halved until it does: equal machines have equal numbers. target: one, or its shapes; by
    default those of a descriptor. most: of slots, where more would be idle.
    """
    mesh, space = mesh or _local_mesh(), space or space_of(encode)
    enough = most_slots(mesh.devices.size, recipe.group)
    if target is None:
        like = encode_checks.descriptor_like(encode, space)
        target = encode_checks.target_like(recipe, like, like)
    encode = jax.device_put(as_argument(encode), NamedSharding(mesh, PartitionSpec()))
    groups = slot_memory.fitting(
        encode,
        target,
        recipe=recipe,
        space=space,
        mesh=mesh,
        looped=slot_programs.looped(chunk or default_chunk()),
        most=min(enough, most or enough) // recipe.group,
    )
    return groups * recipe.group


def invert(
    encode: Encode,
    targets: Any,
    *,
    key: Array,
    recipe: Recipe = recipes.CALIBRATED,
    space: Preprocessing | None = None,
    slots: int | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    start: Array | np.ndarray | None = None,
    positions: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Images whose descriptors are `targets` [N, …]; the recipe's numbers may be arrays [N].

    Of a recipe with groups, a result's arrays are [N, R, …], R members of each target's group.
    targets: a pytree like the descriptor, each array [N, …]; with `masked` or a function as data
    term, what that takes.
    start: [N, H, W, C] in network space, where a recipe begins with images: a decoder's.
    positions: of the targets in a longer list, each once: they decide noise and slots in place of
    0 to N - 1, so that a target's noise does not depend on which others are missing. See `run` for
    the other arguments. Raises InputError for targets that are empty, not finite, no floating
    numbers or of another shape than the encoder's descriptors, and for starts that are missing or
    not called for.
    """
    size = space or space_of(encode)
    like = data_terms.target_like(recipe.data_term, encode_checks.descriptor_like(encode, size))
    targets = encode_checks.checked_targets(targets, like)
    count = len(jax.tree.leaves(targets)[0])
    starts = encode_checks.checked_starts(start, recipe, count, size)
    per_image = _rows(recipes.broadcast(recipe, count), count)
    jobs = (
        Job(i, target, recipe=own, start=own_start, number=i)
        for i, target, own, own_start in zip(
            range(count) if positions is None else positions,
            _rows(targets, count),
            per_image,
            starts,
            strict=True,
        )
    )
    mesh = mesh or _local_mesh()
    of_each_device = -(-count // mesh.devices.size)
    done = run(
        encode,
        jobs,
        key=key,
        recipe=per_image[0],
        space=space,
        slots=slots,
        most=of_each_device * mesh.devices.size * recipe.group,
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    finished = list(done)
    names = [field.name for field in dataclasses.fields(Result)]
    fields = {name: np.stack([getattr(one, name) for one in finished]) for name in names}
    if recipe.group > 1:
        fields = {name: x.reshape(count, recipe.group, *x.shape[1:]) for name, x in fields.items()}
    whole = {name: fields[name].astype(np.int32) for name in ("steps", "status", "starts")}
    return Result(**fields | whole)


def run(
    encode: Encode,
    jobs: Iterable[Job],
    *,
    key: Array,
    recipe: Recipe = recipes.CALIBRATED,
    space: Preprocessing | None = None,
    slots: int | None = None,
    most: int | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    fewer_slots: Callable[[int, str], None] | None = None,
    tally: Tally | None = None,
) -> Iterator[Finished]:
    """Inverts jobs, any number of them, and yields their results in the jobs' order.

    encode: any function from one image [H, W, C] to one descriptor, an array or a pytree of arrays
    (several taps at once, a dict of features). If it is itself a pytree (a `Tap`, a
    `jax.tree_util.Partial`, an Equinox module), its arrays are arguments of the compiled program,
    and whatever else it holds belongs to the program; a plain function is compiled in, and its
    identity decides whether a second call compiles again. If it has a method `prepared`, as a `Tap`
    has, what that returns is used: what depends on the weights alone is then worked out once, and
    not in every step. The caller's configuration of JAX holds in it, but for `jax_debug_nans` and
    `jax_debug_infs`: what is not finite ends with a status.
    recipe: its static choices hold for all jobs; its numbers for those without a recipe of their
    own.
    space: the images' size and colours; a `Tap` carries its own; by default
    `preprocessing.CUSTOMARY`.
    slots: images inverted at once, a multiple of the mesh's devices; of their number times that of
    a group's members, where the recipe has groups: then each job has as many results, in turn, and
    the slots of a group advance together. By default `default_slots`. Where they take more memory
    than a device has, they are halved: results so far stand, unfinished jobs begin again. most: of
    a default number.
    chunk: steps of a call of the compiled program at most.
    progress: called with the image·steps done since its last call.
    fewer_slots: called when slots are halved, with their number and a sentence; by default a
    RuntimeWarning. tally: counts what the slots do.

    A job's result depends, to the byte, on `key`, its index, restart, target and hyper-parameters,
    the numbers of slots and devices, and its slot, which follows from its number
    (`job_queues.slot_of`): not on its neighbours, on what else the run inverts, nor on when it
    is started. With another number of slots, or in another slot, it is the same but for rounding,
    which hundreds of steps can make visible in single pixels. A job that stops being finite is
    started once more, in the same slot, from another start. What `data_term` says is minimised
    (`data_terms`): with `maximise` there is nothing to reach, and relative losses are NaN.

    Raises InputError where `encode` returns anything but floating numbers, and, once what can be
    finished has been yielded, for a job whose target, start, recipe or index cannot be used, and
    where not even one slot a device fits in its memory.
    """
    space = space or space_of(encode)
    mesh = mesh or _local_mesh()
    groups = groups_in(slots or 0, mesh.devices.size, recipe.group)
    encode_checks.check_begins(recipe)
    encode_checks.check_key(key)
    like = encode_checks.descriptor_like(encode, space)
    checked = job_checks.CheckedJobs(jobs, like, space, recipe)
    encode = grey_levels.encoder_of(encode, space)
    on_devices = jax.device_put(as_argument(encode), NamedSharding(mesh, PartitionSpec()))
    chunk = chunk or default_chunk()
    found: Iterator[Job] = iter(checked)
    if not groups:
        if (first := next(found, None)) is None:
            return checked.refuse()
        found = itertools.chain([first], found)
        slots = default_slots(
            encode,
            recipe=recipe,
            target=first.target,
            space=space,
            chunk=chunk,
            mesh=mesh,
            most=most,
        )
        groups = slots // recipe.group
    slots_of = functools.partial(
        Slots, on_devices, recipe, key, space, chunk=chunk, mesh=mesh, tally=tally or Tally()
    )
    waiting: dict[int, list[Finished]] = {}
    yielded = 0

    def capacity(groups: int, taken: int) -> int:
        """Returns the number of jobs that may be taken: results that wait take memory."""
        return max(_MOST_WAITING // recipe.group, 4 * groups) - (taken - yielded)

    work = SlotRun(
        slots_of,
        found,
        groups,
        devices=mesh.devices.size,
        members=recipe.group,
        fewer_slots=fewer_slots,
    )
    for ended in work.rounds(capacity, progress):
        waiting.update(ended)
        while yielded in waiting:
            yield from grey_levels.results(waiting.pop(yielded), space)
            yielded += 1
    checked.refuse()


def groups_in(slots: int, devices: int, group: int) -> int:
    """Returns the number of groups that slots hold; InputError where they do not divide."""
    if slots % (devices * group):
        of_members = f" in groups of {group}" if group > 1 else ""
        raise InputError(f"{slots} slots do not divide over {devices} devices{of_members}")
    return slots // group


def _rows(columns: Any, count: int) -> list[Any]:
    """Returns the rows of a pytree of arrays [N, ...]."""
    return [jax.tree.map(lambda column, i=i: column[i], columns) for i in range(count)]


def _local_mesh() -> Mesh:
    return Mesh(np.asarray(jax.local_devices()), ("slots",))


def space_of(encode: Encode) -> Preprocessing:
    """Returns the image space that an encoder says it reads, or the customary one."""
    return getattr(encode, "preprocessing", CUSTOMARY)
