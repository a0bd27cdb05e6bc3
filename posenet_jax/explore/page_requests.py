"""Requests that a page can make: to show a picture, to invert, to stop, to look closer.

Whatever computes runs in two other threads, so that the server goes on answering: `side` reads
images and makes jobs of them, `looks` does what may take long. Inversions run in the queue's.
"""

import asyncio
import concurrent.futures
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from posenet_jax import metrics, numerics, reconstruction
from posenet_jax.analysis.surgery import Components
from posenet_jax.decoders import generator_space
from posenet_jax.decoders.decoding import decode
from posenet_jax.errors import InputError
from posenet_jax.explore import closer_looks, wishes
from posenet_jax.explore.catalogue import DEMO_IMAGES, Catalogue, Program, demo_images
from posenet_jax.explore.closer_looks import Shown
from posenet_jax.explore.live_batch import LiveBatch, LiveJob
from posenet_jax.explore.live_queue import LiveQueue, Ticket
from posenet_jax.explore.visitors import PLACES, Picture, Visitor, data_url
from posenet_jax.explore.wishes import Wish
from posenet_jax.images import image_files
from posenet_jax.images.preprocessing import Preprocessing
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
        looks: concurrent.futures.Executor,
        *,
        sizes: Sequence[int],
    ) -> None:
        self._catalogue, self._queue, self._sizes = catalogue, queue, sizes
        self._side, self._looks = side, looks
        self._actions = {
            "encoder": self._encoder,
            "invert": self._invert,
            "stop": self._stop,
            "operate": self._operate,
            "decode": self._decode,
            "restarts": self._restarts,
            "pose": self._pose,
            "extremes": self._extremes,
        }

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
        visitor.say("encoder", **await asyncio.to_thread(self._catalogue.encoder_record, name))

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
        visitor.begin(wish, ticket, space, picture)
        visitor.say("began", restarts=len(jobs), control=control)
        self._queue.submit(wish.program, ticket)

    async def _look(self, visitor: Visitor, event: str, look: Callable[[], dict[str, Any]]) -> None:
        """Has something computed for a page, one thing at a time, and sends it."""
        if visitor.busy:
            raise InputError("one thing at a time: wait for what was asked before")
        visitor.busy = True
        try:
            loop = asyncio.get_running_loop()
            visitor.say(event, **await loop.run_in_executor(self._looks, look))
        finally:
            visitor.busy = False

    async def _operate(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        picture = visitor.picture("first")

        def look() -> dict[str, Any]:
            wish = wishes.wish(self._catalogue, asked)
            before, target, _ = self._targets(wish, picture)
            facts: dict[str, Any] = {"loss": closer_looks.distance(before, target)}
            names = self._catalogue.decoders(wish.program.encoder, wish.program.layer)
            if names:
                decoder = self._catalogue.decoder(*wish.program[:2], names[0])
                key = numerics.seed_key(wish.seed)
                (_, made), *_ = closer_looks.decoded(decoder, target, key)
                facts["image"] = data_url(made)
            return facts

        await self._look(visitor, "operated", look)

    async def _decode(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        picture = visitor.picture("first")

        def look() -> dict[str, Any]:
            wish = wishes.wish(self._catalogue, asked)
            name = wishes.word(asked, "decoder", "")
            decoder = self._catalogue.decoder(*wish.program[:2], name)
            _, target, _ = self._targets(wish, picture)
            return _pictures(closer_looks.decoded(decoder, target, numerics.seed_key(wish.seed)))

        await self._look(visitor, "decoded", look)

    async def _restarts(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        def look() -> dict[str, Any]:
            made = closer_looks.mean_and_deviation(visitor.results(), "restarts")
            if not made:
                raise InputError("a mean needs two restarts or more: set their number and invert")
            return _pictures(made)

        await self._look(visitor, "restarts", look)

    async def _pose(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        places = [visitor.picture(place) for place in PLACES]

        def look() -> dict[str, Any]:
            program = wishes.program_of(self._catalogue, asked)
            encoder = self._catalogue.encoder(program.encoder)
            if not encoder.predicts_poses:
                raise InputError(f"{encoder.name} has no pose heads: choose another encoder")
            fc5 = program._replace(layer="fc5")
            space = encoder.preprocessing
            first, second = (self._described(fc5, own.pixels(space)) for own in places)
            facts = {"original": closer_looks.pose(encoder, first, second)}
            of_this = visitor.wish is not None and visitor.wish.program.encoder == program.encoder
            if of_this and visitor.inverted is places[0] and (made := visitor.results()):
                again = self._described(fc5, made[0])
                facts["reconstruction"] = closer_looks.pose(encoder, again, second)
            return facts | {"loss": closer_looks.distance(first, second)}

        await self._look(visitor, "pose", look)

    async def _extremes(self, visitor: Visitor, asked: Mapping[str, Any]) -> None:
        picture = visitor.picture("first")

        def look() -> dict[str, Any]:
            program = wishes.program_of(self._catalogue, asked)
            levels = wishes.number(asked, "grey_levels", 1.0, 64.0, 10.0)
            encoder = self._catalogue.encoder(program.encoder)
            pixels = picture.pixels(encoder.preprocessing)
            key = numerics.seed_key(0)
            tap = encoder.tap(program.layer)
            return _pictures(closer_looks.changed_most_and_least(tap, pixels, key, levels))

        await self._look(visitor, "extremes", look)

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
        if visitor.wish is None or visitor.ticket is None or visitor.inverted is None:
            raise InputError("there is no reconstruction yet: press Invert")
        encoder = self._catalogue.encoder(visitor.wish.program.encoder)
        seen = sorted(visitor.ticket.images.items())
        facts = {
            "image": visitor.inverted.name,
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
            decoder = reconstruction.start_decoder(encoder, program.layer, recipe, None)
            recipe = generator_space.recipe_in(recipe, decoder)
            return LiveBatch(tap, target, recipe, space, sizes=self._sizes)

        return make

    def _warm_up(self) -> None:
        default = self._catalogue.default
        space = self._catalogue.encoder(default.encoder).preprocessing
        self._described(default, np.zeros(space.shape, np.uint8))
        self._demo_descriptors(default.encoder, default.layer)
        space.to_image(np.zeros(space.shape, np.float32))

    def _described(self, program: Program, pixels: np.ndarray) -> np.ndarray:
        """Returns the descriptor of an image uint8 [H, W, C]."""
        return self._catalogue.encoder(program.encoder).tap(program.layer).describe(pixels[None])[0]

    def _jobs(self, wish: Wish, picture: Picture) -> tuple[list[LiveJob], float]:
        """Returns the jobs of a wish, a restart each, and the relative loss of other pictures."""
        encoder = self._catalogue.encoder(wish.program.encoder)
        layer = wish.program.layer
        _, target, others = self._targets(wish, picture)
        decoder = reconstruction.start_decoder(encoder, layer, wish.recipe, None)
        recipe = generator_space.recipe_in(wish.recipe, decoder)
        start = None
        if decoder is not None and recipe.start == "image":
            start = decode(decoder, target[None])[0]
        key = numerics.seed_key(wish.seed)
        jobs = [LiveJob(key, target, recipe, restart, start) for restart in range(wish.restarts)]
        return jobs, _control(target, others)

    def _targets(self, wish: Wish, picture: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the picture's descriptor, the one to invert, those of the bundled pictures."""
        encoder, layer = wish.program[:2]
        space = self._catalogue.encoder(encoder).preprocessing
        found = self._described(wish.program, picture.pixels(space))
        others = self._demo_descriptors(encoder, layer)
        if not wish.operation:
            return found, found, others
        key = numerics.seed_key(wish.seed)
        fitted = self._components(encoder, layer) if wish.operation == "components" else None
        made = closer_looks.operated(wish.operation, wish.amount, found, others, key, fitted)
        return found, made, others

    @functools.lru_cache(maxsize=16)  # noqa: B019
    def _components(self, encoder: str, layer: str) -> Components:
        """Returns the components of a layer's descriptors, fitted once."""
        tap = self._catalogue.encoder(encoder).tap(layer)
        return closer_looks.components_of_crops(tap, self._demo_pictures(tap.preprocessing))

    @functools.lru_cache(maxsize=32)  # noqa: B019
    def _demo_descriptors(self, encoder: str, layer: str) -> np.ndarray:
        chosen = self._catalogue.encoder(encoder)
        return chosen.tap(layer).describe(self._demo_pictures(chosen.preprocessing))

    def _demo_pictures(self, space: Preprocessing) -> np.ndarray:
        paths = [DEMO_IMAGES / name for name in demo_images()]
        return space.resize_all(map(image_files.read_image, paths))


def _control(target: np.ndarray, others: np.ndarray) -> float:
    """Returns the mean relative loss of other pictures' descriptors, without the picture's own."""
    losses = metrics.relative_losses(np.concatenate([target[None], others]))[0, 1:]
    return float(losses[losses > 1e-6].mean())


def _pictures(shown: Sequence[Shown]) -> dict[str, Any]:
    return {"pictures": [{"caption": one.caption, "image": data_url(one.picture)} for one in shown]}
