"""Trains an encoder on rendered streets and, if given, photographs.

    python -m experiments.train_posenet --workdir=runs/streetnet --facades=FACADES --photos=PHOTOS

Writes checkpoints/ (a killed run resumes there), metrics.csv, tensorboard/ and, at every
evaluation, weights.safetensors with weights.json, their figures on held-out scenes.
"""

import dataclasses
import math
from pathlib import Path

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
    "Rendered pairs a step: a multiple of 4, and of twice the number of devices.",
    lower_bound=0,
)
_PHOTO_PAIRS = flags.DEFINE_integer(
    "photo_pairs", 8, "Photograph pairs a step, a multiple of 4; needs --photos.", lower_bound=0
)
_PHOTOS = flags.DEFINE_string(
    "photos", None, "Folder, glob or file of photographs to train on; none if not given."
)
_PHOTO_POSE = flags.DEFINE_bool(
    "photo_pose", False, "Photograph pairs count in the pose loss, and not in matching alone."
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
    "Largest offset of the target from the centre of training views, as a share of the field of "
    "view; held-out views keep the default.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 7e-4, "Learning rate of Adam, at its highest.", lower_bound=0.0
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", 0.01, "Decay of the weights (AdamW), a factor on the learning rate."
)
_ACTIVE_SHARE = flags.DEFINE_float(
    "active_share",
    0.5,
    "Share of images for which each unit of the descriptor should be on; fewer is penalised.",
)
_SEED = options.seed()
_HELD_OUT = flags.DEFINE_integer(
    "held_out_pairs", 512, "Rendered pairs of unseen streets to judge by.", lower_bound=1
)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse(renamed={"noise": "noise"})

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common import images, run_sources
from posenet_jax import geometry, scenes, sharding
from posenet_jax.data import training_pairs
from posenet_jax.data.training_pairs import Pairs
from posenet_jax.data.virtual_rotation import VirtualRotation
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.errors import InputError
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.images.preprocessing import Preprocessing, channel_means
from posenet_jax.io import output_folder
from posenet_jax.io.files import write_json
from posenet_jax.io.provenance import run_record
from posenet_jax.training import pose_training, training_loop

_POSE_DRAWS = 64


def _key(purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(_SEED.value), purpose)


def _sources(config: pose_training.TrainConfig, mesh: Mesh):
    """(rendered source, photograph source or None, source of held-out streets)."""
    atlas, other_atlas, _ = images.facade_atlases(_FACADES.value, _key(1), mesh, _WORKDIR.value)
    scene = scenes.SceneConfig(angle_between=(0.0, math.radians(_MAX_ANGLE.value)))
    noisy = dataclasses.replace(scene.development, noise=_NOISE.value)
    varied = dataclasses.replace(scene, development=noisy, centre_jitter=_CENTRE_JITTER.value)
    rendered = training_pairs.RenderedPairs(atlas, varied, config.rendered_pairs, mesh)
    held_out = training_pairs.RenderedPairs(other_atlas, scene, config.rendered_pairs, mesh)
    if not _PHOTOS.value:
        return rendered, None, held_out
    files = images.listed(_PHOTOS.value, _WORKDIR.value)
    photos, failures = training_pairs.load_photos(files, mesh, max_pixels=options.MAX_PIXELS.value)
    for failure in failures:
        images.tell(failure)
    virtual = VirtualRotation()
    noisy = dataclasses.replace(virtual.development, noise=_NOISE.value)
    source = training_pairs.PhotoPairs(
        photos,
        config.photo_pairs,
        mesh,
        dataclasses.replace(virtual, development=noisy),
        _PHOTO_POSE.value,
    )
    return rendered, source, held_out


def _pose_scale(rendered: training_pairs.RenderedPairs) -> PoseScale:
    draws = [rendered.poses(jax.random.fold_in(_key(2), i)) for i in range(_POSE_DRAWS)]
    rotation, centre, visible = (
        np.concatenate([np.asarray(d[i]) for d in draws]) for i in range(3)
    )
    return pose_training.pose_scale(
        geometry.relative_poses(jnp.asarray(rotation[visible]), jnp.asarray(centre[visible]))
    )


