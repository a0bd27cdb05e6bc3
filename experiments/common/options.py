"""Flags that several scripts take: one definition each, so that a name means one thing.

A script calls the functions of those that it reads. Nothing here imports JAX, so that `--help`
answers at once. Names and defaults of the library are repeated here for that reason, and tested;
the kinds of scenes are the library's own list, which needs no JAX.
"""

from collections.abc import Mapping

from absl import flags

from posenet_jax.scenes.kinds import KINDS

_RECIPES = ["calibrated", "paper", "paper_no_prior", "warm"]
_NETWORKS = ["mirror", "deep", "sharp"]
MEASURING_SEED = 1_000_003  # not one of training's

MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    120_000_000,
    "Largest image file that is read, in pixels; a larger one is named and left out. Each image"
    " read at once needs about 10 bytes of memory a pixel.",
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
    """A flag that takes one kind of scene, or a word of `further`: {word: what it stands for}."""
    return flags.DEFINE(_Kind(further or {}), name, default, help_text, serializer=_Word(), **more)


def rendered_kind() -> flags.FlagHolder:
    """Defines `--kind`."""
    return kind("kind", "streets", "Kind of scenes to render.")


def kinds() -> flags.FlagHolder:
    """`--kinds`."""
    return flags.DEFINE(
        _Kinds(),
        "kinds",
        ",".join(KINDS),
        "Kinds of scenes to render, separated by commas. The report always has streets.",
        serializer=_Word(),
    )


def out() -> flags.FlagHolder:
    """`--out`."""
    return flags.DEFINE_string("out", None, "Folder for the results.", required=True)


def workdir() -> flags.FlagHolder:
    """`--workdir`."""
    return flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run; one that holds part of it is gone on with.",
        required=True,
    )


def images() -> flags.FlagHolder:
    """`--images`, of scripts that read files alone; others take all sources: see `inputs`."""
    return flags.DEFINE_string("images", None, IMAGES)


def photographs() -> flags.FlagHolder:
    """`--photographs`."""
    return flags.DEFINE_list(
        "photographs", [], "NAME=FOLDER of photographs to invert as well, several after commas."
    )


def facades() -> flags.FlagHolder:
    """`--facades`."""
    return flags.DEFINE_string("facades", None, FACADES)


def limit() -> flags.FlagHolder:
    """`--limit`."""
    return flags.DEFINE_integer(
        "limit", 0, "Images at most, the first in the source's order; 0: all.", lower_bound=0
    )


def encoder() -> flags.FlagHolder:
    """`--encoder`."""
    return flags.DEFINE_string(
        "encoder",
        "streetnet",
        "A bundled encoder, squeezenet (from the extra compare), a .safetensors file, or untrained"
        " weights: streetnet-, compact-, alexnet- or squeezenet-random-SEED.",
    )


def control() -> flags.FlagHolder:
    """`--control`."""
    return flags.DEFINE_string(
        "control",
        "streetnet-random-0",
        "Encoder to compare --encoder with: the same architecture with random weights.",
    )


def judge() -> flags.FlagHolder:
    """`--judge`."""
    return flags.DEFINE_string(
        "judge",
        "judge",
        "Encoder that compares pictures with originals, and that neither inversion nor training"
        " sees: a bundled one or a .safetensors file.",
    )


def layer() -> flags.FlagHolder:
    """`--layer`, any tap."""
    return flags.DEFINE_string(
        "layer", "fc5", "Layer with the descriptor: one of the encoder's taps."
    )


def decoded_layer() -> flags.FlagHolder:
    """`--layer`, of those that decoders are made for."""
    return flags.DEFINE_enum(
        "layer", "fc5", ["fc5", "conv4"], "Layer whose descriptors are decoded."
    )


def recipe() -> flags.FlagHolder:
    """`--recipe`."""
    return flags.DEFINE_enum(
        "recipe", "calibrated", _RECIPES, "Recipe of the inversion: its losses, rates and start."
    )


def inversion_steps() -> flags.FlagHolder:
    """`--steps` of an inversion."""
    return flags.DEFINE_integer(
        "steps",
        None,
        "Steps of each inversion; the recipe's own number (calibrated: 300) if not given.",
        lower_bound=1,
    )


def training_steps(default: int) -> flags.FlagHolder:
    """`--steps` of training."""
    return flags.DEFINE_integer(
        "steps",
        default,
        "Training steps in all. A run resumed with another number goes on to it.",
        lower_bound=1,
    )


def start_decoder() -> flags.FlagHolder:
    """`--decoder` that recipe warm begins with."""
    return flags.DEFINE_string(
        "decoder",
        None,
        "Decoder whose images recipe warm begins with: a bundled one or a .safetensors file;"
        " ENCODER-LAYER if not given.",
    )


def network() -> flags.FlagHolder:
    """`--network`."""
    return flags.DEFINE_enum("network", "mirror", _NETWORKS, "Network of the decoder to train.")


def slots() -> flags.FlagHolder:
    """`--slots`."""
    return flags.DEFINE_integer(
        "slots", 0, "Inversions at work at once; 0: what suits the devices.", lower_bound=0
    )


def shard_size() -> flags.FlagHolder:
    """`--shard_size`."""
    return flags.DEFINE_integer(
        "shard_size",
        0,
        "Images a file of the output, a multiple of the images that are worked on together; 0: what"
        " suits.",
        lower_bound=0,
    )


def encoding_batch() -> flags.FlagHolder:
    """`--batch_size` of encoding."""
    return flags.DEFINE_integer(
        "batch_size",
        0,
        "Images encoded together, on all devices; 0: what suits the devices.",
        lower_bound=0,
    )


def render_batch() -> flags.FlagHolder:
    """`--render_batch`."""
    return flags.DEFINE_integer(
        "render_batch",
        0,
        "Scenes rendered together on all devices, a multiple of their number (of twice that in the"
        " report); 0: 32 a device.",
        lower_bound=0,
    )


def probe_scenes(default: int) -> flags.FlagHolder:
    """`--probe_scenes`."""
    return flags.DEFINE_integer(
        "probe_scenes",
        default,
        "Streets for linear probes: two thirds fit them, the rest test them.",
        lower_bound=12,
    )


def size() -> flags.FlagHolder:
    """`--size`."""
    return flags.DEFINE_integer(
        "size",
        0,
        "Pixels a side; 0: 100 for rendered scenes, and photographs as they are.",
        lower_bound=0,
    )


def shown(default: int) -> flags.FlagHolder:
    """`--grid`."""
    return flags.DEFINE_integer(
        "grid", default, "Images shown on the page of pictures, at most.", lower_bound=1
    )


def seed(default: int = 0) -> flags.FlagHolder:
    """`--seed`."""
    return flags.DEFINE_integer(
        "seed",
        default,
        "Seed of all that is drawn at random. Scripts that measure take another than those that"
        " train: 1000003, and not 0.",
        lower_bound=0,
    )
