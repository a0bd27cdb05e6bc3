"""Serves a page on this machine: watch inversions of your own pictures, and what changes them.

    posenet-jax explore
    posenet-jax explore --port=0 --encoder=rendered --layer=conv4

Open the address that it prints. Drop a photograph or take a bundled one, choose encoder, layer and
recipe, and watch the reconstruction, its losses and its steps. Needs the extra explore.

The page is for this machine alone (127.0.0.1), loads nothing from elsewhere, and writes no
file: what is downloaded comes from memory. Pictures and results are forgotten when it is closed.
Inversions of several pages share their slots; more than --slots wait in line. Ctrl-C ends it.
Exit code: 2 if the page could not be served.
"""

from absl import flags

from .common import options, runtime

_PORT = flags.DEFINE_integer(
    "port",
    8100,
    "Port of the page; 0: any that is free.",
    lower_bound=0,
    upper_bound=65535,
)
_ENCODER = options.encoder()
_LAYER = options.layer()
_RECIPE = options.recipe()
_DEFAULT_SLOTS = 12  # each slows all, so no more than people who share a machine
_SLOTS = options.slots(f"{_DEFAULT_SLOTS}, for all pages together")

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()
    if not flags.FLAGS["cpu_devices"].present:
        flags.FLAGS["cpu_devices"].value = 1  # one inversion is quickest with all cores on its step

import asyncio

from posenet_jax.encoders import bundled_encoders
from posenet_jax.errors import InputError
from posenet_jax.explore import live_batch
from posenet_jax.explore.catalogue import Catalogue, Program


async def _serve(catalogue: Catalogue) -> None:
    from posenet_jax.explore.web_server import ADDRESS, WebServer

    sizes = live_batch.sizes(_SLOTS.value or _DEFAULT_SLOTS)
    server = WebServer(catalogue, sizes=sizes, max_pixels=options.MAX_PIXELS.value)
    async with server.listening(_PORT.value) as port:
        print(f"open http://{ADDRESS}:{port} in a browser on this machine; Ctrl-C ends", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Serves until it is interrupted."""
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise InputError(
            "explore needs aiohttp, which is not installed: pip install 'posenet_jax[explore]'"
        ) from None
    default = Program(_ENCODER.value, _LAYER.value, _RECIPE.value)
    names = [*bundled_encoders.names(), bundled_encoders.CONTROL]
    asyncio.run(_serve(Catalogue(names, default)))
    return 0


if __name__ == "__main__":
    runtime.run(main)
