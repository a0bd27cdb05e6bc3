"""Layer by layer: parts kept and measured once, known pictures, ceilings, and a plot in words."""

import csv

import jax
import numpy as np
import pytest
import script_process
from PIL import Image

from posenet_jax.analysis import findings, layer_retention
from posenet_jax.analysis.findings import SceneSet
from posenet_jax.analysis.probes import Score
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion.recipes import CALIBRATED, with_steps
from posenet_jax.report import layers_plot

STEPS = 3


@pytest.fixture(scope="module")
def compact():
    """A trained encoder, as far as anything here can tell, and its control."""
    trained, control = (random_encoder("compact", seed=seed) for seed in (0, 1))
    return [layer_retention.Network(trained, control, layer) for layer in ("conv1", "fc5")]


def _scenes(count=6):
    """Pictures of fine noise in cells of their own strength, beside twins of other strengths."""
    rng = np.random.default_rng(0)

    def drawn():
        strength = rng.uniform(2, 60, (count, 5, 5)).repeat(20, axis=1).repeat(20, axis=2)
        noise = rng.normal(size=(count, 100, 100)) * strength
        return np.clip(127 + noise, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=-1)

    images = drawn()
    points = np.tile(np.array([[[50, 50, 1], [0, 1, 0]]], np.float32), (count, 1, 1))
    twins = np.stack([drawn(), drawn()], axis=1)
    return SceneSet(images, points, np.zeros(images.shape[:3], bool), None, None, twins, images)


@pytest.fixture
def inverted(monkeypatch):
    """Names of encoder and layer of every inversion: of the first conv1 whole, all else grey."""
    calls = []

    def invert(encoder, layer, views, *, key, recipe, progress):
        calls.append((encoder.name, layer, recipe.steps))
        whole = encoder.name == "compact-random-0" and layer == "conv1"
        if progress:
            progress(len(views) * recipe.steps)
        return views.images if whole else np.full_like(views.images, 128)

    monkeypatch.setattr(findings, "invert", invert)
    return calls


def _parts(folder, steps=STEPS):
    recipe = with_steps(CALIBRATED, steps)
    return layer_retention.Parts(folder=folder, recipe=recipe, key=jax.random.key(0))


def test_what_is_kept_whole_is_lost_a_layer_later_and_nothing_is_measured_twice(
    compact, inverted, tmp_path, monkeypatch
):
    views, done = _scenes(), []
    monkeypatch.setattr(
        findings,
        "probe_scores",
        lambda encoder, layer, views: {"depth": Score(0.5, 0.4, 0.6), "seen": Score(*[views] * 3)},
    )
    asked = []
    probes = layer_retention.Probes("cities", lambda: asked.append(1) or 0.25, 9, ["facts"])
    arguments = [compact], {"own": views}, probes
    found = layer_retention.measure(*arguments, parts=_parts(tmp_path), progress=done.append)
    work = dict(layer_retention.work([compact], {"own": views}, _parts(tmp_path)))
    assert sum(done) == sum(work.values()) == 2 * 2 * len(views) * STEPS
    assert all(path.exists() for path in work) and len(asked) == 4
    rows = {(row["layer"], row["measure"]): row for row in found.table}
    for measure in ("texture", "own_texture", "octave_4"):
        row = rows["conv1", measure]
        assert row["value"] == pytest.approx(1.0, abs=1e-5) and row["depth"] == 1, measure
        assert row["untrained_value"] == pytest.approx(0.0, abs=1e-5)
        assert rows["fc5", measure]["value"] == pytest.approx(0.0, abs=1e-5)
    assert rows["conv1", "own_texture"]["chance"] == 0.5 and "sky" not in dict(rows)
    assert rows["fc5", "R² of seen"]["high"] == 0.25 and rows["fc5", "R² of seen"]["count"] == 9
    verdicts = {(row["layer"], row["measure"]): row["verdict_corrected"] for row in found.claims}
    assert verdicts["conv1", "texture"] == "not supported"  # that it is lost
    # Again, and with fewer layers: nothing is inverted or read, and the rows are the same.
    inverted.clear()
    again = layer_retention.measure(*arguments, parts=_parts(tmp_path))
    assert inverted == [] and len(asked) == 4
    np.testing.assert_equal(again.tables, found.tables)
    fewer = layer_retention.measure([compact[1:]], *arguments[1:], parts=_parts(tmp_path))
    assert inverted == [] and {row["layer"] for row in fewer.table} == {"fc5"}
    # Other steps, or other images, are other parts.
    layer_retention.measure([compact[1:]], {"own": views}, None, parts=_parts(tmp_path, 4))
    other = SceneSet(255 - views.images, *views[1:])
    layer_retention.measure([compact[1:]], {"own": other}, None, parts=_parts(tmp_path))
    assert len(inverted) == 4 and {steps for *_, steps in inverted} == {STEPS, 4}


