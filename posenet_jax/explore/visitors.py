"""One open page: its pictures, its inversion, and what is still to be sent to it.

Nothing of it outlives the connection, and nothing is written to disk.
"""

import asyncio
import base64
import functools
import json
import secrets
from typing import Any

import numpy as np

from posenet_jax.errors import InputError
from posenet_jax.explore.live_queue import Ticket
from posenet_jax.explore.wishes import Wish
from posenet_jax.images import image_files
from posenet_jax.images.preprocessing import Preprocessing, as_rgb
from posenet_jax.io import files

PLACES = ("first", "second")
"""Where a picture can be put."""


class Picture:
    """An image file's content, decoded when an encoder's size of it is asked for."""

    def __init__(self, name: str, content: bytes, max_pixels: int) -> None:
        self.name, self._content, self._max_pixels = name, content, max_pixels
        self._resized: tuple[Preprocessing, np.ndarray] | None = None

    def pixels(self, space: Preprocessing) -> np.ndarray:
        """Returns the image uint8 [H, W, C] as read; ImageError for a damaged file."""
        if self._resized is None or self._resized[0] != space:
            image = image_files.decode_image(self._content, self.name, max_pixels=self._max_pixels)
            self._resized = space, space.resize(image)
        return self._resized[1]


class Visitor:
    """State of one page while it is connected."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(16)
        self.pictures: dict[str, Picture] = {}
        self.wish: Wish | None = None
        self.ticket: Ticket | None = None
        self.space: Preprocessing | None = None  # of the ticket's encoder
        self.inverted: Picture | None = None  # by the ticket
        self.busy = False  # with something else than an inversion
        self._messages: list[dict[str, Any]] = []
        self._sent: dict[int, tuple[int, int]] = {}  # restart -> points, steps of the picture
        self._last: tuple[Any, ...] = ()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def picture(self, place: str) -> Picture:
        """Returns the picture at a place; InputError where there is none."""
        if place not in self.pictures:
            which = "a picture" if place == "first" else "a second picture"
            raise InputError(f"choose {which} first")
        return self.pictures[place]

    def say(self, event: str, **facts: Any) -> None:
        """Has a message sent."""
        self._messages.append({"event": event} | facts)
        self._wake.set()

    def begin(self, wish: Wish, ticket: Ticket, space: Preprocessing, picture: Picture) -> None:
        """Makes an inversion this page's."""
        self.wish, self.ticket, self.space = wish, ticket, space
        self.inverted = picture
        self._sent, self._last = {}, ()

    def told(self) -> None:
        """Wakes `messages`; may be called from any thread, also when the page is gone."""
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the server has ended
            pass

    async def messages(self) -> list[str]:
        """Waits until there is something to send, and returns it as JSON."""
        await self._wake.wait()
        self._wake.clear()
        taken, self._messages = self._messages, []
        if self.ticket is not None and (progress := await self._progress(self.ticket)):
            taken.append(progress)
        return [json.dumps(files.plain_values(message), allow_nan=False) for message in taken]

    async def _progress(self, ticket: Ticket) -> dict[str, Any] | None:
        """Returns what has become of the inversion since the last time; None: nothing."""
        state = {
            "compiling": ticket.compiling,
            "ahead": ticket.ahead,
            "stopped": ticket.stopped,
            "failure": ticket.failure,
            "ended": ticket.ended,
        }
        restarts = await asyncio.to_thread(self._restarts, ticket, self.space, self._sent)
        facts = tuple(state.values())
        if ticket is not self.ticket or (not restarts and facts == self._last):
            return None
        self._last = facts
        return {"event": "progress", "restarts": restarts} | state

    def _restarts(
        self, ticket: Ticket, space: Preprocessing | None, sent: dict[int, tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Returns what is new of each restart since `sent`, which it brings up to date."""
        made = []
        for number, seen in sorted(ticket.images.items()):
            points, steps = sent.get(number, (0, 0))
            if seen.steps == steps:
                continue
            curve = [point for point in ticket.curves[number][points:] if point[0] <= seen.steps]
            sent[number] = points + len(curve), seen.steps
            made.append(
                {
                    "number": number,
                    "steps": seen.steps,
                    "of": int(ticket.jobs[number].recipe.steps),
                    "relative_loss": seen.relative_loss,
                    "descriptor_error": seen.descriptor_error,
                    "status": seen.status.sentence,
                    "image": data_url(_shown(seen.image, space)),
                    "curve": curve,
                }
            )
        return made

    def result(self, number: int) -> np.ndarray:
        """Returns the picture of a restart so far, uint8 [H, W, C]; InputError: there is none."""
        if self.ticket is None or number not in self.ticket.images:
            raise InputError("there is no reconstruction yet: press Invert")
        return _shown(self.ticket.images[number].image, self.space)

    def results(self) -> list[np.ndarray]:
        """Returns the pictures of all restarts so far."""
        return [self.result(number) for number in sorted(self.ticket.images if self.ticket else [])]


def _shown(image: np.ndarray | None, space: Preprocessing | None) -> np.ndarray:
    """Returns the picture uint8 [H, W, C] of an image in network space."""
    assert space is not None and image is not None  # since `begin`
    return np.asarray(space.picture(np.asarray(space.to_image(image))))


@functools.lru_cache(maxsize=64)
def _encoded(content: bytes, shape: tuple[int, ...]) -> str:
    picture = np.frombuffer(content, np.uint8).reshape(shape)
    return f"data:image/png;base64,{base64.b64encode(files.png(picture)).decode()}"


def data_url(picture: np.ndarray) -> str:
    """Returns a PNG that stands in the page itself, of uint8 [H, W, 1 or 3]."""
    rgb = as_rgb(picture)
    return _encoded(rgb.tobytes(), rgb.shape)
