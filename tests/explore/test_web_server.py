"""The page's server: who may ask, what may be asked, and that ten people share one batch."""

import asyncio
import io
import json

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from page_server import SLOTS
from PIL import Image

import posenet_jax
from posenet_jax import numerics, recipes
from posenet_jax.explore.catalogue import DEMO_IMAGES

aiohttp = pytest.importorskip("aiohttp", reason="the page needs aiohttp: pip install .[explore]")

DEMO, OTHER = "photo_pavilion_left.jpg", "photo_pavilion_right.jpg"


class Page:
    """A page's side of its connection."""

    def __init__(self, session, port):
        self._session, self._base = session, f"http://127.0.0.1:{port}"

    async def __aenter__(self):
        self._socket = await self._session.ws_connect(f"{self._base}/live")
        self.token = (await self.heard("hello"))["page"]
        return self

    async def __aexit__(self, *error):
        await self._socket.close()

    async def heard(self, *events, where=lambda message: True):
        """The next message of these kinds for which `where` holds."""
        while True:
            message = json.loads((await self._socket.receive(120)).data)
            if message["event"] in events and where(message):
                return message

    async def ask(self, **what):
        await self._socket.send_str(json.dumps(what))

    async def shows(self, name=DEMO):
        await self.ask(do="demo", place="first", name=name)
        return await self.heard("picture")

    async def invert(self, **more):
        await self.ask(do="invert", **({"steps": 1000} | more))

    async def running(self):
        return await self.heard("progress", where=lambda message: message["restarts"])

    async def ended(self):
        return await self.heard("progress", where=lambda message: message["ended"])

    async def upload(self, content, place="first", **headers):
        url = f"{self._base}/picture/{place}?name=mine.png"
        headers = {"X-Page": self.token} | headers
        async with self._session.post(url, data=content, headers=headers) as response:
            return response.status, await response.json()

    async def get(self, path, **headers):
        async with self._session.get(self._base + path, headers=headers) as response:
            return response.status, await response.read(), response.headers


def talk(served, conversation, pages=1):
    """Runs a conversation of so many pages with the server."""

    async def run():
        async with aiohttp.ClientSession() as session:
            opened = [Page(session, served[1]) for _ in range(pages)]
            for page in opened:
                await page.__aenter__()
            try:
                return await conversation(*opened)
            finally:
                for page in opened:
                    await page.__aexit__()

    return asyncio.run(asyncio.wait_for(run(), 300))


def png(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def test_an_uploaded_picture_has_the_librarys_result(served):
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)

    async def conversation(page):
        assert await page.upload(png(image)) == (200, {"name": "mine.png"})
        assert (await page.heard("picture"))["name"] == "mine.png"
        await page.invert(steps=5, seed=7, restarts=2)
        assert (await page.heard("began"))["control"] > 0.01
        await page.ended()
        status, picture, headers = await page.get(f"/download/{page.token}/reconstruction-0.png")
        assert status == 200 and "attachment" in headers["Content-Disposition"]
        _, record, _ = await page.get(f"/download/{page.token}/run.json")
        return np.asarray(Image.open(io.BytesIO(picture))), json.loads(record)

    picture, record = talk(served, conversation)
    encoder = posenet_jax.load_encoder("compact")
    result = posenet_jax.invert(
        encoder.tap("fc5"),
        encoder.tap("fc5").describe(image[None]),
        key=numerics.seed_key(7),
        recipe=recipes.with_steps(recipes.CALIBRATED, 5),
        slots=SLOTS,
        mesh=Mesh(np.asarray(jax.devices()[:1]), ("slots",)),
    )
    assert np.array_equal(picture, encoder.preprocessing.to_image(result.image)[0])
    first, second = record["results"]
    assert first["relative_loss"] == result.relative_loss[0]
    assert second["relative_loss"] != first["relative_loss"] and record["flags"]["seed"] == 7


