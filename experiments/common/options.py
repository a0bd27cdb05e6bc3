"""Flags that several scripts take: one definition each, so that a name means one thing.

A script calls the functions of those that it reads. Nothing here imports JAX, so that `--help`
answers at once. Names and defaults of the library are repeated here for that reason, and tested;
the kinds of scenes and the encoders' names are the library's own, which need no JAX.
"""

from collections.abc import Mapping

from absl import flags

from posenet_jax.encoders import bundled_encoders
from posenet_jax.scenes.kinds import KINDS

from . import buckets

_RECIPES = ["calibrated", "paper", "paper_no_prior", "warm", "quick", "natural"]
MEASURING_SEED = 1_000_003  # not one of training's

MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    120_000_000,
    "Largest image file that is read, in pixels (width × height); larger ones are named and left"
    " out. Each image that is read takes about 10 bytes of memory a pixel.",
    lower_bound=1,
)


IMAGES = "Folder, glob or file of images."
FACADES = (
    "Folder, glob or file of facade photographs to texture buildings with; invented if not given."
    " Scripts that train leave the last tenth by name out, those that measure use it alone."
)


class _Word(flags.ArgumentSerializer):
    """Serializer of a kind of scene, or of several, as a person would give it."""

    def serialize(self, value: str | list[str]) -> str:
        """Returns the kinds' names for those that data sets have."""
        names = {kind.written: kind.name for kind in KINDS.values()}
        given = [value] if isinstance(value, str) else value
        return ",".join(names.get(one, one) for one in given)


class _Kind(flags.EnumParser):
    """Parser of one kind of scene, by either of its names, or of a further word."""

    def __init__(self, further: Mapping[str, str]) -> None:
        self._written = {kind.name: kind.written for kind in KINDS.values()} | dict(further)
        super().__init__(list(self._written))
        self.syntactic_help = f"one of {', '.join(self._written)}"

    def parse(self, argument: str) -> str:
        """Returns the name that data sets and tables have."""
        if argument in self._written.values():
            return argument
        return self._written[super().parse(argument)]


class _Kinds(flags.ListParser):
    """Parser of several kinds of scenes, separated by commas."""

    def __init__(self) -> None:
        super().__init__()
        self.syntactic_help = f"a comma separated list of {', '.join(KINDS)}"

    def parse(self, argument: str | list[str]) -> list[str]:
        """Returns the names that data sets have, each once."""
        kind = _Kind({})
        return list(dict.fromkeys(kind.parse(word) for word in super().parse(argument)))


def kind(
    name: str,
    default: str | None,
    help_text: str,
    *,
    further: Mapping[str, str] | None = None,
    **more,
) -> flags.FlagHolder:
    """Defines a flag that takes one kind of scene, or a word of `further`: {word: its value}."""
    return flags.DEFINE(_Kind(further or {}), name, default, help_text, serializer=_Word(), **more)


def rendered_kind() -> flags.FlagHolder:
    """Defines `--kind`."""
    return kind("kind", "streets", "Kind of scenes to render.")


def kinds() -> flags.FlagHolder:
    """Defines `--kinds`."""
    return flags.DEFINE(
        _Kinds(),
        "kinds",
        ",".join(KINDS),
        "Kinds of scenes to render, separated by commas. The report always has streets.",
        serializer=_Word(),
    )


def out(*, required: bool = True, local: bool = False) -> flags.FlagHolder:
    """Defines `--out`. local: it must not lie in a bucket."""
    flag = flags.DEFINE_string("out", None, "Output folder for the results.", required=required)
    return flag if local else buckets.taking(flag)


def workdir() -> flags.FlagHolder:
    """Defines `--workdir`."""
    return buckets.string(
        "workdir",
        None,
        "Output folder of the run; an interrupted run in it is resumed.",
        required=True,
    )


def images() -> flags.FlagHolder:
    """`--images`, of scripts that read files alone; others take all sources: see `inputs`."""
    return buckets.string("images", None, IMAGES)


