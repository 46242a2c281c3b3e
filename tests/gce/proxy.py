"""A small HTTP proxy that joins people to where they CONNECT to."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from types import TracebackType


class ConnectProxy:
    """Listens at ``url`` when constructed.  A context manager.

    ``account`` is the Proxy-Authorization that it wants, if any; ``answer`` is said in place of all that, if given;
    ``asked`` are the targets that it was asked for.
    """

    def __init__(self, *, account: str = "", answer: bytes = b"") -> None:
        self.asked: list[str] = []
        self._account = account
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._near, self._far = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> ConnectProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._near.close()
        for thread in self._threads:
            thread.join()
        self._far.close()
        self._listener.close()

    def _accept(self) -> None:
        while self._listener in select.select([self._listener, self._far], [], [])[0]:
            client, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                data = client.recv(4096)
                if not data:
                    return
                request += data
            verb, target, _ = request.split(b"\r\n")[0].decode().split(" ")
            self.asked.append(f"{verb} {target}")
            if self._answer:
                client.sendall(self._answer)
            elif self._account and f"\r\nProxy-Authorization: {self._account}\r\n".encode() not in request:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            else:
                host, _, port = target.rpartition(":")
                with socket.create_connection((host, int(port))) as far:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._join(client, far)

    def _join(self, one: socket.socket, other: socket.socket) -> None:
        """Until one of the two ends, or the proxy."""
        while True:
            ready, _, _ = select.select([one, other, self._far], [], [])
            for source, sink in ((one, other), (other, one)):
                data = source.recv(1 << 16) if source in ready else None
                if data == b"" or self._far in ready:
                    return
                if data:
                    sink.sendall(data)
