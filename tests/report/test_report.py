"""The report's page: well-formed, escaped, and needing nothing beside it."""

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
import script_process
from PIL import Image

from posenet_jax import metrics
from posenet_jax.io.files import png
from posenet_jax.report import closing_sections, page, sections

_EVIL = "<script>alert('&')</script>"
_VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Checks that tags are closed in order, and gathers images, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.links, self.tags, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]
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
        page.Picture(png(np.zeros((4, 4, 3), np.uint8)), f'{_EVIL} "'),
        page.Table([{_EVIL: _EVIL, "number": 0.123456, "none": None}], _EVIL),
    ]
    reader = read(page.page(_EVIL, [_EVIL], [page.Section(_EVIL, parts)]))
    assert "script" not in reader.tags and len(reader.sources) == 1
    assert reader.text.count(_EVIL) == 11 and "0.123" in reader.text and "–" in reader.text


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
    section = sections.hyperparameters(tmp_path, sections.recipes.CALIBRATED)
    rows = section.parts[0].rows
    assert rows[0]["printed"] == "26.60" and rows[0]["recipe paper"] == "26.6"
    assert {p.name for p in tmp_path.iterdir()} == {"table_1_inversion.csv", "table_2_decoder.csv"}


@pytest.mark.parametrize("claims", ["", "a,b\n1\n"])
def test_claims_that_are_no_table_are_one_sentence(tmp_path, claims):
    (tmp_path / "claims.csv").write_text(claims)
    flags = [f"--out={tmp_path / 'out'}", f"--claims={tmp_path / 'claims.csv'}"]
    done = script_process.run("report", "--cpu_devices=2", *flags)
    assert done.returncode == 2 and "claims.csv" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


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
    for figure in (*figures, "Fidelity", "Sensitivity", "Surgery", "Claims"):
        assert figure in reader.text
    with (out / "fidelity.csv").open(newline="") as file:
        seen = {(row["images"], row["encoder"]) for row in csv.DictReader(file)}
    floors = "mean of 12 others", "nearest of 12 others"
    networks = "streetnet", "streetnet-random-0", "compact"
    assert seen == {(g, e) for g in ("streets", "mine") for e in (*networks, *floors)}
    with (out / "claims.csv").open(newline="") as file:
        assert {row["images"] for row in csv.DictReader(file)} == {"cities", "mine"}
