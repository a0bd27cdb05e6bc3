"""Weights between those of two encoders."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import script_process
from safetensors.numpy import load_file

from posenet_jax.encoders.blending import blended
from posenet_jax.encoders.weights import load_encoder, random_encoder, save_encoder
from posenet_jax.errors import InputError


def test_weights_and_heads_are_means():
    one, other = random_encoder("compact"), random_encoder("compact", seed=1)
    found = blended(one, other, 0.25, "between")
    assert found.name == "between" and found.module == one.module
    for ours, a, b in zip(
        *(jax.tree.leaves((x.params, x.head_params)) for x in (found, one, other)), strict=True
    ):
        expected = 0.75 * np.asarray(a, np.float64) + 0.25 * np.asarray(b, np.float64)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    for share, end in ((0.0, one), (1.0, other)):
        assert blended(one, other, share).fingerprint == end.fingerprint


def test_encoders_that_do_not_fit_are_refused():
    one = load_encoder("compact")
    with pytest.raises(InputError, match="between 0 and 1, received 1.5"):
        blended(one, one, 1.5)
    with pytest.raises(InputError, match="'compact' and 'streetnet-random-0' are of different"):
        blended(one, load_encoder("streetnet-random-0"), 0.5)
    with pytest.raises(InputError, match="networks, images or heads"):
        blended(one, dataclasses.replace(one, head_params=None), 0.5)
    scale = jax.tree.map(lambda x: 2 * x, one.pose_scale)
    with pytest.raises(InputError, match="have different units"):
        blended(one, dataclasses.replace(one, pose_scale=scale), 0.5)


def test_the_script_writes_what_can_be_loaded(tmp_path):
    moved = load_encoder("compact")
    moved = dataclasses.replace(moved, params=jax.tree.map(lambda x: x + 0.5, moved.params))
    save_encoder(tmp_path / "moved.safetensors", moved, "float32")
    flags = "--encoder=compact", f"--other={tmp_path}/moved.safetensors", "--share=0.5"
    run = script_process.run("blend_encoders", *flags, f"--out={tmp_path}/blend")
    assert run.returncode == 0, run.stderr
    ours = load_file(tmp_path / "blend" / "weights.safetensors")
    load_encoder(tmp_path / "blend" / "weights.safetensors")
    first = np.asarray(load_encoder("compact").params["conv1"]["kernel"])
    np.testing.assert_allclose(ours["conv1/kernel"], first + 0.25, atol=2e-3)
    record = json.loads((tmp_path / "blend" / "run.json").read_text())
    wanted = load_encoder("compact").fingerprint, moved.fingerprint
    assert (record["weights"], record["other_weights"]) == wanted
