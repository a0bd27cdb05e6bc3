"""The report's contents: `SECTIONS`, in the page's order, and the page made of them.

To add a section, write a function from `Material` to sections and a line in `SECTIONS`, with
`story=True` where it is part of the story and not of the details below it. Its random key is
`material.key_of(NAME)`, so that no other section changes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from posenet_jax.analysis import sensitivity, surgery
from posenet_jax.inversion import encode_checks
from posenet_jax.io import files
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import (
    analysis_sections,
    answer_sections,
    closing_sections,
    decoder_sections,
    inversion_sections,
    page,
    story_material,
    story_sections,
    why_sections,
)
from posenet_jax.report.material import SCENE_GROUPS, Material
from posenet_jax.report.page import Section

PAGE = "report.html"
_TITLE = "What pose descriptors keep"
_QUESTION = (
    "A network that was trained to tell how a camera moved between two views of a street turns "
    "each view into {numbers} numbers, its descriptor. What of the image is in those numbers, and "
    "what is gone?",
    "“The Essence of Pose” (Thatte, Sitzmann, Ruban; Stanford), the paper, asked this by searching "
    "for images that have the same numbers. This page asks it again, with networks trained anew "
    "(the paper's were never published), mostly of rendered streets, which this run has drawn.",
)


class SectionMaker(NamedTuple):
    """One entry of the page's contents, with the names of the PNG and CSV files it may write.

    story: whether it is part of the story or of the details below it.
    """

    name: str
    make: Callable[[Material], Sequence[Section]]
    files: Sequence[str] | Callable[[Material], Sequence[str]] = ()
    story: bool = False


def _answer(material: Material) -> list[Section]:
    given = bool(material.claims_given)
    encoder = material.encoders[0]
    like = encode_checks.descriptor_like(encoder.tap("fc5"), encoder.preprocessing)
    question = [text.format(numbers=like.size) for text in _QUESTION]
    return [answer_sections.answer(material.claims, question, given=given)]


def _essence(material: Material) -> list[Section]:
    return [answer_sections.essence_section(material.essence)]


def _method(material: Material) -> list[Section]:
    encoder, key = material.encoders[0], material.key_of("method")
    pair = story_material.paired(encoder, material.pairs, key)
    first, second = story_material.demo_images(encoder.preprocessing).pixels[[_STREET, 0]]
    recipe = material.recipe
    with material.progress("one descent", int(recipe.steps), "step") as done:
        descent = story_material.descended(
            encoder, first, second, key=key, recipe=recipe, progress=done
        )
    return [story_sections.method(material.out, pair, descent)]


_STREET = 2  # the bundled image whose descent is shown


def _layers(material: Material) -> list[Section]:
    steps = max(1, material.options.steps // 3)
    return [story_sections.layers(material.out, material.layers, steps)]


def _why(material: Material) -> list[Section]:
    found = material.sensitivity.displacements
    rows = sensitivity.table(found), sensitivity.rotation_table(found)
    return [why_sections.why(*rows)]


def _trainings(_: Material) -> list[Section]:
    return [why_sections.trainings()]


def _not_reproduced(material: Material) -> list[Section]:
    return [story_sections.not_reproduced(material.claims)]


def _limits(material: Material) -> list[Section]:
    return [story_sections.limits()]


def _samples(material: Material) -> list[Section]:
    return [inversion_sections.samples(material.out, material.samples)]


def _hyperparameters(material: Material) -> list[Section]:
    return [inversion_sections.hyperparameters(material.out, material.recipe)]


def _streets(material: Material) -> list[Section]:
    return [_inversions(material, "streets")]


def _photographs(material: Material) -> list[Section]:
    return [_inversions(material, group) for group in material.photographs]


def _photograph_files(material: Material) -> list[str]:
    return [f"photographs_{group}.png" for group in material.photographs]


def _cars_and_rooms(material: Material) -> list[Section]:
    return [_inversions(material, group) for group in material.groups[1:]]


def _files_of_cars_and_rooms(material: Material) -> list[str]:
    return [f"{SCENE_GROUPS[group].file}.png" for group in material.groups[1:]]


def _inversions(material: Material, group: str) -> Section:
    inverted, photographs = material.inverted[group], material.photographs.get(group)
    if photographs is None:
        _, file, title, description, _ = SCENE_GROUPS[group]
        return inversion_sections.inversions(material.out, file, title, description, inverted)
    return inversion_sections.inversions(
        material.out,
        f"photographs_{group}",
        f"Photographs inverted: {group}",
        f"Photographs ({group})",
        inverted,
        row_labels=photographs.names,
    )


def _learned_by_heart(material: Material) -> list[Section]:
    steps, seed = material.options.decoder_steps, material.options.seed
    streets = material.originals["streets"]
    with material.progress("learning by heart", steps, "batch") as done:
        return [
            decoder_sections.learning(
                material.out, material.encoders[0], streets, steps=steps, seed=seed, progress=done
            )
        ]


def _decoders(material: Material) -> list[Section]:
    streets, key = material.originals["streets"], material.key_of("decoders")
    taps = {"": material.judge.tap("conv4"), **material.networks.taps}
    return [decoder_sections.decoders(material.out, material.encoders[0], streets, key, taps)]


def _fidelity(material: Material) -> list[Section]:
    inverted = [one for group in material.inverted.values() for one in group]
    return [inversion_sections.fidelity_table(material.out, [*inverted, *material.baselines])]


def _sensitivity(material: Material) -> list[Section]:
    return [analysis_sections.sensitivity(material.out, material.sensitivity)]


def _surgery(material: Material) -> list[Section]:
    encoder, count = material.encoders[0], material.options.pairs
    own, other, noise = jax.random.split(material.key_of("surgery"), 3)
    source = material.pairs
    with material.progress("surgery", 2 * count, "pair") as done:
        images, fitted = (
            surgery.rendered(encoder, source, key=key, count=count, progress=done)
            for key in (own, other)
        )
    return [analysis_sections.surgery(material.out, encoder, images, fitted.descriptor, noise)]


def _claims(material: Material) -> list[Section]:
    return [closing_sections.claims_section(material.claims)]


def _record(material: Material) -> list[Section]:
    return [closing_sections.record_section(material.record, material.record["command"])]


SECTIONS = (
    SectionMaker("answer", _answer, ("claims.csv",), story=True),
    SectionMaker("essence", _essence, story=True),
    SectionMaker("method", _method, story_sections.METHOD_FILES, story=True),
    SectionMaker("layers", _layers, story_sections.LAYER_FILES, story=True),
    SectionMaker("why", _why, story=True),
    SectionMaker("trainings", _trainings, story=True),
    SectionMaker("not reproduced", _not_reproduced, ("claims.csv",), story=True),
    SectionMaker("limits", _limits, story=True),
    SectionMaker("samples", _samples, ("figure_4_samples.png",)),
    SectionMaker(
        "hyperparameters", _hyperparameters, ("table_1_inversion.csv", "table_2_decoder.csv")
    ),
    SectionMaker("streets", _streets, ("figure_5_streets.png",)),
    SectionMaker("photographs", _photographs, _photograph_files),
    SectionMaker(
        "learned by heart",
        _learned_by_heart,
        ("figure_6_overfit.png", "figure_8_training.png", "figure_8_training.csv"),
    ),
    SectionMaker("decoders", _decoders, ("figure_7_decoders.png", "figure_7_decoders.csv")),
    SectionMaker("cars and rooms", _cars_and_rooms, _files_of_cars_and_rooms),
    SectionMaker("fidelity", _fidelity, ("fidelity.csv",)),
    SectionMaker("sensitivity", _sensitivity, ("sensitivity.png", "sensitivity.csv")),
    SectionMaker("surgery", _surgery, ("surgery.png", "surgery.csv")),
    SectionMaker("claims", _claims, ("claims.csv",)),
    SectionMaker("record", _record),
)


def file_names(makers: Sequence[SectionMaker], material: Material) -> list[str]:
    """All files that a page of these sections may consist of."""
    names = [PAGE]
    for maker in makers:
        names += maker.files(material) if callable(maker.files) else maker.files
    return list(dict.fromkeys(names))


def html(makers: Sequence[SectionMaker], material: Material) -> str:
    """The page of these sections, whose plots and tables are written to `material.out`.

    Raises ValueError for a section that writes a file it did not name.
    """
    story, details = (
        [section for maker in makers if maker.story is told for section in maker.make(material)]
        for told in (True, False)
    )
    written = {path.name for path in material.out.iterdir()}
    if unnamed := sorted(written - set(file_names(makers, material))):
        raise ValueError(f"sections must name their files in SectionMaker.files; missing {unnamed}")
    return page.page(_TITLE, (), story, details)


def write(out: OutputFolder, material: Material, text: str) -> None:
    """Writes the page, and the plots and tables in `material.out`, to a folder; `out.finish` ends.

    Pictures and the page may fail, and are noted; raises OutputError where a table does.
    """
    out.begin()
    for table in sorted(material.out.glob("*.csv")):
        _copy(table, out.held(table.name))
    out.write_record(material.record)
    with out.spared():
        files.write_atomically(out.held(PAGE), lambda file: file.write(text.encode()))
    for plot in sorted(material.out.glob("*.png")):
        with out.spared():
            _copy(plot, out.path / plot.name)


def _copy(file: Path, path: Path) -> None:
    content = file.read_bytes()
    files.write_atomically(path, lambda file: file.write(content))
