"""Trains an encoder on rendered streets and, if given, photographs.

    python -m experiments.train_posenet --workdir=runs/streetnet --facades=FACADES --photos=PHOTOS

Writes checkpoints/ (an interrupted run is resumed from there), metrics.csv, tensorboard/ and, at
every evaluation, weights.safetensors with weights.json, their metrics on held-out scenes.
"""

import dataclasses
import math

from absl import flags

from experiments.common import options, runtime

_WORKDIR = options.workdir()
_ARCHITECTURE = flags.DEFINE_enum(
    "architecture", "streetnet", ["streetnet", "compact"], "Architecture of the encoder to train."
)
_STEPS = options.training_steps(11_000)
_RENDERED = flags.DEFINE_integer(
    "rendered_pairs",
    24,
    "Rendered pairs in a training step, a multiple of 4 and of twice the number of devices.",
    lower_bound=0,
)
_PHOTO_PAIRS = flags.DEFINE_integer(
    "photo_pairs",
    8,
    "Pairs of views cut from photographs in a training step, a multiple of 4 and of twice the"
    " number of devices; needs --photos.",
    lower_bound=0,
)
_PHOTOS = flags.DEFINE_string(
    "photos", None, "Folder, glob or file of photographs to train on; none if not given."
)
_PHOTO_POSE = flags.DEFINE_bool(
    "photo_pose", False, "Use photograph pairs in the pose loss too, not only in the matching loss."
)
_FACADES = options.facades()
_MAX_ANGLE = flags.DEFINE_float(
    "max_angle", 100.0, "Largest angle at the target between the two views, degrees."
)
_NOISE = flags.DEFINE_float(
    "noise",
    0.02,
    "Largest standard deviation of the noise in training images, 1 = white; held-out ones keep"
    " 0.02.",
)
_CENTRE_JITTER = flags.DEFINE_float(
    "centre_jitter",
    0.05,
    "Largest offset of the target from the centre of training views, as a fraction of the field of"
    " view; held-out views keep the default.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 7e-4, "Highest learning rate of Adam.", lower_bound=0.0
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", 0.01, "Weight decay of AdamW, which is multiplied by the learning rate."
)
_ACTIVE_SHARE = flags.DEFINE_float(
    "active_share",
    0.5,
    "Fraction of images in which each unit of the descriptor should be active; units that are"
    " active in fewer are penalised.",
)
_SEED = options.seed()
_HELD_OUT = flags.DEFINE_integer(
    "held_out_pairs", 512, "Rendered pairs of held-out streets to evaluate on.", lower_bound=1
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from jax.sharding import Mesh

from experiments.common import images, progress, run_sources
from posenet_jax import scenes, sharding
from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import PhotoPairs, RenderedPairs
from posenet_jax.data.virtual_rotation import VirtualRotation
from posenet_jax.errors import InputError
from posenet_jax.io import files, output_folder
from posenet_jax.training import encoder_runs
from posenet_jax.training.pose_training import TrainConfig


def _config() -> TrainConfig:
    if _PHOTO_POSE.value and not _PHOTOS.value:
        raise InputError("--photo_pose needs photographs: give --photos")
    return TrainConfig(
        architecture=_ARCHITECTURE.value,
        steps=_STEPS.value,
        rendered_pairs=_RENDERED.value,
        photo_pairs=_PHOTO_PAIRS.value if _PHOTOS.value else 0,
        learning_rate=_LEARNING_RATE.value,
        weight_decay=_WEIGHT_DECAY.value,
        active_share=_ACTIVE_SHARE.value,
        seed=_SEED.value,
    )


def _rendered(config: TrainConfig, mesh: Mesh) -> tuple[RenderedPairs, RenderedPairs]:
    """Sources of streets to train on, and of streets with other facades to evaluate on."""
    key = encoder_runs.key_of(_SEED.value, "facades")
    atlas, other_atlas, _ = images.facade_atlases(_FACADES.value, key, mesh, _WORKDIR.value)
    scene = scenes.SceneConfig(angle_between=(0.0, math.radians(_MAX_ANGLE.value)))
    noisy = dataclasses.replace(scene.development, noise=_NOISE.value)
    varied = dataclasses.replace(scene, development=noisy, centre_jitter=_CENTRE_JITTER.value)
    count = config.rendered_pairs
    return RenderedPairs(atlas, varied, count, mesh), RenderedPairs(other_atlas, scene, count, mesh)


def _photographs(config: TrainConfig, mesh: Mesh) -> PhotoPairs | None:
    if not _PHOTOS.value:
        return None
    listed = images.listed(_PHOTOS.value, _WORKDIR.value)
    photos, failures = training_pairs.load_photos(listed, mesh, max_pixels=options.MAX_PIXELS.value)
    for failure in failures:
        images.tell(failure)
    turned = VirtualRotation()
    noisy = dataclasses.replace(turned.development, noise=_NOISE.value)
    turned = dataclasses.replace(turned, development=noisy)
    return PhotoPairs(photos, config.photo_pairs, mesh, turned, _PHOTO_POSE.value)


def main() -> int:
    """Trains, or resumes, and writes the weights with their metrics; returns the exit code."""
    config, mesh = _config(), sharding.device_mesh("pairs")
    config.check_fits(mesh)
    workdir = output_folder.prepare_workdir(_WORKDIR.value)
    done = run_sources.steps_done(workdir, encoder_runs.WEIGHTS)
    named = {"photos": _PHOTOS.value, "facades": _FACADES.value}
    sources = {
        flag: run_sources.files(folder, _WORKDIR.value) for flag, folder in named.items() if folder
    }
    if done:
        run_sources.check(workdir / "run.json", f"the {done} steps done", sources)
    rendered, held_out = _rendered(config, mesh)
    photographs = _photographs(config, mesh)
    data = encoder_runs.prepare(_SEED.value, rendered, photographs, held_out, _HELD_OUT.value)
    files.write_json(workdir / "run.json", runtime.record({"sources": sources}))
    training = encoder_runs.train(config, data, workdir, mesh)
    progress.follow(training, config.steps, "step", done=done, beside="rotation_median_deg")
    print(f"wrote {workdir / encoder_runs.WEIGHTS}")
    return 0


if __name__ == "__main__":
    runtime.run(main)
