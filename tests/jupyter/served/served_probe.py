"""A server extension for the tests: handlers that show what reaches them, and that wait until they are told to go on.

It runs inside the server, on whatever Python that has: 3.8 or newer.
"""

from __future__ import annotations

import asyncio
import json

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, authenticated
from tornado.websocket import WebSocketHandler

events: dict = {}
done: list = []
counts: dict = {}
gone: set = set()


def _event(name):
    return events.setdefault(name, asyncio.Event())


class Echo(APIHandler):
    """Says what it got."""

    @authenticated
    async def get(self):
        body = self.request.body
        self.finish(
            json.dumps(
                {
                    "method": self.request.method,
                    "uri": self.request.uri,
                    "path": self.request.path,
                    "host": self.request.host,
                    "remote_ip": self.request.remote_ip,
                    "headers": sorted([name, value] for name, value in self.request.headers.get_all()),
                    "size": len(body),
                    "body": body.decode("latin-1") if len(body) < 1000 else "",
                }
            )
        )

    post = put = patch = delete = get


class Wait(APIHandler):
    """Answers once its event is set: the one that the query names, else the path; ``done`` has the order."""

    @authenticated
    async def get(self, name):
        await _event(self.get_query_argument("event", name)).wait()
        done.append(f"{self.request.method} {self.get_query_argument('tag', '')}")
        self.finish({"name": name})

    post = put = delete = get


class Set(APIHandler):
    """Sets an event."""

    @authenticated
    async def get(self, name):
        _event(name).set()
        self.finish({"done": done})


class Stream(APIHandler):
    """Writes so many chunks of so many bytes, each once there is room for it; counts them under its name."""

    @authenticated
    async def get(self, name):
        chunk = b"x" * int(self.get_query_argument("size"))
        self.name = name
        for number in range(int(self.get_query_argument("chunks"))):
            self.write(chunk)
            try:
                await self.flush()
            except StreamClosedError:
                return
            counts[name] = number + 1

    def on_connection_close(self):
        gone.add(self.name)


class Progress(APIHandler):
    """How far a stream got, and whether its reader left."""

    @authenticated
    async def get(self, name):
        self.finish({"count": counts.get(name, 0), "gone": name in gone})


class Redirect(APIHandler):
    """Redirects to wherever."""

    @authenticated
    async def get(self):
        self.set_header("Location", self.get_query_argument("to"))
        self.set_status(int(self.get_query_argument("status", "302")))
        self.finish()

    post = get


class Fail(APIHandler):
    """Raises what no handler should."""

    @authenticated
    async def get(self):
        raise RuntimeError("a secret of the server's: " + self.token)


class Fault(APIHandler):
    """Fails as servers of old did, which sent the traceback along, or as a plain handler does in debug mode."""

    @authenticated
    async def get(self, form):
        self.set_status(500)
        trace = 'Traceback (most recent call last):\n  File "secret.py"\n'
        if form == "json":
            self.finish({"message": "Unhandled error", "reason": None, "traceback": trace})
        else:
            self.set_header("Content-Type", "text/plain")
            self.finish("It failed.\n" + trace)


class Drip(APIHandler):
    """Writes a drop, and once its event is set another one."""

    @authenticated
    async def get(self, name):
        self.write("one")
        await self.flush()
        await _event(name).wait()
        self.write("two")
        await self.flush()
        self.finish()


class Talk(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """A WebSocket that says who called, repeats what it hears, and closes as it is told."""

    async def get(self):
        if self.current_user is None:
            raise HTTPError(403)
        self.set_cookie("talked", "1")
        await super().get()

    def get_compression_options(self):
        return self.settings.get("websocket_compression_options")

    def select_subprotocol(self, subprotocols):
        return subprotocols[-1] if subprotocols else None

    def open(self):
        super().open()
        self.write_message(json.dumps({"uri": self.request.uri, "cookie": self.request.headers.get("Cookie", "")}))

    def on_message(self, message):
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            self.close(int(code), reason)
        else:
            self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self):
        done.append(f"closed {self.close_code} {self.close_reason}")
        _event("closed").set()


class ReadOnly(Authorizer):
    """Lets nobody write."""

    def is_authorized(self, handler, user, action, resource):
        return action == "read"


class Form(APIHandler):
    """Says what the field ``a`` of a form holds."""

    @authenticated
    async def post(self):
        self.finish({"a": self.get_body_argument("a", "")})


class Short(APIHandler):
    """Announces 1000 bytes, writes as many as the path says, and then fails or just ends, once the event is set."""

    @authenticated
    async def get(self, size):
        self.set_header("Content-Length", "1000")
        self.write(b"x" * int(size))
        await self.flush()
        event = self.get_query_argument("event", "")
        if event:
            await _event(event).wait()
        if self.get_query_argument("fail", ""):
            raise RuntimeError("the disk is gone")
        self.finish()

    @authenticated
    async def head(self, size):
        self.set_header("Content-Length", "1000")
        self.finish()


class Cookies(APIHandler):
    """Sets cookies."""

    @authenticated
    async def get(self):
        self.set_cookie("one", "1")
        self.set_cookie("two", "2")
        self.add_header("X-Many", "a")
        self.add_header("X-Many", "b")
        self.finish({})


class Nobody(Authorizer):
    """Lets nobody do anything but ask for the server's status, which tests wait for."""

    def is_authorized(self, handler, user, action, resource):
        return handler.request.path.endswith("/api/status")


def _jupyter_server_extension_points():
    return [{"module": "served_probe"}]


def _load_jupyter_server_extension(app):
    base = app.web_app.settings["base_url"]
    app.web_app.add_handlers(
        ".*$",
        [
            (base + "probe/echo(?:/.*)?", Echo),
            (base + "probe/wait/(.*)", Wait),
            (base + "probe/set/(.*)", Set),
            (base + "probe/stream/(.*)", Stream),
            (base + "probe/progress/(.*)", Progress),
            (base + "probe/redirect", Redirect),
            (base + "probe/fail", Fail),
            (base + "probe/fault/(.*)", Fault),
            (base + "probe/drip/(.*)", Drip),
            (base + "probe/talk", Talk),
            (base + "probe/cookies", Cookies),
            (base + "probe/form", Form),
            (base + "probe/short/(.*)", Short),
        ],
    )
