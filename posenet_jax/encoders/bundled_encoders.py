"""Names of the encoders in the package, and which of them is meant where none is named.

Nothing here imports JAX, as the scripts' flags have these names for defaults.
"""

from pathlib import Path

PRETRAINED = Path(__file__).parents[1] / "pretrained"

DEFAULT = "streetnet"
"""Encoder that `load_encoder` and the scripts take where none is named."""
CONTROL = "streetnet-random-0"
"""Encoder of the same architecture with random weights."""
JUDGE = "judge"
"""Encoder in which pictures are compared with originals; no inversion uses it."""

PACKAGED = ("squeezenet", "efficientnet_lite0")
"""Encoders with ImageNet weights, of the Python packages that the extra `compare` installs."""


def names(folder: Path = PRETRAINED) -> list[str]:
    """Returns the names of the encoders in the package, or in another folder of them, sorted."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))
