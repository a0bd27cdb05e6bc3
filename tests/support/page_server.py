"""A server of the page in a thread, for tests that speak to it as a browser does."""

import asyncio
import contextlib
import threading

SLOTS = 10


@contextlib.contextmanager
def serving(catalogue, sizes):
    """(server, port) while the context is open."""
    from posenet_jax.explore.web_server import WebServer

    started, ended = threading.Event(), {}

    async def serve():
        server = WebServer(catalogue, sizes=sizes, max_pixels=10**6)
        async with server.listening(0) as port:
            ended.update(server=server, port=port, loop=asyncio.get_running_loop())
            ended["end"] = asyncio.Event()
            started.set()
            await ended["end"].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    try:
        yield ended["server"], ended["port"]
    finally:
        ended["loop"].call_soon_threadsafe(ended["end"].set)
        thread.join()
