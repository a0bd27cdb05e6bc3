"""Inverts any number of descriptors: of photographs, of a data set, of rendered scenes, or alone.

    posenet-jax bulk_invert --images=PHOTOS --layer=fc5 --out=runs/bulk
    posenet-jax bulk_invert --descriptors=runs/descriptors --restarts=4 --out=runs/bulk
    posenet-jax bulk_invert --render=streets --scenes=1000 --out=runs/bulk

Writes results.csv, and ArrayRecord shards of the reconstructions that
`tfds.builder_from_directory(OUT)` reads; with --pictures, PNG files in images/; and metrics.json,
of the pictures as a set (1,024 at most): gradient energy, diversity, grid index, kernel and Fréchet
distances (see `decode`), each beside that of the originals' halves. A run that was killed is
finished by the same command. Several processes share the work with --process_count=N and
--process_index=0 to N-1, one command each, into one folder; on a cluster --distributed finds both.
Exit code: 0; 1 if some images could not be read (they are named, and listed in manifest.json); 2 if
the run could not be made.
"""

import sys
import time

from absl import flags

from .common import buckets, inputs, options, processes, recipe_options, runtime

_DESCRIPTORS = buckets.string(
    "descriptors", None, "Folder of extract_descriptors to invert, instead of images."
)
_OUT = options.out()
_LAYER = options.layer()
_ENCODER = options.encoder()
_DECODER = options.start_decoder()
_JUDGE = options.judge()
_NETWORKS = options.feature_networks()
_SEED = options.seed()
_SLOTS = options.slots()
_SHARD = options.shard_size()
_BATCH = options.encoding_batch()
_PICTURES = flags.DEFINE_bool("pictures", False, "Write the reconstructions as PNG files too.")
inputs.require(_DESCRIPTORS)

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from typing import Any

from posenet_jax import reconstruction
from posenet_jax.bulk import bulk_inversion, extraction, inversion_sets
from posenet_jax.data.sources import ImageSource
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation import feature_networks, image_sets, results_table
from posenet_jax.io import files
from posenet_jax.shards.descriptor_shards import Descriptors

from .common import progress


def _judge() -> Encoder:
    judge = weights.load_encoder(_JUDGE.value)
    if "fc5" not in judge.taps:
        raise InputError(
            f"--judge={_JUDGE.value} has no fc5 to compare pictures in: not a pose network"
        )
    return judge


def main() -> int:
    """Inverts and returns the exit code."""
    index, count = processes.share()
    source: ImageSource | Descriptors
    if described := _DESCRIPTORS.value:
        source = extraction.read_descriptors(described)
    else:
        source = inputs.source(_OUT.value)
    recipe = recipe_options.chosen()
    config = bulk_inversion.BulkConfig(
        restarts=recipe_options.RESTARTS.value,
        seed=_SEED.value,
        slots=_SLOTS.value,
        batch_size=_BATCH.value,
        shard_size=_SHARD.value,
        threads=inputs.THREADS.value,
        pictures=_PICTURES.value,
        process_index=index,
        process_count=count,
    )
    encoder = weights.load_encoder(_ENCODER.value)
    encoder.tap(_LAYER.value)
    decoder = reconstruction.start_decoder(encoder, _LAYER.value, recipe, _DECODER.value)
    judge = None if described else _judge()
    networks = feature_networks.load([] if described else _NETWORKS.value)
    out = files.prepare_output(_OUT.value)
    images = len(source.names if isinstance(source, Descriptors) else source)
    start = time.perf_counter()
    work = -(-images // count) * recipe.steps * config.restarts
    with progress.bar(work, "image·step") as bar:
        summary = bulk_inversion.invert_all(
            encoder,
            _LAYER.value,
            source,
            out,
            recipe,
            config,
            judge=judge,
            lpips=networks.lpips,
            decoder=decoder,
            progress=bar.update,
            report=lambda reason: bar.write(f"left out: {reason}", file=sys.stderr),
        )
    seconds = time.perf_counter() - start
    if not index:
        record: dict[str, Any] = {"encoder": encoder.name, "weights": encoder.fingerprint}
        if decoder:
            record["decoders"] = {decoder.name: decoder.fingerprint}
        files.write_json(out / "run.json", runtime.record(record))
    state = "all shards done" if summary.finished else "other processes' shards not yet all done"
    rate = f"{summary.new} of them in {seconds:.0f} s"
    print(f"{summary.inverted} of {summary.images} images in {out}, {state}; {rate}")
    if summary.finished:
        remedy = "remove it and run the same command again"
        print(*results_table.summary_of(out / "results.csv", remedy=remedy), sep="\n")
        if judge and not isinstance(source, Descriptors):
            taps = {"": judge.tap("conv4"), **networks.taps}
            metrics = inversion_sets.set_measures(out, source, encoder.preprocessing, taps)
            files.write_json(out / "metrics.json", metrics)
            print(*image_sets.lines(metrics), *networks.absent, sep="\n")
    return 1 if summary.left_out else 0


if __name__ == "__main__":
    runtime.run(main)
