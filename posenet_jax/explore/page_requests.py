"""Requests that a page can make: to show a picture, to invert, to stop, to look closer.

Whatever computes runs in one other thread (`side`), one thing at a time, so that the server goes on
answering; inversions run in the queue's.
"""

import asyncio
import concurrent.futures
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from posenet_jax import metrics, numerics, reconstruction
from posenet_jax.decoders.decoding import decode
from posenet_jax.errors import InputError
from posenet_jax.explore import wishes
from posenet_jax.explore.catalogue import DEMO_IMAGES, Catalogue, Program, demo_images
from posenet_jax.explore.live_batch import LiveBatch, LiveJob
from posenet_jax.explore.live_queue import LiveQueue, Ticket
from posenet_jax.explore.visitors import Picture, Visitor, data_url
from posenet_jax.explore.wishes import Wish
from posenet_jax.images import image_files
from posenet_jax.inversion import encode_checks
from posenet_jax.io import files
from posenet_jax.io.provenance import run_record

T = TypeVar("T")


class PageRequests:
    """The functions behind the page's buttons."""

    def __init__(
        self,
        catalogue: Catalogue,
        queue: LiveQueue,
        side: concurrent.futures.Executor,
        *,
        sizes: Sequence[int],
    ) -> None:
        self._catalogue, self._queue, self._side, self._sizes = catalogue, queue, side, sizes
        self._actions = {"encoder": self._encoder, "invert": self._invert, "stop": self._stop}

    def prepare_default(self) -> None:
        """Has the programs compiled that the page begins with, those of its images too."""
        self._queue.prepare(self._catalogue.default, self._maker(self._catalogue.default))
        self._side.submit(self._warm_up)

    async def answer(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        """Does what a message asks for; InputError where that cannot be."""
        action = self._actions.get(wishes.word(asked, "do", ""))
        if action is None:
            raise InputError("the page asked for something that this server does not do")
        await action(visitor, asked)

    async def show(self, visitor: Visitor, place: str, picture: Picture) -> None:
        """Puts a picture into a place of a page, and shows what an encoder reads of it."""
        space = self._catalogue.encoder(self._catalogue.default.encoder).preprocessing
        pixels = await self._computed(picture.pixels, space)
        visitor.pictures[place] = picture
        shown = data_url(space.picture(pixels))
        visitor.say("picture", place=place, name=picture.name, image=shown)

    async def _encoder(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        name = wishes.word(asked, "encoder", self._catalogue.default.encoder)
        visitor.say("encoder", **await self._computed(self._catalogue.encoder_record, name))

    async def _invert(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        wish = await self._computed(wishes.wish, self._catalogue, asked)
        if visitor.ticket is not None and not visitor.ticket.ended:
            raise InputError("an inversion of this page is running: stop it first")
        picture = visitor.picture("first")
        self._queue.prepare(wish.program, self._maker(wish.program))
        jobs, control = await self._computed(self._jobs, wish, picture)
        if visitor.ticket is not None and not visitor.ticket.ended:  # begun meanwhile
            raise InputError("an inversion of this page is running: stop it first")
        ticket = Ticket(jobs, visitor.told)
        space = self._catalogue.encoder(wish.program.encoder).preprocessing
        visitor.begin(wish, ticket, space)
        visitor.say("began", restarts=len(jobs), control=control)
        self._queue.submit(wish.program, ticket)

    async def _stop(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        if visitor.ticket is not None:
            self._queue.stop(visitor.ticket)

    async def download(self, visitor: Visitor, name: str) -> tuple[bytes, str]:
        """Returns a result's bytes and their type; InputError where there is none of this name."""
        stem, _, kind = name.rpartition(".")
        number = stem.rpartition("-")[2]
        if kind == "png" and number.isascii() and number.isdigit():
            return await self._computed(lambda: files.png(visitor.result(int(number)))), "image/png"
        if name == "run.json":
            record = json.dumps(await self._computed(self._record, visitor), indent=2)
            return record.encode(), "application/json"
        raise InputError("there is no such result")

    def _record(self, visitor: Visitor) -> dict[str, Any]:
        """Returns what was asked for and what came of it, to be kept beside the pictures."""
        if visitor.wish is None or visitor.ticket is None:
            raise InputError("there is no reconstruction yet: press Invert")
        encoder = self._catalogue.encoder(visitor.wish.program.encoder)
        seen = sorted(visitor.ticket.images.items())
        facts = {
            "image": visitor.pictures["first"].name,
            "weights": encoder.fingerprint,
            "results": [
                {
                    "restart": number,
                    "steps": one.steps,
                    "status": "stopped" if not one.ended else one.status.sentence,
                    "relative_loss": one.relative_loss,
                    "descriptor_error": one.descriptor_error,
                }
                for number, one in seen
            ],
        }
        return run_record(visitor.wish.record(), facts)

    async def _computed(self, function: Callable[..., T], *given: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._side, functools.partial(function, *given))

    def _maker(self, program: Program) -> Callable[[], LiveBatch]:
        def make() -> LiveBatch:
            encoder = self._catalogue.encoder(program.encoder)
            tap, space = encoder.tap(program.layer), encoder.preprocessing
            target = encode_checks.descriptor_like(tap, space)
            recipe = self._catalogue.recipe(program.recipe)
            return LiveBatch(tap, target, recipe, space, sizes=self._sizes)

        return make

    def _warm_up(self) -> None:
        default = self._catalogue.default
        space = self._catalogue.encoder(default.encoder).preprocessing
        target = self._described(default, np.zeros(space.shape, np.uint8))
        self._control(default.encoder, default.layer, target)
        space.to_image(np.zeros(space.shape, np.float32))

    def _described(self, program: Program, pixels: np.ndarray) -> np.ndarray:
        """Returns the descriptor of an image uint8 [H, W, C]."""
        return self._catalogue.encoder(program.encoder).tap(program.layer).describe(pixels[None])[0]

    def _jobs(self, wish: Wish, picture: Picture) -> tuple[list[LiveJob], float]:
        """Returns the jobs of a wish, a restart each, and the relative loss of other pictures."""
        encoder = self._catalogue.encoder(wish.program.encoder)
        layer = wish.program.layer
        target = self._described(wish.program, picture.pixels(encoder.preprocessing))
        decoder = reconstruction.start_decoder(encoder, layer, wish.recipe, None)
        start = None if decoder is None else decode(decoder, target[None])[0]
        key = numerics.seed_key(wish.seed)
        jobs = [
            LiveJob(key, target, wish.recipe, restart, start) for restart in range(wish.restarts)
        ]
        return jobs, self._control(wish.program.encoder, layer, target)

    def _control(self, encoder: str, layer: str, target: np.ndarray) -> float:
        """Returns the mean relative loss of the bundled pictures, without the picture itself."""
        others = self._demo_descriptors(encoder, layer)
        losses = metrics.relative_losses(np.concatenate([target[None], others]))[0, 1:]
        return float(losses[losses > 1e-6].mean())

    @functools.lru_cache(maxsize=32)  # noqa: B019
    def _demo_descriptors(self, encoder: str, layer: str) -> np.ndarray:
        chosen = self._catalogue.encoder(encoder)
        paths = [DEMO_IMAGES / name for name in demo_images()]
        pictures = chosen.preprocessing.resize_all(map(image_files.read_image, paths))
        return chosen.tap(layer).describe(pictures)
