"""Retention measured on pictures whose measures are known; networks that cannot be compared."""

import re

import numpy as np
import pytest

from posenet_jax.analysis import claims, findings, retention
from posenet_jax.analysis.retention import Network
from posenet_jax.encoders.weights import random_encoder
from posenet_jax.errors import InputError
from posenet_jax.inversion.recipes import CALIBRATED, with_steps
from posenet_jax.report import analysis_plots


@pytest.fixture(scope="module")
def encoders():
    return [random_encoder("compact", seed=seed) for seed in (0, 1)]


def _photographs(count):
    coarse = np.random.default_rng(0).integers(0, 256, (count, 10, 10, 3), dtype=np.uint8)
    return findings.photograph_set(coarse.repeat(10, axis=1).repeat(10, axis=2))


def test_a_control_is_another_network_of_the_same_architecture(encoders):
    with pytest.raises(InputError, match="another encoder than 'compact-random-0'"):
        Network(encoders[0], encoders[0], "fc5")
    with pytest.raises(InputError, match="another architecture than 'compact-random-0'"):
        Network(encoders[0], random_encoder("streetnet"), "fc5")


def test_what_one_network_keeps_whole_and_its_control_not_at_all(encoders, monkeypatch):
    """Inversions of the first are the originals, those of the control grey pictures."""
    views, recipe = _photographs(4), with_steps(CALIBRATED, 3)

    def invert(encoder, layer, views, *, key, recipe, progress):
        progress(len(views) * recipe.steps)
        grey = np.full_like(views.images, 128)
        return views.images if encoder.name == encoders[0].name else grey

    monkeypatch.setattr(findings, "invert", invert)
    probed = {"claim": claims.PROBED[0].sentence, "verdict": "undecided", "p": 1.0}
    monkeypatch.setattr(
        findings, "probe_claims", lambda group, both, layer, views: [probed | {"layer": layer}]
    )
    networks = [Network(*encoders, layer) for layer in ("fc5", "conv4")]
    done = []
    found = retention.measure(
        networks, {"own": views}, views, key=None, recipe=recipe, shown=2, progress=done.append
    )
    assert sum(done) == retention.work(networks, {"own": views}, recipe) == 2 * 2 * 4 * 3
    rows = [row for row in found.claims if row.get("measure") == "luminance"]
    assert [(row["encoder"], row["layer"]) for row in rows] == [
        ("compact-random-0", "fc5"),
        ("compact-random-0", "conv4"),
    ]
    assert all(row["value"] == pytest.approx(1.0, abs=1e-5) for row in rows)
    assert all(row["untrained_value"] == pytest.approx(0.0, abs=1e-5) for row in rows)
    assert [row["layer"] for row in found.claims[-2:]] == ["fc5", "conv4"]
    assert {row["verdict_corrected"] for row in found.claims[-2:]} == {"undecided"}
    names = "compact-random-0", "compact-random-0, wrong image", "compact-random-1"
    assert [(row["picture"], row["number"]) for row in found.images if row["layer"] == "fc5"] == [
        (name, number) for name in names for number in range(4)
    ]
    assert {row["verdict"] for row in found.comparison} == {"undecided"}  # with itself
    shown = found.pictures["own"]
    assert list(shown) == ["original"] + [
        f"{encoder.name}, {layer}" for layer in ("fc5", "conv4") for encoder in encoders
    ]
    np.testing.assert_array_equal(shown["original"], views.images[:2])
    assert {len(pictures) for pictures in shown.values()} == {2}
    alone = retention.measure(
        networks[:1], {"own": views}, views, key=None, recipe=recipe, progress=done.append
    )
    assert alone.comparison == []
    assert list(alone.tables) == ["claims.csv", "images.csv"]
    assert found.tables["comparison.csv"] is found.comparison
    said = claims.comparison_sentences(found.comparison, "compact/conv4")
    assert all(re.fullmatch("own, .+: undecided, beside compact/conv4", line) for line in said)
    assert len(said) == len(found.comparison) > 0
    whole = found._replace(claims=rows)
    pages = analysis_plots.retention_pages(networks, whole, rendered=["streets"])
    assert list(pages) == ["claims.png", "own.png"]
    assert pages["own.png"].keywords["title"] == "Photographs: own, inverted from fc5 and conv4"
    assert pages["claims.png"].keywords["rows"] == rows[:1]


def test_networks_are_named_with_their_layer():
    found = retention.network("compact-random-0/conv4", "compact-random-1")
    assert found.layer == "conv4" and [one.name for one in found.both] == [
        "compact-random-0",
        "compact-random-1",
    ]
    assert retention.fingerprints([found]) == {one.name: one.fingerprint for one in found.both}
