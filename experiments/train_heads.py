"""Trains a correction to the poses that an encoder's heads predict; the encoder stays as it is.

    posenet-jax train_heads --facades=FACADES --photos=PHOTOS --workdir=runs/heads

Pairs of views as of `train_posenet` are encoded once, into pool/; a small network then learns from
the descriptors what to add to the poses, beginning with the correction that the encoder has, if it
has one. An interrupted run is resumed. Writes what `train_posenet` writes: checkpoints/,
metrics.csv, tensorboard/, weights.safetensors and weights.json.
"""

from absl import flags

from .common import options, pair_options, runtime

_WORKDIR = options.workdir()
_ENCODER = options.encoder()
_STEPS = options.training_steps(3_000)
_POOL = flags.DEFINE_integer(
    "pool",
    51_200,
    "Number of pairs of each kind that are encoded and drawn from (varied by --vary, as they are,"
    " and views of --photos): a multiple of 64, or 8, 16 or 32.",
    lower_bound=8,
)
_HIDDEN_UNITS = flags.DEFINE_integer(
    "hidden_units", 512, "Units in each of the two hidden layers of the correction.", lower_bound=1
)
_SEED = options.seed()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax import sharding
from posenet_jax.data import varieties
from posenet_jax.encoders import weights
from posenet_jax.errors import InputError
from posenet_jax.io import files, output_folder
from posenet_jax.training import encoder_runs, head_training
from posenet_jax.training.head_training import CorrectionConfig
from posenet_jax.training.pose_training import TrainConfig

from .common import progress, run_sources

_TOGETHER = 64  # pairs of a kind rendered and encoded together


def main() -> int:
    """Trains, or resumes, and writes the weights with their metrics; returns the exit code."""
    encoder, mesh = weights.load_encoder(_ENCODER.value), sharding.device_mesh("pairs")
    together = min(_TOGETHER, _POOL.value)
    if _POOL.value % together or _POOL.value not in (8, 16, 32) and together < _TOGETHER:
        raise InputError(
            f"--pool must be a multiple of {_TOGETHER}, or 8, 16 or 32, received {_POOL.value}"
        )
    varieties.check_names(pair_options.VARY.value)
    config = CorrectionConfig(steps=_STEPS.value, units=_HIDDEN_UNITS.value, seed=_SEED.value)
    head_training.check(encoder, config)
    workdir = output_folder.prepare_workdir(_WORKDIR.value)
    done = run_sources.steps_done(workdir, encoder_runs.WEIGHTS)
    sources = pair_options.noted(_WORKDIR.value)
    begun = {
        "encoder": head_training.identity(encoder),
        "pool": _POOL.value,
        "hidden_units": _HIDDEN_UNITS.value,
        "seed": _SEED.value,
        **pair_options.ranges(),
    }
    run_sources.check(workdir / "run.json", f"the {done} steps done", sources, begun)
    draw = TrainConfig(
        rendered_pairs=together,
        plain_pairs=together,
        photo_pairs=together if pair_options.PHOTOS.value else 0,
    )
    draw.check_fits(mesh)
    key = encoder_runs.key_of(_SEED.value, "facades")
    pairs, held_out = pair_options.sources(draw, key, mesh, str(workdir), posed=True)
    data = encoder_runs.prepare(
        _SEED.value,
        pairs,
        held_out,
        8 * together,
        held_out_photographs=pair_options.held_out_photographs(mesh, str(workdir)),
        start=encoder,
    )
    files.write_json(workdir / "run.json", runtime.record({"sources": sources, "options": begun}))
    draws = _POOL.value // together
    with progress.bar(draws * len(pairs), "draw", description="encoding") as bar:
        pool = {
            name: head_training.encoded(
                encoder,
                source,
                name,
                draws,
                workdir / "pool",
                mesh,
                seed=_SEED.value,
                progress=bar.part(),
            )
            for name, source in pairs.items()
        }
    training = head_training.train(config, encoder, pool, data, workdir, mesh)
    progress.follow(training, config.steps, "step", done=done, beside="rotation_median_deg")
    print(f"wrote {workdir / encoder_runs.WEIGHTS}")
    return 0


if __name__ == "__main__":
    runtime.run(main)