def test_ten_share_a_batch_an_eleventh_waits_and_a_stop_frees_the_slot(served):
    counts = served[0].queue.counts

    async def conversation(*pages):
        *ten, late = pages
        await asyncio.gather(*(page.shows() for page in pages))
        for page in ten:
            await page.invert()
        await asyncio.gather(*(page.running() for page in ten))
        assert counts() == {"running": SLOTS, "waiting": 0}
        await late.invert()
        while counts()["waiting"] != 1:
            await asyncio.sleep(0.01)
        await ten[0].ask(do="stop")
        assert (await ten[0].ended())["stopped"]
        assert (await late.running())["restarts"][0]["steps"] >= 1
        assert counts() == {"running": SLOTS, "waiting": 0}

    talk(served, conversation, pages=SLOTS + 1)

    async def all_are_gone():
        while counts() != {"running": 0, "waiting": 0}:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(all_are_gone(), 60))


def test_a_page_has_one_inversion_at_a_time(served):
    async def conversation(page):
        await page.shows()
        await page.invert()
        await page.running()
        await page.invert()
        sentence = (await page.heard("error"))["sentence"]
        await page.ask(do="stop")
        await page.ended()
        await page.invert(steps=1)
        assert not (await page.ended())["stopped"]
        return sentence

    assert talk(served, conversation) == "an inversion of this page is running: stop it first"


