"""The HTTP server: threads, keep-alive, batches, and the metadata server's own manners."""

from __future__ import annotations

import json
import socket
import threading
from email import message_from_bytes
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.gce.cloud import metadata
from tests.gce.cloud.service import Answered, Service

if TYPE_CHECKING:
    from tests.gce.cloud.vm import Vm
    from tests.gce.cloud.world import World

_BATCH = "/batch/compute/v1"


class Server:
    """Listens when constructed; ``close`` ends every connection and thread of it."""

    def __init__(self, world: World, handler: type[_Handler], listener: socket.socket) -> None:
        self._world = world
        self._server = _Server(handler, listener)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="cloud http")
        self._thread.start()
        self.host, self.port = listener.getsockname()[:2]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        with self._world.changed:
            self._server.ending = True
            self._world.changed.notify_all()
        self._server.end_connections()
        self._server.server_close()


def serve_apis(world: World, service: Service) -> Server:
    """All APIs, and a metadata server for programs that look for credentials, on a port of 127.0.0.1."""
    handler = type("ApiHandler", (_Handler,), {"world": world, "service": service, "vm": None})
    return Server(world, handler, socket.create_server(("127.0.0.1", 0), backlog=128))


def serve_metadata(world: World, vm: Vm, listener: socket.socket) -> Server:
    """The metadata server as that VM sees it."""
    handler = type("MetadataHandler", (_Handler,), {"world": world, "service": None, "vm": vm})
    return Server(world, handler, listener)


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, handler: type[_Handler], listener: socket.socket) -> None:
        super().__init__(("127.0.0.1", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.ending = False
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was quicker

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is nothing to talk about."""


class _Handler(BaseHTTPRequestHandler):
    """``service`` is None for a VM's metadata server."""

    world: World
    service: Service | None
    vm: Vm | None
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: two small writes would meet the client's delayed acknowledgement
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path in ("", "/") or path.startswith(metadata.PREFIX) or self.service is None:
            self._metadata(body)
        elif path == _BATCH:
            self._batch(self.service, body)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            answered = self.service.answer(self.command, self.path, headers, body)
            if answered.dropped:
                self.close_connection = True
            else:
                self._send(answered.status, "application/json; charset=UTF-8", _text(answered))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _metadata(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        if not parts.path.startswith(metadata.PREFIX):
            self._send(200, "text/html", b"computeMetadata/\n", metadata.HEADERS)
        elif self.headers.get("Metadata-Flavor") != "Google":
            self._send(403, "text/html", b"Missing required header: Metadata-Flavor", metadata.HEADERS)
        else:
            query = dict(parse_qsl(parts.query))
            path = parts.path.removeprefix(metadata.PREFIX)
            status, kind, text = self._ask_metadata(path, query, body.decode())
            self._send(status, kind, text.encode(), {**metadata.HEADERS, "ETag": metadata.etag(text)})

    def _ask_metadata(self, path: str, query: dict[str, str], body: str) -> metadata.Answer:
        """The answer; with ``wait_for_change`` not before it differs from the one with ``last_etag``."""

        def now() -> metadata.Answer:
            return metadata.answer(self.world, self.vm, self.command, path, query, body)

        with self.world.changed:
            found = now()
            if query.get("wait_for_change", "").lower() == "true":
                last = query.get("last_etag", metadata.etag(found[2]))
                seconds = float(query.get("timeout_sec", "3600"))
                self.world.changed.wait_for(lambda: self._ending or metadata.etag(now()[2]) != last, seconds)
                found = now()
            self.world.changed.notify_all()
        return found

    @property
    def _ending(self) -> bool:
        assert isinstance(self.server, _Server)
        return self.server.ending

    def _batch(self, service: Service, body: bytes) -> None:
        """Several requests in one: each part is a request, each part of the answer an answer."""
        kind = self.headers["Content-Type"]
        whole = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        parts = []
        for part in whole.get_payload():
            assert isinstance(part, Message)
            line, _, rest = str(part.get_payload()).lstrip().partition("\n")
            verb, target, _ = line.split()
            inner = message_from_bytes(rest.encode())
            headers = {name.lower(): str(value) for name, value in self.headers.items()}
            headers |= {name.lower(): str(value) for name, value in inner.items()}
            answered = service.answer(verb, target, headers, str(inner.get_payload()).strip().encode())
            if answered.dropped:
                self.close_connection = True
                return
            parts.append(_part(str(part["Content-ID"]), answered))
        text = "".join(f"--batch_answer\r\n{part}\r\n" for part in parts) + "--batch_answer--\r\n"
        self._send(200, "multipart/mixed; boundary=batch_answer", text.encode())

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Calls are kept by the service; the terminal is pytest's."""


def _part(content_id: str, answered: Answered) -> str:
    body = _text(answered).decode()
    return (
        "Content-Type: application/http\r\n"
        f"Content-ID: <response-{content_id.strip('<>')}>\r\n\r\n"
        f"HTTP/1.1 {answered.status} {HTTPStatus(answered.status).phrase}\r\n"
        "Content-Type: application/json; charset=UTF-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}\r\n"
    )


def _text(answered: Answered) -> bytes:
    return json.dumps(answered.body, indent=2).encode()
