"""The run that the scripts that train a decoder share."""

import re
from pathlib import Path

from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.errors import InputError
from posenet_jax.evaluation import decoder_evaluation
from posenet_jax.io import files, output_folder, storage
from posenet_jax.io.run_files import read_json
from posenet_jax.training import decoder_runs
from posenet_jax.training.decoder_training import DecoderConfig, DecoderState
from posenet_jax.training.training_loop import LoopConfig

from . import decoder_options, decoder_run_options, progress, run_sources, runtime
from .decoder_inputs import DecoderInputs

_STEP = re.compile(r" *[0-9]{1,18} *")  # an entry of --drops


def run(
    config: DecoderConfig,
    data: DecoderInputs,
    first: DecoderState,
    *,
    comparator: Tap | None = None,
    judge: Encoder | None = None,
) -> tuple[Path, dict[str, float]]:
    """Trains, or resumes, as the flags say; returns the folder and the errors of the baselines.

    comparator, judge: as in `decoder_runs.train`.
    """
    workdir = output_folder.prepare_workdir(decoder_options.WORKDIR.value)
    done = run_sources.steps_done(workdir, decoder_runs.WEIGHTS)
    _check_drops(workdir, done)
    if done:
        run_sources.check(workdir / "run.json", f"the {done} steps done", data.sources)
    baselines = decoder_evaluation.baseline_errors(data.known, data.judged)
    facts = {"encoder": data.encoder.name, "weights": data.encoder.fingerprint}
    record = runtime.record({**facts, "sources": data.sources, **baselines})
    files.write_json(workdir / "run.json", record)
    loop = LoopConfig(
        steps=decoder_run_options.STEPS.value,
        evaluate_every=decoder_run_options.EVALUATE.value,
        checkpoint_every=decoder_run_options.CHECKPOINT.value,
    )
    training = decoder_runs.train(
        config,
        data,
        first,
        workdir,
        loop,
        learning_rate=decoder_run_options.LEARNING_RATE.value,
        comparator=comparator,
        judge=judge,
        baselines=baselines,
    )
    progress.follow(training, loop.steps, "batch", done=done, beside="_mse")
    return workdir, baselines


def _check_drops(workdir: Path, done: int) -> None:
    """Raises InputError where --drops contradicts the learning rate of the steps done."""
    record = workdir / "run.json"
    if not done or not storage.exists(record):
        return
    remedy = "restore it, or give another --workdir"
    before = read_json(record, {"flags": {"drops": [_STEP]}}, remedy=remedy)["flags"]["drops"]
    past, now = (
        [drop for drop in drops if drop < done]
        for drops in (map(int, before), decoder_run_options.drops())
    )
    if past != now:
        steps = ",".join(map(str, past)) or "no step"
        raise InputError(
            f"{workdir}: in the {done} steps done the learning rate has dropped after {steps}: "
            "begin --drops with that, or give another --workdir"
        )