def photographs() -> flags.FlagHolder:
    """Defines `--photographs`."""
    return buckets.strings(
        "photographs",
        [],
        "Photographs to invert as well, as NAME=FOLDER; several folders separated by commas.",
    )


def facades() -> flags.FlagHolder:
    """`--facades`."""
    return buckets.string("facades", None, FACADES)


def photos() -> flags.FlagHolder:
    """Defines `--photos`."""
    return buckets.string(
        "photos", None, "Folder, glob or file of photographs to train on; none if not given."
    )


def validation_images() -> flags.FlagHolder:
    """Defines `--val_images`."""
    return buckets.string(
        "val_images", None, "Folder, glob or file of validation images, not trained on."
    )


def strecha() -> flags.FlagHolder:
    """Defines `--strecha`."""
    return buckets.string(
        "strecha",
        None,
        "Folder of the multi-view stereo scenes of Strecha et al., each photograph with its"
        " NAME.camera beside it; not evaluated if not given.",
    )


def limit() -> flags.FlagHolder:
    """`--limit`."""
    return flags.DEFINE_integer(
        "limit", 0, "Images at most, the first in the source's order; 0: all.", lower_bound=0
    )


def encoder() -> flags.FlagHolder:
    """Defines `--encoder`."""
    return buckets.string(
        "encoder",
        bundled_encoders.DEFAULT,
        f"Encoder: a bundled one ({', '.join(bundled_encoders.names())}),"
        f" {' or '.join(bundled_encoders.PACKAGED)} (with the extra compare installed), a"
        " .safetensors file, or untrained weights: streetnet-random-SEED, likewise every other"
        " architecture, or FILE-random-SEED. NAME@SIZE reads images of SIZE pixels.",
    )


def control() -> flags.FlagHolder:
    """Defines `--control`."""
    return buckets.string(
        "control",
        bundled_encoders.CONTROL,
        "Encoder to compare those measured with: the same architecture with random weights.",
    )


def judge() -> flags.FlagHolder:
    """Defines `--judge`."""
    return buckets.string(
        "judge",
        bundled_encoders.JUDGE,
        "Encoder in which pictures are compared with originals, not used for inversion or"
        " training: a bundled one or a .safetensors file.",
    )


def feature_networks() -> flags.FlagHolder:
    """Defines `--feature_networks`."""
    return flags.DEFINE_list(
        "feature_networks",
        None,
        "ImageNet networks in whose features pictures are compared with originals, NETWORK or "
        "NETWORK/LAYER with commas between: kernel and Fréchet distance, in a SqueezeNet LPIPS; if "
        "not given those of installed packages (extra compare); empty: none.",
    )


def layer() -> flags.FlagHolder:
    """Defines `--layer`: any tap."""
    return flags.DEFINE_string(
        "layer", "fc5", "Layer whose activations are the descriptor: one of the encoder's taps."
    )


def decoded_layer() -> flags.FlagHolder:
    """Defines `--layer`: a layer that there are decoders for."""
    return flags.DEFINE_enum(
        "layer", "fc5", ["fc5", "conv4"], "Layer whose descriptors are decoded."
    )


def recipe() -> flags.FlagHolder:
    """Defines `--recipe`."""
    return flags.DEFINE_enum(
        "recipe",
        "calibrated",
        _RECIPES,
        "Recipe of the inversion: its losses, learning rate and initial images.",
    )


def inversion_steps() -> flags.FlagHolder:
    """Defines `--steps` of an inversion."""
    return flags.DEFINE_integer(
        "steps",
        None,
        "Steps of each inversion; the recipe's own number (calibrated: 300) if not given.",
        lower_bound=1,
    )


def training_steps(default: int) -> flags.FlagHolder:
    """Defines `--steps` of a training."""
    return flags.DEFINE_integer(
        "steps",
        default,
        "Training steps in total; a resumed run may be given another number.",
        lower_bound=1,
    )


