"""The report's page: well-formed, escaped, and needing nothing beside it."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
import script_process
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from experiments import report
from posenet_jax import metrics
from posenet_jax.errors import InputError
from posenet_jax.io.files import png
from posenet_jax.report import (
    answer_sections,
    closing_sections,
    contents,
    inversion_sections,
    material,
    page,
    story_material,
)

_DOT = png(np.zeros((4, 4, 3), np.uint8))
_EVIL = "<script>alert('&')</script>"
_VOID = {"meta", "img", "br", "source"}


class Reader(HTMLParser):
    """Checks that tags are closed in order, and gathers images, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.links, self.tags, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "srcset")]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    assert all(link.startswith("#") for link in reader.links)
    for source in reader.sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            assert picture.format == "PNG"
            picture.load()
    return reader


def test_a_page_is_whole_and_everything_in_it_is_escaped():
    parts = [
        page.Text(_EVIL),
        page.Code([_EVIL]),
        page.Picture(_DOT, f'{_EVIL} "'),
        page.Table([{_EVIL: _EVIL, "number": 0.123456, "none": None}], _EVIL),
        page.Gallery([page.Example([page.Tile(_DOT, _EVIL, _EVIL)], _EVIL)] * 3, _EVIL, shown=1),
        page.Cards([page.Card(_EVIL, _EVIL, [page.Mark(_EVIL, 0.5, 0.25, 0.75)], _EVIL)]),
        page.Columns([[page.Text(_EVIL, leading=True)], [page.Picture(_DOT, "", _DOT, _EVIL)]]),
    ]
    sections = [page.Section(_EVIL, parts)]
    reader = read(page.page(_EVIL, [_EVIL], sections, sections))
    assert "script" not in reader.tags and len(reader.sources) == 2 * 6
    assert reader.text.count(_EVIL) == 3 + 2 * (8 + 10 + 4 + 1)
    assert "0.123" in reader.text and "–" in reader.text and "Show 2 more" in reader.text


def test_every_picture_says_what_it_shows_to_those_who_cannot_see_it():
    tiles = [page.Tile(_DOT, "found", "loss 0.1"), page.Tile(_DOT, "original")]
    parts = [page.Gallery([page.Example(tiles, "a street")], "c"), page.Picture(_DOT, "a plot")]
    text = page.page("t", [], [page.Section("s", parts)])
    alts = re.findall(r'<img alt="(.*?)"', text)
    assert alts == ["a street: found: loss 0.1", "a street: original", "a plot"]


@pytest.mark.parametrize(
    ("value", "place"), [(-9.0, 0), (-0.5, 0), (0.0, 25), (0.5, 50), (1.5, 100), (9.0, 100)]
)
def test_a_mark_stands_at_its_place_on_the_scale(value, place):
    card = page.Card("h", "t", [page.Mark("m", value, value, value)], scale=(-0.5, 1.5))
    text = page.page("t", [], [page.Section("s", [page.Cards([card])])])
    assert f'<b style="left: {float(place)}%">' in text
    assert f'<dd class="number">{value:.2f} [{value:.2f}, {value:.2f}]</dd>' in text


def test_a_picture_must_be_png():
    section = page.Section("s", [page.Picture(b"GIF89a", "")])
    with pytest.raises(ValueError, match="PNG"):
        page.page("t", [], [section])


def test_claims_join_their_intervals():
    row = {"claim": "colour is lost", "value": "0.5", "low": "0.25", "high": "0.75"}
    row |= {"control": "wrong", "verdict": "supported"}
    (table,) = closing_sections.claims_section([row]).parts
    assert list(table.rows[0]) == ["claim", "control", "value", "verdict"]
    assert table.rows[0]["value"] == "0.5 [0.25, 0.75]"
    (text,) = closing_sections.claims_section([]).parts
    assert "measure_retention" in text.text


def test_the_median_lies_in_its_interval():
    middle, low, high = metrics.bootstrap_interval(np.arange(31.0), np.median)
    assert low < middle == 15.0 < high


def test_hyper_parameters_are_written(tmp_path):
    section = inversion_sections.hyperparameters(tmp_path, inversion_sections.recipes.CALIBRATED)
    rows = section.parts[0].rows
    assert rows[0]["printed"] == "26.60" and rows[0]["recipe paper"] == "26.6"
    assert {p.name for p in tmp_path.iterdir()} == {"table_1_inversion.csv", "table_2_decoder.csv"}


_RECORD = {
    **{"weights": {}, "versions": {}, "backend": "cpu", "device_kind": "cpu", "devices": 1},
    **{"flags": {"seed": 0}, "command": "posenet-jax report"},
}
_ENDS = ("value", "low", "high")
_CLAIM = {"claim": "colour is lost", "value": "0.5", "low": "0.25", "high": "0.75"}
# Sections that need neither scenes nor inversions.
_CHEAP = {"hyperparameters", "claims", "record"}


