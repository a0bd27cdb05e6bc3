"""Sections of the report's story after the answer: method, layers, what failed, limits.

Every function that draws writes PNG and CSV files into a folder and returns the section that shows
them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posenet_jax.io import files
from posenet_jax.report import galleries, story_plots
from posenet_jax.report.answer_sections import marks, measured
from posenet_jax.report.layers_plot import layers_figure
from posenet_jax.report.page import Card, Cards, Columns, Section, Text, picture
from posenet_jax.report.story_material import Descent, Layers, Pair

Rows = Sequence[Mapping[str, Any]]

METHOD_FILES = (
    "story_network.png",
    "story_network_narrow.png",
    "story_descent.png",
    "story_descent_narrow.png",
    "story_descent.csv",
)
LAYER_FILES = ("story_layers.png", "story_layers_narrow.png", "story_layers.csv")
_EXAMPLES = 3  # streets shown layer by layer
# Measures in the story's figure; the table has all.
_SHOWN = (
    *("chroma", "luminance", "octave_3", "texture", "vanishing_edges"),
    *("R² of vanishing point", "R² of depth"),
)


def method(out: Path, pair: Pair, descent: Descent) -> Section:
    """The network, and how its descriptor is inverted: a figure each."""
    network = out / "story_network.png", out / "story_network_narrow.png"
    for path, narrow in zip(network, (False, True), strict=True):
        story_plots.network_figure(path, pair, narrow=narrow)
    curve = out / "story_descent.png", out / "story_descent_narrow.png"
    for path, narrow in zip(curve, (False, True), strict=True):
        story_plots.descent_figure(path, descent, narrow=narrow)
    rows = [{"step": i, "relative_loss": x} for i, x in enumerate(descent.losses.tolist(), 1)]
    files.write_csv(out / "story_descent.csv", rows)
    heads = ""
    if pair.seen is not None:
        heads = (
            f" Here the cameras are {pair.turned:.0f}° apart; the heads see a rotation of "
            f"{pair.seen:.0f}°, {pair.error:.1f}° from the true one. (One pair; errors over many "
            "stand in the network's card in docs/cards.md.)"
        )
    size = len(pair.descriptors[0])
    first = (
        f"The network. Both views of a place go through the same layers and become {size} numbers "
        "each, the descriptor. Small heads read from the two descriptors how the camera was "
        "turned and moved, and whether both show the same place; they never see the "
        f"images.{heads} Below each layer the size of its maps and the number of their channels."
    )
    last = len(descent.losses)
    tiles = {"original": descent.original} | {
        f"after {done} step{'s' if done > 1 else ''}": image
        for done, image in descent.pictures.items()
    }
    values = [f"another image has {descent.another:.3f}"]
    values += [f"loss {descent.losses[done - 1]:.3f}" for done in descent.pictures]
    second = (
        "The inversion. It begins with noise, knows the original's descriptor and never the "
        f"original, and changes the pixels in {last} steps until the picture has nearly that "
        "descriptor."
    )
    loss = (
        "The relative loss: how far the picture's descriptor is from the one that is wanted (0: "
        "the same). Dashed: the descriptor of another image. Dots: the pictures shown."
    )
    return Section(
        "The method, in two figures",
        [
            picture(network[0], first, narrow=network[1], alt=_network_alt(pair)),
            galleries.pictures(tiles, second, values),
            Columns([[picture(curve[0], loss, narrow=curve[1])], [Text(_DECODERS)]]),
        ],
    )


_DECODERS = (
    "Descent shows one of the many images that have a descriptor. A decoder, a second network, is "
    "trained the other way round, to return the image of a descriptor: trained by squared error "
    "it gives the mean of all of them, blurred wherever they differ; trained against a "
    "discriminator it draws single ones, sharp, and another one with every draw. None of these is "
    "the answer alone: what they agree on is. And what a picture seems to keep counts only beside "
    "its controls, as a network that was never trained keeps something too, and any street is a "
    "little like any other."
)


def _network_alt(pair: Pair) -> str:
    layers = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in pair.shapes.items())
    return f"Two views of a street, the layers {layers}, and a descriptor of each view as a grid."


def layers(out: Path, found: Layers, steps: int) -> Section:
    """Section on what is left after each layer, in pictures and by measures."""
    files.write_csv(out / "story_layers.csv", found.rows)
    paths = out / "story_layers.png", out / "story_layers_narrow.png"
    shown = [row for row in found.rows if row["measure"] in _SHOWN]
    for path, wide in zip(paths, (4, 2), strict=True):
        layers_figure(path, shown, wide=wide)
    names = list(found.pictures)
    columns = {"original": found.originals} | {
        f"from {name}": made for name, made in found.pictures.items()
    }
    pictures = galleries.gallery(
        {name: images[:_EXAMPLES] for name, images in columns.items()},
        f"Streets found by descent from the output of each layer ({steps} steps).",
    )
    text = (
        f"The image goes through {len(names)} layers before it is a descriptor. Inverting each of "
        "them in turn shows where something is lost."
    )
    caption = (
        f"{len(found.originals)} streets, {steps} steps: a small run, to be read for its shape; "
        "fewer steps show less of fc5 than the findings above. 1 is as in the original. Dashed: "
        "the network untrained. Dotted: the same pictures beside another street. Bands: intervals "
        "of 95 % over streets. “read”: R² of linear probes on streets they were not fitted to. "
        "All measures of this run are in story_layers.csv; full tables, more networks and "
        "photographs in docs/layers.md."
    )
    figure = picture(paths[0], caption, narrow=paths[1], alt="What is left after each layer.")
    return Section("Layer by layer", [Text(text), pictures, figure])


def not_reproduced(rows: Rows) -> Section:
    """Section on what came out otherwise than in the paper, or could not be tried, and why."""
    cards = [
        *(card for card in (_colour(rows), _verticals(rows)) if card),
        Card(
            "The paper's network and its street views",
            "PoseNet's weights were never published, and the paper's 800,000 street views came "
            "from PoseNet's makers. The networks here were trained anew, with the layers and the "
            "tasks that the paper names, on rendered streets and a few thousand photographs of "
            "another set. What of the differences on this page is due to the network and what to "
            "its images cannot be told from here. The public street views of the same makers can "
            "be read (posenet-jax build_dataset --source=street_view), but are not part of this "
            "package, and nothing here was measured on them.",
        ),
        Card(
            "The decoder's learning rate",
            "Table 2 of the paper prints 26.60, the rate of Table 1 again, with which no weights "
            "can be trained. Ours was searched (docs/decoder.md).",
        ),
        Card(
            "Pictures like photographs",
            "No method gives one. By features of networks trained on objects all pictures are far "
            "from photographs, the adversarial ones too (docs/adversarial.md).",
        ),
    ]
    return Section("What could not be reproduced, and why", [Cards(cards)])


def _colour(rows: Rows) -> Card | None:
    row = measured(rows, "chroma")
    if row is None:
        return None
    here = {
        "supported": "Here they show none either.",
        "not supported": "Here they do, wherever the original has them.",
    }.get(str(row["verdict"]), "Here that stays open.")
    text = (
        f"The paper's inversions show no colour: “color and texture information are lost”. {here} "
        "The paper gives pictures and no measure, of a network that nobody else has. Networks "
        "trained on pairs whose hues differ show none either: what training rewards, above."
    )
    unit = f"Correlation of colours after a blur of 4 pixels; {row['count']} streets."
    return Card("The loss of colour", text, marks(row), unit, (-0.1, 1.0), 0.0)


def _verticals(rows: Rows) -> Card | None:
    row = measured(rows, "vanishing_edges-vertical_edges")
    if row is None:
        return None
    here = {
        "supported": "Here too.",
        "not supported": "Here they are not.",
    }.get(str(row["verdict"]), "Here that stays open.")
    text = (
        "The paper sees edges toward the vanishing point kept and vertical ones seldom. "
        + here
        + " Above "
        "0 the former are kept better."
    )
    unit = f"Difference of the two correlations of edges; {row['count']} streets."
    return Card("The preference over verticals", text, marks(row), unit, (-0.5, 0.5), 0.0)


_LIMITS = {
    "Rendered streets": (
        "What is measured here is measured on rendered scenes, as their geometry is known. Of "
        "photographs only a few are bundled, and shown. docs/findings.md has the same claims on "
        "photographs of streets, cars and rooms."
    ),
    "Substitute data": (
        "No image of the paper's is here. Networks saw rendered streets with photographed facades, "
        "and photographs of streets from a set for research."
    ),
    "One family of networks": (
        "The bundled networks share one architecture and its smaller sister, and the main one was "
        "trained once, from one seed. Intervals are over scenes, not over trainings: another "
        "training may keep something else (docs/layers.md has a second network)."
    ),
    "Pictures are lower bounds": (
        "A picture shows what a method could get out of a descriptor. What it does not show may "
        "still be there: probes read more than pictures show."
    ),
    "Few scenes, many claims": (
        "Small runs, so that the page is made in minutes. Of many verdicts at 5 % each some hold "
        "by accident; posenet-jax measure_layers corrects for their number."
    ),
}


def limits() -> Section:
    """Section on what the page cannot say."""
    return Section("Limits", [Cards([Card(name, text) for name, text in _LIMITS.items()])])
