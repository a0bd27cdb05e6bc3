"""Claims of the paper measured on whole sets of images: what inversions of a network keep.

Every group of images is inverted from a network and from its control, the same architecture
untrained, and compared with the originals (`findings`); with two networks, each other's too.
N images of H×W pixels, uint8 RGB.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from posenet_jax.analysis import claims, findings
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion.recipes import Recipe

Array = jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """An encoder, its control of the same architecture, and the layer that is inverted.

    Raises InputError where the control is the encoder itself, or of another architecture.
    """

    trained: Encoder
    untrained: Encoder
    layer: str

    def __post_init__(self) -> None:
        one, other = self.trained, self.untrained
        if one.name == other.name:
            raise InputError(f"the control must be another encoder than {one.name!r}")
        if type(one.module) is not type(other.module):
            raise InputError(f"{other.name!r} is of another architecture than {one.name!r}")

    @property
    def both(self) -> tuple[Encoder, Encoder]:
        """The encoder and its control."""
        return self.trained, self.untrained


def network(name: str, control: str | None = None, *, size: int | None = None) -> Network:
    """Returns the network ENCODER/LAYER with its control; None: the same with untrained weights.

    size: of the images that it must read. Raises InputError as `Network` does.
    """
    trained, layer = weights.encoder_and_layer(name, size=size)
    untrained = weights.load_encoder(control) if control else weights.control_of(trained)
    return Network(trained, untrained, layer)


def fingerprints(networks: Sequence[Network]) -> dict[str, str]:
    """Returns the fingerprints of all networks' weights, by name."""
    return {one.name: one.fingerprint for network in networks for one in network.both}


class Retention(NamedTuple):
    """Measurements of one or two networks."""

    claims: list[dict[str, Any]]  # rows of `claims.table` and `claims.probe_table`
    images: list[dict[str, Any]]  # a row an image, layer and picture: its measures
    comparison: list[dict[str, Any]]  # rows of `claims.comparison`; none of a single network
    pictures: dict[str, dict[str, np.ndarray]]  # group -> name -> [n, H, W, 3], originals first

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by the name of their file."""
        compared = {"comparison.csv": self.comparison} if self.comparison else {}
        return {"claims.csv": self.claims, "images.csv": self.images, **compared}


def measure(
    networks: Sequence[Network],
    groups: Mapping[str, SceneSet],
    probed: SceneSet,
    *,
    key: Array,
    recipe: Recipe,
    shown: int = 12,
    progress: Callable[[int], None] | None = None,
) -> Retention:
    """Inverts and measures groups of images, and reads `probed` streets with linear probes.

    networks: one or two. shown: number of pictures of each group that are returned. progress:
    called with numbers of steps done, of `work` in all.
    """
    found = Retention([], [], [], {})
    for group, views in groups.items():
        columns, measured = {"original": views.images[:shown]}, []
        for network in networks:
            pictures = {
                encoder.name: findings.invert(
                    encoder, network.layer, views, key=key, recipe=recipe, progress=progress
                )
                for encoder in network.both
            }
            kept = findings.reconstruction_claims(group, network.layer, views, pictures)
            found.claims.extend(kept.rows)
            found.images.extend(_image_rows(group, network, kept))
            measured.append((kept.trained, kept.untrained))
            columns |= {f"{name}, {network.layer}": x[:shown] for name, x in pictures.items()}
        if len(measured) == 2:
            found.comparison.extend(claims.comparison(group, *measured))
        found.pictures[group] = columns
    for network in networks:
        found.claims.extend(findings.probe_claims("cities", network.both, network.layer, probed))
    return found._replace(claims=claims.corrected(found.claims))


def work(networks: Sequence[Network], groups: Mapping[str, SceneSet], recipe: Recipe) -> int:
    """Returns the number of steps of all the inversions of `measure`."""
    return 2 * len(networks) * sum(map(len, groups.values())) * recipe.steps


def _image_rows(group: str, network: Network, kept: findings.Kept) -> list[dict[str, Any]]:
    """Returns a row for each image and picture: the network's, its wrong image, the control's."""
    named = {
        network.trained.name: kept.trained,
        f"{network.trained.name}, wrong image": kept.wrong,
        network.untrained.name: kept.untrained,
    }
    return [
        {"images": group, "number": number, "layer": network.layer, "picture": name}
        | {measure: float(values[number]) for measure, values in measured.items()}
        for name, measured in named.items()
        for number in range(len(next(iter(measured.values()))))
    ]