def material_of(out, **fields):
    """Material whose networks are never asked for."""
    out.mkdir()
    given = {"options": material.ReportOptions(seed=7), "encoders": (), "judge": None}
    given |= {"claims_given": [_CLAIM], "record": _RECORD}
    return material.Material(out=out, **(given | fields))


def noise_section(name):
    """A section of random pixels, drawn with the section's own key."""

    def make(of):
        pixels = np.asarray(jax.random.randint(of.key_of(name), (4, 4, 3), 0, 256), np.uint8)
        (of.out / f"{name}.png").write_bytes(png(pixels))
        return [page.Section(f"Noise {name}", [page.picture(of.out / f"{name}.png", name)])]

    return contents.SectionMaker(name, make, (f"{name}.png",))


def cheap_sections():
    return tuple(maker for maker in contents.SECTIONS if maker.name in _CHEAP)


def test_a_section_added_from_outside_is_in_the_page(tmp_path, monkeypatch):
    """One entry of SECTIONS: the page lists it, its file is written and stands in the record."""
    mine = noise_section("mine")
    monkeypatch.setattr(contents, "SECTIONS", (*cheap_sections(), mine))
    out = tmp_path / "out"
    with flagsaver.flagsaver():
        flags.FLAGS(["report", f"--out={out}", "--claims=given.csv"])
        monkeypatch.setattr(report.claims, "read", lambda path: [_CLAIM])
        assert report.main() == 0
    text = (out / "report.html").read_text()
    assert '<li><a href="#noise-mine">Noise mine</a></li>' in text
    assert '<h3 id="noise-mine">' in text and len(read(text).sources) == 1
    assert "mine.png" in json.loads((out / "run.json").read_text())["files"]
    assert (out / "mine.png").exists()


def test_leaving_a_section_out_changes_no_byte_of_the_others(tmp_path):
    first, second, third = map(noise_section, ("first", "second", "third"))
    every = (first, *cheap_sections(), second._replace(story=True), third)
    whole = material_of(tmp_path / "whole")
    page_of_all = contents.html(every, whole)
    for left_out in every:
        fewer = material_of(tmp_path / left_out.name)
        makers = [maker for maker in every if maker is not left_out]
        text = contents.html(makers, fewer)
        others = sections_of(page_of_all)
        title = next(iter(set(others) - set(sections_of(text))))
        assert {k: v for k, v in others.items() if k != title} == sections_of(text)
        for path in fewer.out.iterdir():
            assert path.read_bytes() == (whole.out / path.name).read_bytes()


def sections_of(text):
    """{title: source} of a page's sections."""
    found = re.findall(r"<section>.*?</section>", text, re.DOTALL)
    return {re.search(r"<h[23] [^>]*>(.*?)</h", one)[1]: one for one in found}


def test_keys_go_by_name(tmp_path):
    """Keys that the published pictures were drawn with, by number; every other by its name."""
    of = material_of(tmp_path / "out")
    names = "atlas", "scenes", "inversions", "decoders", "sensitivity", "surgery", "known scenes"
    data = [jax.random.key_data(of.key_of(name)).tolist() for name in (*names, "mine", "yours")]
    published = jax.random.key_data(jax.random.split(jax.random.key(7), 7)).tolist()
    assert data[:7] == published
    with jax.default_prng_impl("rbg"):  # whatever the caller's generator
        assert jax.random.key_data(of.key_of("mine")).tolist() == data[7]
    assert len({tuple(one) for one in data}) == len(data)


def test_a_file_that_a_section_did_not_name_is_refused(tmp_path):
    maker = noise_section("mine")._replace(files=())
    with pytest.raises(ValueError, match="mine.png"):
        contents.html([maker], material_of(tmp_path / "out"))


def test_sections_of_the_same_title_have_anchors_of_their_own():
    section = page.Section("Twice", [])
    text = page.page("t", [], [section, page.Section("!", []), section])
    assert re.findall(r'id="(.*?)"', text) == ["twice", "section", "twice--2"]


@pytest.mark.parametrize(("option", "word"), [({"batch": 3}, "even"), ({"kinds": ("sea",)}, "sea")])
def test_wrong_options_are_one_sentence(option, word):
    with pytest.raises(InputError, match=word):
        material.ReportOptions(**option)


def test_kinds_are_groups_by_any_of_their_names_and_streets_go_without_saying():
    assert set(material.groups_of(["cities", "indoor", "cars"])) == {"rooms", "cars"}
    assert material.groups_of(["streets"]) == ()
    with pytest.raises(InputError, match="no kind of scene 'sea'"):
        material.groups_of(["sea"])


@pytest.mark.parametrize("claims", ["", "a,b\n1\n"])
def test_claims_that_are_no_table_are_one_sentence(tmp_path, claims):
    (tmp_path / "claims.csv").write_text(claims)
    flags = [f"--out={tmp_path / 'out'}", f"--claims={tmp_path / 'claims.csv'}"]
    done = script_process.run("report", "--cpu_devices=2", *flags)
    assert done.returncode == 2 and "claims.csv" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


