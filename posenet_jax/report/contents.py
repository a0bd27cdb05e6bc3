"""The report's contents: `SECTIONS`, in the page's order, and the page made of them.

To add a section, write a function from `Material` to sections and a line in `SECTIONS`. Its random
key is `material.key_of(NAME)`, so that no other section changes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from posenet_jax.analysis import sensitivity, surgery
from posenet_jax.data import training_pairs
from posenet_jax.io import files
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import (
    analysis_sections,
    closing_sections,
    decoder_sections,
    inversion_sections,
    page,
)
from posenet_jax.report.material import SCENE_GROUPS, Material
from posenet_jax.report.page import Section

PAGE = "report.html"
_TITLE = "What pose descriptors keep"
_INTRODUCTION = (
    "What does the descriptor of a network trained for camera pose keep of a street image? This "
    "page remakes the figures and tables of “The Essence of Pose” (Thatte, Sitzmann, Ruban), with "
    "networks trained anew, as the paper's were never published, mostly on rendered scenes.",
    "Beside every value stands a control: the same from an untrained network, or of another image.",
)


class SectionMaker(NamedTuple):
    """One entry of the page's contents, with the names of the PNG and CSV files it may write."""

    name: str
    make: Callable[[Material], Sequence[Section]]
    files: Sequence[str] | Callable[[Material], Sequence[str]] = ()


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
    count = material.options.pairs
    with material.progress("sensitivity", count, "scene") as done:
        measured = sensitivity.measure(
            material.encoders,
            material.atlas,
            material.config("streets"),
            key=material.key_of("sensitivity"),
            mesh=material.mesh,
            count=count,
            batch=material.batch,
            progress=done,
        )
    return [analysis_sections.sensitivity(material.out, measured)]


def _surgery(material: Material) -> list[Section]:
    encoder, count = material.encoders[0], material.options.pairs
    own, other, noise = jax.random.split(material.key_of("surgery"), 3)
    source = training_pairs.RenderedPairs(
        material.atlas, material.config("streets"), material.batch, material.mesh
    )
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
    return names


def html(makers: Sequence[SectionMaker], material: Material) -> str:
    """The page of these sections, whose plots and tables are written to `material.out`.

    Raises ValueError for a section that writes a file it did not name.
    """
    sections = [section for maker in makers for section in maker.make(material)]
    written = {path.name for path in material.out.iterdir()}
    if unnamed := sorted(written - set(file_names(makers, material))):
        raise ValueError(f"sections must name their files in SectionMaker.files; missing {unnamed}")
    return page.page(_TITLE, _INTRODUCTION, sections)


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
