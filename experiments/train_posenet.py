"""Trains an encoder on rendered streets and, if given, photographs.

    posenet-jax train_posenet --workdir=runs/streetnet --facades=FACADES --photos=PHOTOS

Writes checkpoints/ (an interrupted run is resumed from there), metrics.csv, tensorboard/ and, at
every evaluation, weights.safetensors with weights.json, their metrics on held-out scenes.
"""

from typing import Any

from absl import flags

from .common import buckets, options, pair_options, runtime

_WORKDIR = options.workdir()
_ARCHITECTURE = flags.DEFINE_string(
    "architecture",
    "streetnet",
    "Architecture of the encoder to train: a name in encoder_networks.NETWORKS, such as compact.",
)
_STEPS = options.training_steps(11_000)
_RENDERED = flags.DEFINE_integer(
    "rendered_pairs",
    24,
    "Rendered pairs in a training step, a multiple of 4 and of twice the number of devices.",
    lower_bound=4,
)
_PHOTO_PAIRS = flags.DEFINE_integer(
    "photo_pairs",
    8,
    "Pairs of views cut from photographs in a training step, a multiple of 4 and of twice the"
    " number of devices; needs --photos.",
    lower_bound=0,
)
_ROOM_PAIRS = flags.DEFINE_integer(
    "room_pairs",
    0,
    "Pairs of views in rooms made of photographs in a training step, a multiple of 4 and of twice"
    " the number of devices; needs --photos. They count in the pose alone.",
    lower_bound=0,
)
_PLAIN_PAIRS = flags.DEFINE_integer(
    "plain_pairs",
    0,
    "Rendered pairs without the varieties of --vary in a training step besides, a multiple of 4 and"
    " of twice the number of devices.",
    lower_bound=0,
)
_START = buckets.string(
    "start", None, "Encoder, bundled or a file, whose weights training begins with; else random."
)
_CHANGE_WEIGHT = flags.DEFINE_float(
    "change_weight",
    0.0,
    "Weight of the change of plain pairs' descriptors since the start, which keeps what the encoder"
    " of --start knows while it learns from other pairs; needs --start and --plain_pairs.",
    lower_bound=0.0,
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 7e-4, "Highest learning rate of Adam.", lower_bound=0.0
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", 0.01, "Weight decay of AdamW, which is multiplied by the learning rate."
)
_AVERAGE_DECAY = flags.DEFINE_float(
    "average_decay",
    0.998,
    "Share of the averaged weights, which are the ones written, that a step keeps: they are a mean"
    " of about the last 1 / (1 - share) steps.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_ACTIVE_SHARE = flags.DEFINE_float(
    "active_share",
    0.5,
    "Fraction of images in which each unit of the descriptor should be active; units that are"
    " active in fewer are penalised.",
)
_TASKS = flags.DEFINE_list(
    "tasks",
    ["pose", "match", "normal"],
    "Tasks that the encoder learns, separated by commas: pose (of one view relative to the other),"
    " match (do two views show one target?), normal (of the target's surface).",
)
_BOTH_WAYS = flags.DEFINE_bool(
    "both_ways",
    False,
    "Count each pair from either side: the pose of one view in the other's frame, the normal in"
    " each, negatives of both. Costs nothing, for images are encoded once.",
)
_PHOTO_POSE = flags.DEFINE_bool(
    "photo_pose", False, "Use photograph pairs in the pose loss too, not only in the matching loss."
)
_PHOTO_TURNS = flags.DEFINE_bool(
    "photo_turns",
    False,
    "Count of photographs' poses their turns alone, by a distance that does not reward small"
    " answers: views cut from one photograph turn little and never move, and an encoder that has"
    " learnt this answers too small on any photograph. Positions stay near those predicted by the"
    " encoder of --start; without one they are free. Needs --photo_pose.",
)
_ROBUST_RADIUS = flags.DEFINE_float(
    "robust_radius",
    0.0,
    "Largest L2 norm of the perturbations that raise the loss and under which every image is"
    " trained, values counted from 0 to 1 (a radius of 1 is one value changed from black to"
    " white); 0: images are not perturbed. A training step then costs 1 + --robust_steps steps.",
    lower_bound=0.0,
)
_ROBUST_STEPS = flags.DEFINE_integer(
    "robust_steps", 2, "Steps of gradient ascent to such a perturbation.", lower_bound=1
)
_ROBUST_RAMP = flags.DEFINE_integer(
    "robust_ramp",
    400,
    "Training steps over which the radius grows from zero.",
    lower_bound=1,
)
_KEEP = flags.DEFINE_multi_integer(
    "keep",
    None,
    "Step whose weights are kept as weights-STEP.safetensors, whatever comes after; may be given"
    " several times.",
    lower_bound=1,
)
_SEED = options.seed()
_HELD_OUT = flags.DEFINE_integer(
    "held_out_pairs", 512, "Rendered pairs of held-out streets to evaluate on.", lower_bound=1
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax import sharding
from posenet_jax.data import varieties
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.io import files, output_folder
from posenet_jax.training import encoder_runs, pose_training
from posenet_jax.training.pose_training import TrainConfig

from .common import progress, run_sources


def _config() -> TrainConfig:
    given = {"photo_pose": _PHOTO_POSE.value, "room_pairs": _ROOM_PAIRS.value}
    for flag in (flag for flag, value in given.items() if value):
        if not pair_options.PHOTOS.value:
            raise InputError(f"--{flag} needs photographs: give --photos")
    if _PHOTO_TURNS.value and not _PHOTO_POSE.value:
        raise InputError("--photo_turns needs photographs in the pose loss: give --photo_pose")
    if _CHANGE_WEIGHT.value and not _START.value:
        raise InputError("--change_weight needs an encoder that training begins with: give --start")
    varieties.check_names(pair_options.VARY.value)
    tasks = pose_training.check_tasks(_TASKS.value)
    without: dict[str, Any] = {f"{t}_weight": 0.0 for t in pose_training.TASKS if t not in tasks}
    return TrainConfig(
        architecture=_ARCHITECTURE.value,
        steps=_STEPS.value,
        rendered_pairs=_RENDERED.value,
        photo_pairs=_PHOTO_PAIRS.value if pair_options.PHOTOS.value else 0,
        room_pairs=_ROOM_PAIRS.value,
        plain_pairs=_PLAIN_PAIRS.value,
        change_weight=_CHANGE_WEIGHT.value,
        learning_rate=_LEARNING_RATE.value,
        weight_decay=_WEIGHT_DECAY.value,
        ema_decay=_AVERAGE_DECAY.value,
        active_share=_ACTIVE_SHARE.value,
        photo_turns=_PHOTO_TURNS.value,
        both_ways=_BOTH_WAYS.value,
        robust_radius=_ROBUST_RADIUS.value,
        robust_steps=_ROBUST_STEPS.value,
        robust_ramp=_ROBUST_RAMP.value,
        seed=_SEED.value,
        **without,
    )


def main() -> int:
    """Trains, or resumes, and writes the weights with their metrics; returns the exit code."""
    config, mesh = _config(), sharding.device_mesh("pairs")
    config.check_fits(mesh)
    start = weights.load_encoder(_START.value) if _START.value else None
    workdir = output_folder.prepare_workdir(_WORKDIR.value)
    done = run_sources.steps_done(workdir, encoder_runs.WEIGHTS)
    sources = pair_options.noted(_WORKDIR.value)
    begun = {
        "start": start.fingerprint if start else None,
        "vary": pair_options.VARY.value,
        "tasks": sorted(_TASKS.value),
        "robust_radius": _ROBUST_RADIUS.value,
        "both_ways": _BOTH_WAYS.value,
        "change_weight": _CHANGE_WEIGHT.value,
        "photo_turns": _PHOTO_TURNS.value,
    }
    if done:
        run_sources.check(workdir / "run.json", f"the {done} steps done", sources, begun)
    key = encoder_runs.key_of(config.seed, "facades")
    pairs, held_out = pair_options.sources(config, key, mesh, str(workdir), posed=_PHOTO_POSE.value)
    data = encoder_runs.prepare(
        config.seed,
        pairs,
        held_out,
        _HELD_OUT.value,
        held_out_photographs=pair_options.held_out_photographs(mesh, str(workdir)),
        start=start,
    )
    files.write_json(workdir / "run.json", runtime.record({"sources": sources, "options": begun}))
    training = encoder_runs.train(config, data, workdir, mesh, keep=_KEEP.value or ())
    progress.follow(training, config.steps, "step", done=done, beside="rotation_median_deg")
    print(f"wrote {workdir / encoder_runs.WEIGHTS}")
    return 0


if __name__ == "__main__":
    runtime.run(main)
