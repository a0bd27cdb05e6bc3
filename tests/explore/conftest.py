"""A server of the page for the tests of a file."""

import page_server
import pytest

from posenet_jax.explore.catalogue import Catalogue, Program


@pytest.fixture(scope="module")
def served(compiling):
    pytest.importorskip("aiohttp", reason="the page needs aiohttp: pip install .[explore]")
    with page_server.serving(
        Catalogue(["compact"], Program("compact", "fc5", "calibrated")), (page_server.SLOTS,)
    ) as it:
        yield it
