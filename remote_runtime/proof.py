"""Talking to the VM's Jupyter server: it proves itself before any client may, and answers before it is called ready."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.errors import NetworkError, ServerError
from remote_runtime.model import ServerInfo
from remote_runtime.ssh import Connection, ended

ANSWER_SECONDS = 30.0
_LIMIT = 65536


class Sentinel:
    """An open request to the server that proved itself, which ends no later than that server does.

    A server's death closes its connections before anybody else can listen on its port, and SSH keeps the order: if
    the sentinel still stands when a later stream has been confirmed, that stream has reached the same server.
    """

    def __init__(self, server: ServerInfo, connection: Connection, deadline: Deadline) -> None:
        """Ask for the proof and keep the request open.

        Raises :class:`ServerError` with code ``server_not_ours``: somebody else has taken the port, and has seen
        nothing of the token.
        """
        nonce = secrets.token_hex(32)
        expected = hmac.new(server.token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        self._channel = connection.dial("127.0.0.1", server.port, deadline)
        try:
            path = f"{server.base_url}remote-runtime/proof?nonce={nonce}&hold=1"
            answer = _get(self._channel, server.port, path, {}, deadline)
            with _understood(deadline):
                # So many bytes and no more: what comes after them is the end, for which nobody waits here.
                proved = hmac.compare_digest(answer.read(len(expected)), expected.encode())
            if answer.status != http.HTTPStatus.OK or not proved:
                raise ServerError(
                    f"What listens on port {server.port} of the VM is not our Jupyter server",
                    hint="Another program or user there has taken the port: choose another one with --remote-port.",
                    code="server_not_ours",
                )
        except BaseException:
            self._channel.close()
            raise

    @property
    def stands(self) -> bool:
        """Whether the server that proved itself still runs, as far as the connection has told by now."""
        return not ended(self._channel)

    def close(self) -> None:
        """Let go of the server; safe to call twice."""
        self._channel.close()


def await_answer(server: ServerInfo, dial: Callable[[Deadline], Any], deadline: Deadline) -> None:
    """Make one real request through the whole path, with the token, as a user's client would.

    Raises :class:`ServerError` with code ``server_not_answering`` if the answer is not what it should be.
    """
    headers = {"Authorization": f"token {server.token}", "Connection": "close"}
    sock = dial(deadline)
    try:
        answer = _get(sock, server.port, f"{server.base_url}api/status", headers, deadline)
        with _understood(deadline):
            answer.read(_LIMIT)
    finally:
        sock.close()
    if answer.status != http.HTTPStatus.OK:
        raise ServerError(
            f"The Jupyter server answered our request with status {answer.status}",
            hint="remote-runtime logs shows the server's own words.",
            code="server_not_answering",
        )


def _get(sock: Any, port: int, path: str, headers: Mapping[str, str], deadline: Deadline) -> http.client.HTTPResponse:
    """GET ``path`` over ``sock``, which stays open; the answer, of which the head has been read."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = sock
    with _understood(deadline):
        sock.settimeout(deadline.bounded(ANSWER_SECONDS))
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse()


@contextmanager
def _understood(deadline: Deadline) -> Iterator[None]:
    """Turn what can go wrong with a request into one error of ours."""
    try:
        yield
    except (OSError, http.client.HTTPException, EOFError) as error:
        deadline.check("waiting for the Jupyter server")
        raise NetworkError(
            f"The Jupyter server did not answer: {type(error).__name__}",
            hint="remote-runtime logs shows the server's own words.",
            code="server_not_answering",
        ) from error