def test_a_damaged_part_is_named(compact, inverted, tmp_path):
    parts, views = _parts(tmp_path), _scenes(3)
    network = compact[0]
    parts.measured(network.trained, "conv1", "own", views)
    path = parts.path(network.trained, "conv1", "own", views)
    path.write_text(path.read_text()[:-1])
    with pytest.raises(InputError, match="last line is cut.*remove it"):
        parts.measured(network.trained, "conv1", "own", views)


def test_networks_stand_side_by_side_at_as_many_layers(compact, tmp_path):
    with pytest.raises(InputError, match="compact-random-0 2, compact-random-0 1"):
        layer_retention.measure([compact, compact[1:]], {}, None, parts=_parts(tmp_path))
    control = compact[0].untrained
    own = layer_retention.series("compact-random-3", ["conv2", "fc5"], control)
    assert [(one.layer, one.untrained is control) for one in own] == [
        ("conv2", True),
        ("fc5", True),
    ]
    with pytest.raises(InputError, match="conv9"):
        layer_retention.series("compact-random-3", ["conv2", "conv9"], control)


def test_ceilings_are_ordered():
    rows = {
        row["picture"]: row["own_texture_value"]
        for row in layer_retention.validation("x", _scenes())
    }
    assert rows["the scene itself"] == rows["a quarter of the contrast"] == 1.0
    assert rows["in another light"] == rows["blurred by 1 pixels"] == 1.0  # the scene itself, here
    assert rows["a twin, of another texture"] <= 0.5 and 0.2 < rows["another scene"] < 0.8


def test_the_plot_is_in_words_and_names_other_layers(compact, monkeypatch):
    drawn = []
    monkeypatch.setattr(layers_plot, "save_figure", lambda path, figure: drawn.append(figure))
    ends = [f"{of}{end}" for of in ("", "wrong_image_", "untrained_") for end in ("value", "low")]
    numbers = dict.fromkeys([*ends, "high", "wrong_image_high", "untrained_high"], 0.5)
    rows = [
        {"encoder": encoder, "layer": layer, "depth": depth, "measure": measure, **numbers}
        | {"untrained_value": untrained}
        for encoder, names, untrained in (
            ("one", ("conv1", "fc5"), 0.5),
            ("same", ("conv1", "fc5"), 0.5),
            ("other", ("fire2", "features"), 0.4),
        )
        for depth, layer in enumerate(names, start=1)
        for measure in ("chroma", "own_texture", "R² of depth", "vanishing_share")
    ]
    layers_plot.layers_figure("x.png", rows)
    panels = [axes for axes in drawn[0].axes if axes.axison]
    titles = [axes.get_title() for axes in panels]
    assert titles == ["colour", "texture told from another", "read: depth"]
    assert all([label.get_text() for label in axes.get_xticklabels()] == ["conv1", "fc5"]
               for axes in panels)  # fmt: skip
    (legend,) = (axes.get_legend() for axes in drawn[0].axes if axes.get_legend())
    labels = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert labels == [
        "wrong image",
        "one",
        "one untrained",
        "same",  # its layers are the first one's, and so is its control
        "other (fire2, features)",
        "other untrained",
    ]


def test_the_script_measures_photographs(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((120, 110)).save(photos / f"{number}.png")

    def run(*flags):
        networks = "--encoder=compact", "--control=compact-random-0", "--kinds=", "--steps=2"
        given = f"--photographs=own={photos}", f"--workdir={out}", "--cpu_devices=1"
        return script_process.run("measure_layers", *networks, *given, *flags)

    refused = run("--layers=conv7")
    assert refused.returncode == 2 and "conv7" in refused.stderr
    assert "Traceback" not in refused.stderr
    done = run("--layers=fc5")
    assert done.returncode == 0, done.stderr
    assert (
        len(list((out / "parts").iterdir())) == 2
        and (out / "own.png").is_file()
        and (out / "run.json").is_file()
    )
    with (out / "layers.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["layer"] for row in table} == {"fc5"} and not (out / "validation.csv").exists()