def test_files_that_are_no_images_are_refused_in_a_sentence(served):
    whole = png(np.zeros((64, 64, 3), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    async def conversation(page):
        for content, words in (
            (b"", "mine.png: an empty file"),
            (b"<svg onload='x'/>", "mine.png: not an image"),
            (png(noise)[:3000], "mine.png: damaged or truncated"),
            (png(np.zeros((1001, 1000, 3), np.uint8)), "mine.png: too large (1000x1001 pixels"),
        ):
            status, answer = await page.upload(content)
            assert status == 400 and words in answer["error"]
        status, answer = await page.upload(io.BytesIO(bytes(10 * 2**20 + 1)))
        assert status == 413 and answer["error"] == "the file is larger than 10 MB: make it smaller"
        await page.invert()
        assert (await page.heard("error"))["sentence"] == "choose a picture first"
        status, _ = await page.upload(whole)
        assert status == 200

    talk(served, conversation)


def test_other_pages_and_other_names_are_refused(served):
    async def conversation(page):
        port = served[1]
        for headers in (
            {"Host": f"rebound.example:{port}"},
            {"Host": "127.0.0.1"},
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
        ):
            for path in ("/", "/static/explore.js", f"/download/{page.token}/run.json", "/live"):
                status, body, _ = await page.get(path, **headers)
                assert status == 403 and set(json.loads(body)) == {"error"}, (path, headers)
        status, _, _ = await page.get("/demo/" + DEMO, **{"Sec-Fetch-Site": "cross-site"})
        assert status == 403
        status, body, headers = await page.get("/")
        assert status == 200 and b"Drop a photograph" in body
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        image = png(np.zeros((8, 8, 3), np.uint8))
        assert (await page.upload(image, **{"X-Page": "guessed"}))[0] == 403
        assert (await page.upload(image, Origin="http://evil.example"))[0] == 403
        for path in ("/download/guessed/run.json", "/static/..%2Fweb_server.py", "/demo/README.md"):
            assert (await page.get(path))[0] in (400, 403, 404), path

    talk(served, conversation)


def test_the_server_listens_on_this_machine_alone(served):
    async def conversation(page):
        runner_addresses = served[0].addresses
        assert [address for address, _ in runner_addresses] == ["127.0.0.1"]

    talk(served, conversation)


def test_a_port_in_use_is_told_in_a_sentence(served):
    from posenet_jax.explore.web_server import WebServer

    async def listen():
        server = WebServer(served[0]._catalogue, sizes=(1,), max_pixels=1)
        async with server.listening(served[1]):
            pass

    with pytest.raises(posenet_jax.InputError, match=f"port {served[1]}: address already in use; "):
        asyncio.run(listen())


def test_whatever_a_page_sends_is_answered_in_a_sentence(served):
    async def conversation(page):
        await page.shows()
        for asked, words in (
            ({"do": "invert", "encoder": "../../etc/passwd"}, "no encoder '../../etc/passwd'"),
            ({"do": "invert", "encoder": 3}, "encoder must be a word"),
            ({"do": "invert", "layer": "fc6"}, "no layer 'fc6' in encoder 'compact'"),
            ({"do": "invert", "recipe": "x"}, "no recipe 'x'"),
            ({"do": "invert", "steps": 0}, "steps must be a whole number from 1 to 1000"),
            ({"do": "invert", "steps": 1e999}, "steps must be a whole number"),
            ({"do": "invert", "seed": "0"}, "seed must be a whole number"),
            ({"do": "invert", "restarts": 5}, "restarts must be a whole number from 1 to 4"),
            ({"do": "demo", "name": "../pretrained/compact.md"}, "there is no bundled picture"),
            ({"do": "rm"}, "does not do"),
            ({"do": ["x"]}, "do must be a word"),
        ):
            await page.ask(**asked)
            assert words in (await page.heard("error"))["sentence"]
        for text in ("", "[]", "{", "7"):
            await page._socket.send_str(text)
            assert "no request" in (await page.heard("error"))["sentence"]

    talk(served, conversation)


def test_closer_looks_are_those_of_the_library(served):
    """Descriptor surgery, the pose heads and the mean of restarts, as the page receives them."""

    async def conversation(page):
        await page.ask(do="pose")
        assert (await page.heard("error"))["sentence"] == "choose a picture first"
        await page.shows()
        await page.ask(do="pose")
        assert (await page.heard("error"))["sentence"] == "choose a second picture first"
        await page.ask(do="demo", place="second", name=OTHER)
        await page.heard("picture")
        await page.ask(do="restarts")
        assert "two restarts or more" in (await page.heard("error"))["sentence"]
        await page.ask(do="decode", decoder="streetnet-fc5")
        sentence = (await page.heard("error"))["sentence"]
        assert sentence == "no decoder 'streetnet-fc5' for fc5 of compact; there is none"
        await page.invert(steps=2, restarts=2, operation="largest", amount=64)
        await page.ended()
        await page.ask(do="restarts")
        captions = [one["caption"] for one in (await page.heard("restarts"))["pictures"]]
        assert captions[0] == "mean of 2 restarts" and captions[1].startswith("deviation, ")
        await page.ask(do="operate", operation="largest", amount=64)
        operated = await page.heard("operated")
        await page.ask(do="pose")
        return operated["loss"], await page.heard("pose")

    loss, pose = talk(served, conversation)
    encoder = posenet_jax.load_encoder("compact")
    images = [np.asarray(Image.open(DEMO_IMAGES / name)) for name in (DEMO, OTHER)]
    descriptors = encoder.tap("fc5").describe(encoder.preprocessing.resize_all(images))
    first, second = descriptors
    kept = np.where(first >= np.sort(first)[-64], first, 0)
    assert loss == pytest.approx(eq_3(kept, first), rel=1e-4)
    assert pose["loss"] == pytest.approx(eq_3(first, second), rel=1e-4)
    expected = np.asarray(encoder.poses(first[None], second[None]))[0]
    assert pose["original"]["distance"] == pytest.approx(np.linalg.norm(expected[3:]), rel=1e-4)
    assert pose["reconstruction"]["distance"] > 0


def eq_3(first, second):
    return np.linalg.norm(first - second) / (np.linalg.norm(first) + np.linalg.norm(second))


def test_a_pages_results_are_gone_when_it_is(served):
    async def conversation(page, other):
        await page.shows()
        await page.invert(steps=1)
        await page.ended()
        path = f"/download/{page.token}/run.json"
        assert (await other.get(path))[0] == 200
        await page.__aexit__()
        while page.token in served[0]._visitors:
            await asyncio.sleep(0.01)
        assert (await other.get(path))[0] == 403

    talk(served, conversation, pages=2)
