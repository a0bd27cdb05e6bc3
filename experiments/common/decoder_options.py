"""Flags of the scripts that train decoders, or search for how to."""

from absl import flags

from experiments.common import inputs, options

THREADS, FACADES = inputs.THREADS, inputs.OPTIONS["facades"]
ENCODER = options.encoder()
LAYER = options.decoded_layer()
NETWORK = options.network()
WORKDIR = options.workdir()
SEED = options.seed()
VALIDATION = flags.DEFINE_string(
    "val_images", None, "Folder, glob or file of images that are validated on, not trained on."
)
DESCRIPTORS = flags.DEFINE_string(
    "descriptors",
    None,
    "Folder of extract_descriptors with the descriptors of --images, which are then taken whole and"
    " not encoded anew; encoded if not given.",
)
BATCH = flags.DEFINE_integer(
    "batch_size", 64, "Images of a training step, on all devices.", lower_bound=1
)
RENDERED = flags.DEFINE_integer(
    "rendered",
    0,
    "Views of rendered streets among the images of a training step, a multiple of 4; 0: none.",
    lower_bound=0,
)
CROP = flags.DEFINE_float(
    "smallest_crop",
    0.7,
    "Least side of the random crops of photographs, as a share of the whole; 1: no crops, and no"
    " mirror images.",
    lower_bound=0.1,
    upper_bound=1.0,
)
CACHE = flags.DEFINE_float(
    "cache_gib", 2.0, "Decoded photographs kept in memory, GiB; 0: none.", lower_bound=0.0
)
