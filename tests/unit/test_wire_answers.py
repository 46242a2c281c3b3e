"""How answers get from their handlers to the page: tornado's own handlers, and a page that reads when it is told to."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler, stream_request_body

from remote_runtime.guest.jupyter_http_over_ws import codec, dispatch, line

PIECE = codec.CHUNK_BYTES
alive: weakref.WeakSet[Any] = weakref.WeakSet()
handling: ContextVar[RequestHandler] = ContextVar("handling")


class Write(RequestHandler):
    """Writes chunks of that many bytes, and waits for each; says how far it got."""

    written = 0

    async def get(self, sizes: str) -> None:
        alive.update((self, self.request.connection))
        handling.set(self)  # as Jupyter's handlers do
        for size in map(int, sizes.split(",")):
            self.write(b"x" * size)
            await self.flush()
            Write.written += 1


class Drip(RequestHandler):
    """Writes a drop, and ends when it is told to."""

    go_on: asyncio.Event

    async def get(self) -> None:
        self.write(b"drop")
        await self.flush()
        await self.go_on.wait()


class Forget(RequestHandler):
    """Writes without waiting."""

    async def get(self, size: str) -> None:
        self.write(b"x" * int(size))
        self.flush()
        self.write(b"y")
        await self.finish()


class Fail(RequestHandler):
    """Fails as its path says."""

    async def get(self, how: str) -> None:
        self.set_status(500)
        self.write(b"It failed." + (b"." * PIECE if how == "long" else b""))
        if how == "late":
            await self.flush()
            await asyncio.sleep(0)
        self.write("Traceback (most recent call last): secret")


class Unmade(RequestHandler):
    """Cannot be made."""

    def initialize(self) -> None:
        raise RuntimeError("nothing to show")


class Move(RequestHandler):
    """Redirects to a place of the server."""

    async def get(self) -> None:
        self.write("dropped")
        self.redirect("/write/3")

    post = get


@stream_request_body
class Upload(RequestHandler):
    """Reads its body as it comes, or does not."""

    async def prepare(self) -> None:
        await asyncio.sleep(0)
        self.size = 0
        if self.request.path.endswith("refuse"):
            self.set_status(413)
            await self.finish("too much")

    def data_received(self, chunk: bytes) -> Awaitable[None]:
        if self.request.path.endswith("fail"):
            raise RuntimeError("nothing to show")
        self.size += len(chunk)
        return asyncio.sleep(0)

    async def put(self, how: str) -> None:
        await self.finish(str(self.size))


HANDLERS = [
    (r"/write/(.*)", Write),
    (r"/drip", Drip),
    (r"/forget/(.*)", Forget),
    (r"/fail/(.*)", Fail),
    (r"/unmade", Unmade),
    (r"/move", Move),
    (r"/upload/(.*)", Upload),
]


class Page:
    """A page with its socket: what it got, and whether it reads."""

    def __init__(self, *, reads: bool = True) -> None:
        self.frames: list[dict[str, Any]] = []
        self.unread: list[asyncio.Future[None]] = []
        self.over = 0
        self.gone = False
        self._reads = reads
        self.line = line.Line(self._write)
        self.log = logging.getLogger("answers")
        handshake = SimpleNamespace(
            headers=HTTPHeaders({"Host": "localhost"}),
            remote_ip="127.0.0.1",
            protocol="http",
            host="localhost",
            server_connection=object(),
        )
        self.dispatcher = dispatch.Dispatcher(
            Application(HANDLERS), handshake, self.line, cookies=None, xsrf=None, log=self.log, give_up=self.leave
        )

    def _write(self, frame: bytes) -> asyncio.Future[None]:
        if self.gone:
            raise StreamClosedError
        self.frames.append(json.loads(frame))
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._reads:
            sent.set_result(None)
        else:
            self.unread.append(sent)
        return sent

    def read(self) -> None:
        """Read one frame."""
        self.unread.pop(0).set_result(None)

    def leave(self) -> None:
        """Be gone, which the socket notices."""
        self.gone = True
        self.line.close()
        self.dispatcher.close()

    def ask(self, path: str, *, number: int = 0, method: str = "GET", body: bytes = b"") -> None:
        def over() -> None:
            self.over += 1

        self.dispatcher.start(codec.Request(str(number), method, path, body), over)

    async def answered(self, count: int = 1) -> bytes:
        """Wait until so many answers are complete; all their data."""
        while self.over < count:
            await asyncio.sleep(0)
        assert not self.dispatcher._running
        return b"".join(base64.b64decode(frame.get("data", "")) for frame in self.frames)

    def sizes(self) -> list[int]:
        """How much data each frame has."""
        return [len(base64.b64decode(frame["data"])) for frame in self.frames]


async def settled() -> None:
    """Give everything that can go on the chance to do so."""
    for _ in range(50):
        await asyncio.sleep(0)


def story(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test in a loop of its own, which ends in time."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    return run


@story
async def test_one_piece_is_held_back_so_that_the_last_one_says_so() -> None:
    page = Page()
    page.ask(f"/write/5,{PIECE + 1},7")
    assert len(await page.answered()) == PIECE + 13
    assert page.sizes() == [5, PIECE, 1, 7]
    assert [frame["done"] for frame in page.frames] == [False, False, False, True]
    assert [set(frame) - {"message_id", "data", "done"} for frame in page.frames[1:]] == [set()] * 3
    assert page.frames[0]["status"] == 200


@story
async def test_what_nothing_follows_is_not_held_back_for_long() -> None:
    page, Drip.go_on = Page(), asyncio.Event()
    page.ask("/drip")
    while not page.frames:
        await asyncio.sleep(0.01)
    Drip.go_on.set()
    assert await page.answered() == b"drop"
    assert (page.sizes(), [frame["done"] for frame in page.frames]) == ([4, 0], [False, True])


@story
async def test_a_handler_gets_one_piece_ahead_of_the_page() -> None:
    page, Write.written = Page(reads=False), 0
    page.ask("/write/1,2,3,4,5")
    await settled()
    assert (page.sizes(), Write.written) == ([1], 1)  # the second piece is held back, the first one on its way
    page.read()
    await settled()
    assert (page.sizes(), Write.written) == ([1, 2], 2)
    for _ in range(4):
        page.read()
        await settled()
    assert (page.sizes(), Write.written, page.over) == ([1, 2, 3, 4, 5], 5, 1)


@story
async def test_answers_take_turns() -> None:
    page = Page(reads=False)
    page.ask("/write/1,1,1", number=1)
    page.ask("/write/1,1,1", number=2)
    while page.over < 2:
        await settled()
        if page.unread:
            page.read()
    assert [frame["message_id"] for frame in page.frames] == [1, 2, 1, 2, 1, 2]


@story
async def test_the_rest_of_the_server_has_its_turn_however_fast_a_page_reads() -> None:
    page = Page()
    page.ask("/write/" + ",".join(["1"] * 100))
    most = 0
    while not page.over:
        before = len(page.frames)
        await asyncio.sleep(0)
        most = max(most, len(page.frames) - before)
    assert len(page.frames) == 100
    assert most == line.MOST_IN_A_ROW


@story
async def test_a_handler_that_does_not_wait_loses_nothing() -> None:
    page = Page(reads=False)
    page.ask(f"/forget/{3 * PIECE}")
    await settled()
    assert page.sizes() == [PIECE]
    while not page.over:
        page.read()
        await settled()
    assert page.sizes() == [PIECE, PIECE, PIECE, 1]


@pytest.mark.parametrize("how", ["short", "long", "late"])
def test_a_traceback_that_comes_at_once_is_taken_out(how: str) -> None:
    async def test() -> None:
        page = Page()
        page.ask(f"/fail/{how}")
        body = await page.answered()
        assert body.startswith(b"It failed.")
        assert (b"secret" in body) is (how == "late")
        assert page.frames[0]["status"] == 500

    story(test)()


@story
async def test_a_redirect_is_followed_and_its_own_text_dropped() -> None:
    page = Page()
    page.ask("/move")
    page.ask("/move", method="POST", body=b"x")
    assert await page.answered(2) == b"xxx" * 2
    assert [frame["status"] for frame in page.frames] == [200, 200]


@pytest.mark.parametrize(("how", "status", "text"), [("take", 200, b"70000"), ("refuse", 413, b"too much")])
def test_a_handler_may_read_its_body_as_it_comes(how: str, status: int, text: bytes) -> None:
    async def test() -> None:
        page = Page()
        page.ask(f"/upload/{how}", method="PUT", body=b"x" * 70000)
        assert await page.answered() == text
        assert page.frames[0]["status"] == status

    story(test)()


@pytest.mark.parametrize(("method", "path"), [("GET", "/unmade"), ("PUT", "/upload/fail")])
def test_a_handler_that_cannot_be_run_is_answered_for(method: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        page = Page()
        page.ask(path, method=method, body=b"x")
        assert await page.answered() == b""
        assert page.frames == [{"message_id": 0, "done": True, "status": 500, "statusText": codec.UNCAUGHT}]
        assert "nothing to show" in caplog.text

    story(test)()


@story
async def test_a_page_that_leaves_lets_nobody_wait() -> None:
    page = Page(reads=False)
    page.ask("/write/1,1,1", number=1)
    page.ask("/write/1,1,1", number=2)
    await settled()
    free = asyncio.ensure_future(page.line.free())
    await settled()
    page.leave()
    page.unread[0].set_exception(StreamClosedError())
    with pytest.raises(StreamClosedError):
        await free
    await page.answered(2)
    page.ask("/write/1")
    await page.answered(3)
    assert len(page.frames) == 1


@story
async def test_what_is_written_to_a_page_that_just_left_fails_when_the_socket_knows() -> None:
    page = Page()
    page.gone = True
    page.ask("/write/1,1,1")
    await settled()
    assert (page.over, page.frames) == (0, [])
    page.leave()
    await page.answered()


@story
async def test_an_answer_leaves_no_garbage() -> None:
    page = Page()
    gc.collect()
    gc.disable()  # so that what is left is seen
    try:
        for number in range(10):
            page.ask("/write/1,2,3", number=number)
        await page.answered(10)
        await settled()
        assert not list(alive)
    finally:
        gc.enable()