def _held_out(source: training_pairs.RenderedPairs) -> Pairs:
    draws = [
        source(jax.random.fold_in(_key(3), i)) for i in range(-(-_HELD_OUT.value // source.count))
    ]
    return jax.tree.map(lambda *xs: np.concatenate(xs), *jax.device_get(draws))


def main() -> int:
    """Trains, or resumes, and writes the weights with their figures; returns the exit code."""
    if _PHOTO_POSE.value and not _PHOTOS.value:
        raise InputError("--photo_pose needs photographs: give --photos")
    workdir = output_folder.prepare_workdir(_WORKDIR.value)
    mesh = Mesh(np.asarray(jax.devices()), ("pairs",))
    config = pose_training.TrainConfig(
        architecture=_ARCHITECTURE.value,
        steps=_STEPS.value,
        rendered_pairs=_RENDERED.value,
        photo_pairs=_PHOTO_PAIRS.value if _PHOTOS.value else 0,
        learning_rate=_LEARNING_RATE.value,
        weight_decay=_WEIGHT_DECAY.value,
        active_share=_ACTIVE_SHARE.value,
        seed=_SEED.value,
    )
    config.check_fits(mesh)
    done = run_sources.steps_done(workdir, "weights.safetensors")
    named = {"photos": _PHOTOS.value, "facades": _FACADES.value}
    sources = {
        flag: run_sources.files(folder, _WORKDIR.value) for flag, folder in named.items() if folder
    }
    if done:
        run_sources.check(workdir / "run.json", f"the {done} steps done", sources)
    rendered, photos, held_out_source = _sources(config, mesh)
    held_out = _held_out(held_out_source)
    sample = np.asarray(rendered(_key(4)).image).reshape((-1, 100, 100, 3))
    space = Preprocessing(means=channel_means(sample))
    scale = _pose_scale(rendered)
    record = run_record(flags.FLAGS.flag_values_dict(), {"sources": sources})
    write_json(workdir / "run.json", record)

    def batch(step: int) -> tuple[Pairs, ...]:
        rendered_key, photo_key = jax.random.split(jax.random.fold_in(_key(5), step))
        return (rendered(rendered_key),) + ((photos(photo_key),) if photos else ())

    def step(state, batches):
        return pose_training.train_step(
            state, batches, scale, config=config, space=space, mesh=mesh
        )

    def export(state) -> Encoder:
        params = state.ema_params
        return pose_training.in_image_units(params, config, space, scale, _ARCHITECTURE.value)

    def evaluate(state) -> dict[str, float]:
        """Figures on held-out streets; the weights that have them are written beside them."""
        encoder = jax.device_get(export(state))
        figures = pose_evaluation.summary(
            pose_evaluation.predict(encoder, held_out.image, mesh), held_out
        )
        weights.save_encoder(workdir / "weights.safetensors", encoder)
        saved = weights.load_encoder(workdir / "weights.safetensors")
        record = {"figures": figures, "fingerprint": saved.fingerprint, "steps": int(state.step)}
        write_json(workdir / "weights.json", record)
        return {name: value for name, value in figures.items() if isinstance(value, float)}

    first = jax.device_put(pose_training.init_state(config), sharding.on_every_device(mesh))
    loop = training_loop.LoopConfig(steps=config.steps)
    with tqdm(
        total=config.steps, initial=done, unit="step", mininterval=2.0, dynamic_ncols=True
    ) as bar:
        for reached in training_loop.train(
            first, step=step, batch=batch, evaluate=evaluate, workdir=workdir, config=loop
        ):
            done, figures, _ = reached
            bar.update(done - bar.n)
            if done % loop.log_every == 0:
                shown = {k: figures[k] for k in ("loss", "rotation_median_deg") if k in figures}
                bar.set_postfix(shown, refresh=False)
    print(f"wrote {Path(workdir) / 'weights.safetensors'}")
    return 0


if __name__ == "__main__":
    runtime.run(main)