def start_decoder() -> flags.FlagHolder:
    """Defines `--decoder` of recipes warm and natural."""
    return buckets.string(
        "decoder",
        None,
        "Decoder whose images recipe warm starts from, or in whose picture recipe natural"
        " begins: a bundled one or a .safetensors file; if not given, the bundled one named"
        " ENCODER-LAYER, or of natural ENCODER-LAYER-adversarial.",
    )


def mean_decoder() -> flags.FlagHolder:
    """Defines `--decoder` of pages that show a decoder trained by squared error."""
    return buckets.string(
        "decoder",
        None,
        "Decoder trained by squared error: a bundled one or a .safetensors file; the bundled"
        " one named ENCODER-LAYER if not given.",
    )


def generator() -> flags.FlagHolder:
    """Defines `--generator`."""
    return buckets.string(
        "generator",
        None,
        "Adversarial decoder whose draws are shown, and in one of which recipe natural begins:"
        " a bundled one or a .safetensors file; ENCODER-LAYER-adversarial if not given.",
    )


def network() -> flags.FlagHolder:
    """Defines `--network`."""
    return flags.DEFINE_string(
        "network",
        "mirror",
        "Architecture of the decoder to train: a name in decoders.networks.NETWORKS, such as"
        " mirror, deep, sharp, refined or resize.",
    )


def slots(automatic: str = "chosen for the devices") -> flags.FlagHolder:
    """Defines `--slots`; `automatic` says how many 0 means."""
    return flags.DEFINE_integer(
        "slots", 0, f"Images inverted at the same time; 0: {automatic}.", lower_bound=0
    )


def shard_size() -> flags.FlagHolder:
    """Defines `--shard_size`."""
    return flags.DEFINE_integer(
        "shard_size",
        0,
        "Images in each output file, a multiple of the number computed together; 0: chosen"
        " automatically.",
        lower_bound=0,
    )


def encoding_batch() -> flags.FlagHolder:
    """Defines `--batch_size` of an encoding."""
    return flags.DEFINE_integer(
        "batch_size",
        0,
        "Images encoded together, on all devices in total; 0: chosen for the devices.",
        lower_bound=0,
    )


def render_batch() -> flags.FlagHolder:
    """Defines `--render_batch`."""
    return flags.DEFINE_integer(
        "render_batch",
        0,
        "Scenes rendered together, on all devices in total: a multiple of the number of devices (in"
        " the report, of twice that number); 0: 32 on each device.",
        lower_bound=0,
    )


def measured_scenes() -> flags.FlagHolder:
    """Defines `--scenes` of measures of several kinds of scenes, and of photographs."""
    return flags.DEFINE_integer(
        "scenes",
        48,
        "Scenes of each kind to render, and the largest number of photographs from each folder.",
        lower_bound=2,
    )


def probe_scenes(default: int) -> flags.FlagHolder:
    """Defines `--probe_scenes`."""
    return flags.DEFINE_integer(
        "probe_scenes",
        default,
        "Rendered streets for linear probes, which are fitted on two thirds of them and tested on"
        " the rest.",
        lower_bound=12,
    )


def size() -> flags.FlagHolder:
    """Defines `--size`."""
    return flags.DEFINE_integer(
        "size",
        0,
        "Width and height of the images in pixels; 0: 100 for rendered scenes, photographs as they"
        " are.",
        lower_bound=0,
    )


def shown(default: int) -> flags.FlagHolder:
    """Defines `--grid`."""
    return flags.DEFINE_integer(
        "grid", default, "Largest number of images in the picture grids.", lower_bound=1
    )


def seed(default: int = 0) -> flags.FlagHolder:
    """Defines `--seed`."""
    return flags.DEFINE_integer(
        "seed",
        default,
        "Seed of the random numbers. Scripts that measure have 1000003 by default, so that they do"
        " not draw the scenes of training, seed 0.",
        lower_bound=0,
    )
