"""The server of the page: on this machine alone, for pages that it served itself.

One WebSocket a page carries requests and news, as JSON; images come by POST, results go by GET,
each with the token that the page was given. A page is forgotten when its connection closes.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import WSMsgType, web

from posenet_jax.errors import InputError, one_line
from posenet_jax.explore.catalogue import DEMO_IMAGES, Catalogue
from posenet_jax.explore.live_queue import LiveQueue
from posenet_jax.explore.page_requests import PageRequests
from posenet_jax.explore.visitors import PLACES, Picture, Visitor

_LOG = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
LARGEST_UPLOAD = 10 * 2**20  # bytes
MOST_VISITORS = 64
_LARGEST_MESSAGE = 2**16  # bytes
_STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """Pages, their connections, and the two threads that work for them."""

    def __init__(self, catalogue: Catalogue, *, sizes: Sequence[int], max_pixels: int) -> None:
        """sizes: numbers of slots, rising (`live_batch.sizes`). max_pixels: of an image file."""
        self.queue = LiveQueue(self._became_ready)
        self._side = concurrent.futures.ThreadPoolExecutor(1, "side")
        self._looks = concurrent.futures.ThreadPoolExecutor(1, "looks")
        self._requests = PageRequests(catalogue, self.queue, self._side, self._looks, sizes=sizes)
        self._loop: asyncio.AbstractEventLoop | None = None  # while it listens
        self._catalogue, self._max_pixels = catalogue, max_pixels
        self._visitors: dict[str, Visitor] = {}
        self._hosts: set[str] = set()
        self.addresses: list[tuple[str, int]] = []
        """Where it listens: address and port."""

    @contextlib.asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[int]:
        """Serves while the context is open; gives the port. port: 0: any that is free."""
        app = web.Application(middlewares=[self._guarded], client_max_size=LARGEST_UPLOAD)
        app.add_routes(
            [
                web.get("/", self._file),
                web.get("/static/{name}", self._file),
                web.get("/demo/{name}", self._demo),
                web.get("/live", self._live),
                web.post("/picture/{place}", self._upload),
                web.get("/download/{token}/{name}", self._download),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, ADDRESS, port)
            try:
                await site.start()
            except OSError as error:
                advice = "choose another with --port, or 0 for any"
                reason = os.strerror(error.errno or 0).lower()
                raise InputError(f"port {port}: {reason}; {advice}") from None
            self.addresses = runner.addresses
            port = self.addresses[0][1]
            self._hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
            self._loop = asyncio.get_running_loop()
            self._requests.prepare_default()
            yield port
        finally:
            await runner.cleanup()
            await asyncio.to_thread(self.queue.close)
            self._side.shutdown(cancel_futures=True)
            self._looks.shutdown(cancel_futures=True)

    def _became_ready(self, program: object) -> None:
        """Tells all pages, from the queue's thread, which programs are compiled."""
        with contextlib.suppress(RuntimeError):  # the server has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._tell_ready)

    def _tell_ready(self) -> None:
        for visitor in self._visitors.values():
            visitor.say("ready", programs=self.queue.ready)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what does not come from a page of this server; errors become one sentence."""
        try:
            self._check_source(request)
            response = await handler(request)
        except web.HTTPRequestEntityTooLarge:
            response = _refusal(413, _too_large())
        except InputError as error:
            response = _refusal(400, one_line(error))
        except web.HTTPException as error:
            response = _refusal(error.status, error.text or error.reason)
        if not response.prepared:
            response.headers.update(self._headers())
        return response

    def _check_source(self, request: web.Request) -> None:
        """Refuses other names of this machine (DNS rebinding), and other pages' requests."""
        here = sorted(self._hosts)[0]
        if request.headers.get("Host") not in self._hosts:
            raise web.HTTPForbidden(text=f"this page is at http://{here} alone")
        origin = request.headers.get("Origin")
        elsewhere = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        foreign = origin is not None and origin not in {f"http://{host}" for host in self._hosts}
        if foreign or (elsewhere and request.path != "/"):
            raise web.HTTPForbidden(text="requests of other pages are not answered")

    def _headers(self) -> dict[str, str]:
        sockets = " ".join(f"ws://{host}" for host in sorted(self._hosts))
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
            f" connect-src 'self' {sockets}; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        return {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "explore.html")
        path = next((path for path in _STATIC.iterdir() if path.name == name), None)
        if path is None or path.suffix not in _TYPES:
            raise web.HTTPNotFound(text=f"there is no {name[:80]}")
        return web.Response(text=path.read_text("utf-8"), content_type=_TYPES[path.suffix])

    async def _demo(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._bundled(request.match_info["name"]).read_bytes(), content_type="image/*"
        )

    def _bundled(self, name: str) -> Path:
        if name not in self._catalogue.record()["demo"]:
            raise InputError(f"there is no bundled picture {name[:80]!r}")
        return DEMO_IMAGES / name

    def _visitor(self, token: str | None) -> Visitor:
        if token not in self._visitors:
            raise web.HTTPForbidden(text="this page is not connected any more: load it again")
        return self._visitors[token]

    async def _upload(self, request: web.Request) -> web.Response:
        """Takes an image file: the body's bytes."""
        visitor = self._visitor(request.headers.get("X-Page"))
        place = request.match_info["place"]
        if place not in PLACES:
            raise web.HTTPNotFound(text=f"pictures are {' and '.join(PLACES)}")
        if (request.content_length or 0) > LARGEST_UPLOAD:
            return _refusal(413, _too_large())
        name = request.query.get("name", "")[:120] or "your picture"
        content = await request.read()
        await self._requests.show(visitor, place, Picture(name, content, self._max_pixels))
        return web.json_response({"name": name})

    async def _download(self, request: web.Request) -> web.Response:
        """Returns a result as a file to save; none is written here."""
        visitor = self._visitor(request.match_info["token"])
        name = request.match_info["name"]
        content, kind = await self._requests.download(visitor, name)
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=content, content_type=kind, headers=disposition)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Talks with a page until it is closed."""
        if len(self._visitors) >= MOST_VISITORS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_VISITORS} pages are open: close some")
        socket = web.WebSocketResponse(heartbeat=20.0, max_msg_size=_LARGEST_MESSAGE)
        await socket.prepare(request)
        visitor = Visitor()
        self._visitors[visitor.token] = visitor
        sender = asyncio.create_task(_send(socket, visitor))
        try:
            visitor.say("hello", page=visitor.token, **self._catalogue.record())
            visitor.say("ready", programs=self.queue.ready)
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await self._answer(visitor, message.data)
        finally:
            del self._visitors[visitor.token]
            if visitor.ticket is not None:
                self.queue.stop(visitor.ticket)
            sender.cancel()
        return socket

    async def _answer(self, visitor: Visitor, text: str) -> None:
        """Does what a message asks for; what cannot be done becomes one sentence."""
        try:
            asked = json.loads(text)
            if not isinstance(asked, dict):
                raise ValueError("no object")
        except ValueError:
            visitor.say("error", sentence="the page sent something that is no request")
            return
        try:
            if asked.get("do") == "demo":
                path = self._bundled(str(asked.get("name")))
                picture = Picture(path.name, path.read_bytes(), self._max_pixels)
                place = asked.get("place") if asked.get("place") in PLACES else PLACES[0]
                await self._requests.show(visitor, str(place), picture)
            else:
                await self._requests.answer(visitor, asked)
        except InputError as error:
            visitor.say("error", sentence=one_line(error), about=asked.get("do"))
        except Exception as error:
            _LOG.exception("request of the page")
            sentence = f"that failed ({one_line(error, 120)}): the terminal says more"
            visitor.say("error", sentence=sentence, about=asked.get("do"))


async def _send(socket: web.WebSocketResponse, visitor: Visitor) -> None:
    """Sends what there is to say, as fast as the page takes it: pictures in between are skipped."""
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while not socket.closed:
            for message in await visitor.messages():
                await socket.send_str(message)


def _too_large() -> str:
    return f"the file is larger than {LARGEST_UPLOAD // 2**20} MB: make it smaller"


def _refusal(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