_ROW = {
    "images": "cities",
    "encoder": "mine",
    "layer": "fc5",
    "measure": "chroma",
    "count": 24,
    **{f"{of}{end}": 0.25 for of in ("", "untrained_", "wrong_image_") for end in _ENDS},
    "value": 0.75,
}


@pytest.mark.parametrize(
    ("measure", "verdict", "changes", "said", "short"),
    [
        ("chroma", "supported", {}, "Colours are lost", "Not kept: colours."),
        ("chroma", "not supported", {}, "Colours of large areas are kept", "Kept: colours."),
        ("chroma", "undecided", {"high": 0.36}, "Whether colours are lost stays open", "Open:"),
        # No more than a tenth above a wrong image's, whatever the untrained network has.
        ("chroma", "undecided", {"high": 0.34}, "Colours are lost", "Not kept: colours."),
        ("luminance", "supported", {}, "Large areas of light and dark are kept", "Kept: light"),
        (
            *("luminance", "supported", {"value": 0.43}),
            *("Large areas of light and dark are kept, weakly", "Kept, but weakly: light"),
        ),
        ("luminance", "not supported", {}, "Light and dark are lost", "Not kept: light and dark."),
        (
            *("luminance", "undecided", {}),
            *(
                "Light and dark are kept, but training adds nothing",
                "Kept, but by the untrained network as well: light and dark.",
            ),
        ),
    ],
)
@pytest.mark.parametrize("form", [lambda value: value, str])
def test_the_answer_follows_the_verdicts(measure, verdict, changes, said, short, form):
    """Rows may be measured or a table's, which are texts; other sets have no part in it."""
    row = _ROW | {"measure": measure, "verdict": verdict} | changes
    others = [row | {"images": "mine"}, row | {"layer": "conv4"}, row | {"encoder": "another"}]
    rows = [{name: form(value) for name, value in one.items()} for one in [row, *others]]
    section = answer_sections.answer(rows, ["why?"], given=False)
    columns, cards = section.parts
    assert columns.columns[1][0].text.startswith(short)
    (card,) = cards.cards
    assert card.headline == said and "24 streets" in card.text
    assert [mark.label for mark in card.marks] == ["trained", "untrained", "another street"]
    assert (card.marks[0].value, card.marks[0].high) == (row["value"], row["high"])


def test_without_a_table_of_streets_the_answer_says_so():
    section = answer_sections.answer([_CLAIM], ["why?"], given=True)
    assert [type(part) for part in section.parts] == [page.Text, page.Text]
    assert "none of streets" in section.parts[-1].text


def test_draws_of_one_descriptor_differ_by_a_share_of_what_different_images_do():
    rng = np.random.default_rng(0)
    originals = rng.normal(128, 40, (400, 2, 2, 3))  # pixels without anything in common
    draws = originals + rng.normal(0, 20, (4, 400, 2, 2, 3))
    value, low, high = story_material.left_open(draws, originals)
    assert low < value < high and abs(value - 20**2 / 40**2) < 0.02
    assert story_material.left_open(np.stack([originals] * 4), originals)[0] == 0


def test_the_script_makes_the_whole_page(tmp_path):
    """With numbers as small as they can be; photographs, one of them damaged, and another layer."""
    rng = np.random.default_rng(0)
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(2):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((120, 110)).save(photos / f"{number}.png")
    (photos / "zz.png").write_text("not a picture")
    few = "--scenes=3", "--pairs=4", "--probe_scenes=12", "--steps=2", "--batches=2", "--kinds="
    flags = (
        *few,
        "--render_batch=4",
        "--cpu_devices=1",
        f"--out={out}",
        f"--photographs=mine={photos}",
        "--beside=compact/fc5",
    )
    done = script_process.run("report", *flags)
    assert done.returncode == 1 and "zz.png" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == set(json.loads((out / "run.json").read_text())["files"])
    reader = read((out / "report.html").read_text())
    figures = "Fig. 4", "Fig. 5", "Figs. 6 and 8", "Fig. 7", "Tables 1 and 2"
    story = (
        "The question",
        "The answer in pictures",
        "The method",
        "Layer by layer",
        "Why",
        "Limits",
    )
    for title in (*story, *figures, "Fidelity", "Sensitivity", "Surgery", "Claims"):
        assert title in reader.text
    with (out / "story_layers.csv").open(newline="") as file:
        assert {row["layer"] for row in csv.DictReader(file)} == set(story_material.DEPTHS)
    with (out / "story_descent.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    with (out / "fidelity.csv").open(newline="") as file:
        seen = {(row["images"], row["encoder"]) for row in csv.DictReader(file)}
    floors = "mean of 12 others", "nearest of 12 others"
    networks = "streetnet", "streetnet-random-0", "compact"
    assert seen == {(g, e) for g in ("streets", "mine") for e in (*networks, *floors)}
    with (out / "claims.csv").open(newline="") as file:
        assert {row["images"] for row in csv.DictReader(file)} == {"cities", "mine"}
