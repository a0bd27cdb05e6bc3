"""Batches in parts: how they are cut, and what is summed over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posenet_jax.nn import parts


def images(*batch):
    values = np.random.default_rng(0).normal(size=(*batch, 4, 3, 2))
    return jnp.asarray(values.astype(np.float32))


@pytest.mark.parametrize(
    ("batch", "most", "taken"),
    # The largest divisor of the batch that is allowed; all at once; a batch of batches; primes.
    [
        ((12,), 5, 4),
        ((12,), 12, None),
        ((2, 6), 4, 4),
        ((7,), 6, None),
        ((7,), 2, 1),
        ((), 1, None),
        ((0,), 1, None),
    ],
)
def test_a_batch_is_cut_evenly(monkeypatch, batch, most, taken):
    monkeypatch.setattr(parts, "images_a_part", lambda each, shared: most)
    seen = []

    def of_part(x):
        seen.append(x.shape)
        return jnp.cumsum(x, axis=-1)

    x = images(*batch)
    found = parts.mapped(of_part, x, each=1, shared=0)
    np.testing.assert_allclose(found, np.cumsum(np.asarray(x), axis=-1), rtol=1e-6)
    assert seen == [(*(batch if taken is None else (taken,)), 4, 3, 2)]


def test_what_parts_share_is_summed(monkeypatch):
    monkeypatch.setattr(parts, "images_a_part", lambda each, shared: 2)
    x = images(6)

    def of_part(x):
        return 2 * x, jnp.einsum("nhwc,nhwd->cd", x, x)

    doubled, total = parts.mapped_and_summed(of_part, (x,), 1, jnp.zeros((2, 2)))
    rows = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_allclose(total, rows.T @ rows, rtol=1e-5)


def test_parts_fit_a_cache_or_outweigh_what_each_reads():
    assert parts.images_a_part(2**19, 0) == 4
    assert parts.images_a_part(2**19, 2**22) == 8
    assert parts.images_a_part(2**30, 0) == 1


def test_elsewhere_all_is_one_part(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    seen = []
    parts.mapped(lambda x: seen.append(x.shape) or x, images(6), 2**30, 0)
    assert seen == [(6, 4, 3, 2)]
