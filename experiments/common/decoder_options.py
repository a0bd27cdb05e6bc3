"""Flags of the scripts that train decoders or search their learning rate."""

from absl import flags

from . import buckets, inputs, options

THREADS, FACADES = inputs.THREADS, inputs.OPTIONS["facades"]
ENCODER = options.encoder()
LAYER = options.decoded_layer()
NETWORK = options.network()
WORKDIR = options.workdir()
SEED = options.seed()
VALIDATION = options.validation_images()
DESCRIPTORS = buckets.string(
    "descriptors",
    None,
    "Output folder of extract_descriptors on the same --images, to read their descriptors from; no"
    " crops are taken then. If not given, images are encoded during training.",
)
BATCH = flags.DEFINE_integer(
    "batch_size", 64, "Images in a training step, on all devices in total.", lower_bound=1
)
RENDERED = flags.DEFINE_integer(
    "rendered",
    0,
    "Rendered views of streets among the --batch_size images of a training step, a multiple of 4.",
    lower_bound=0,
)
CROP = flags.DEFINE_float(
    "smallest_crop",
    0.7,
    "Smallest side of the random crops of photographs, as a fraction of the photograph's; 1:"
    " neither crops nor mirror images.",
    lower_bound=0.1,
    upper_bound=1.0,
)
CACHE = flags.DEFINE_float(
    "cache_gib", 2.0, "Memory for caching decoded photographs, GiB; 0: none.", lower_bound=0.0
)
