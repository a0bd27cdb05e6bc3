"""Writes the descriptors of any number of images to ArrayRecord or safetensors files.

    posenet-jax extract_descriptors --images=PHOTOS --layer=fc5 --out=runs/descriptors
    posenet-jax extract_descriptors --dataset=DATASETS --split=train --out=runs/train

A run that was killed is finished by the same command. Several machines or devices share the work
with --process_count=N and --process_index=0 to N-1, one command each, into one folder; on a cluster
--distributed finds both.
`posenet_jax.bulk.extraction.read_descriptors(OUT)` reads the result. Exit code: 0; 1 if some images
could not be read (they are named, and listed in manifest.json); 2 if the run could not be made.
"""

import sys
import time

from absl import flags

from .common import inputs, options, processes, runtime

_OUT = options.out()
_LAYER = options.layer()
_ENCODER = options.encoder()
_FORMAT = flags.DEFINE_enum(
    "format", "array_record", ["array_record", "safetensors"], "Format of the files written."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16"], "Type of the numbers written."
)
_BATCH = options.encoding_batch()
_SHARD = options.shard_size()
inputs.require()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax.bulk import extraction
from posenet_jax.encoders import weights
from posenet_jax.io import files

from .common import progress


def main() -> int:
    """Extracts and returns the exit code."""
    index, count = processes.share()
    # The list first: what its making needs for a moment is then free for the rest.
    source = inputs.source(_OUT.value)
    config = extraction.ExtractionConfig(
        file_format=_FORMAT.value,
        dtype=_DTYPE.value,
        batch_size=_BATCH.value,
        shard_size=_SHARD.value,
        threads=inputs.THREADS.value,
        process_index=index,
        process_count=count,
    )
    encoder = weights.load_encoder(_ENCODER.value)
    encoder.tap(_LAYER.value)
    out = files.prepare_output(_OUT.value)
    start = time.perf_counter()
    share = -(-len(source) // count)
    with progress.bar(share, "image") as bar:
        summary = extraction.extract(
            encoder,
            _LAYER.value,
            source,
            out,
            config,
            progress=bar.update,
            report=lambda reason: bar.write(f"left out: {reason}", file=sys.stderr),
        )
    seconds = time.perf_counter() - start
    if not index:
        record = {"encoder": encoder.name, "weights": encoder.fingerprint}
        files.write_json(out / "run.json", runtime.record(record))
    rate = f"{summary.new / seconds:.0f} images/s, devices waiting {summary.wait_share:.0%}"
    state = "all shards done" if summary.finished else "other processes' shards not yet all done"
    print(f"{summary.extracted} of {summary.images} images in {out}, {state}; {rate}")
    return 1 if summary.left_out else 0


if __name__ == "__main__":
    runtime.run(main)
