"""Talking to the VM's Jupyter server: it proves itself before any client may, and answers before it is called ready."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import secrets
from collections.abc import Callable
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.errors import NetworkError, ServerError
from remote_runtime.model import ServerInfo

PROOF_SECONDS = 30.0


def require_proof(server: ServerInfo, dial: Callable[[str, int, Deadline], Any], deadline: Deadline) -> None:
    """Make sure that what listens on the server's port holds our token, without showing it the token.

    ``dial(host, port, deadline)`` gives a socket-like object to the VM's port.
    Raises :class:`ServerError` with code ``server_not_ours``: somebody else has taken the port.
    """
    nonce = secrets.token_hex(32)
    expected = hmac.new(server.token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
    path = f"{server.base_url}remote-runtime/proof?nonce={nonce}"
    sock = dial("127.0.0.1", server.port, deadline)
    status, body = _get(sock, server.port, path, {}, deadline)
    if status != http.HTTPStatus.OK or not hmac.compare_digest(body.strip(), expected.encode()):
        raise ServerError(
            f"What listens on port {server.port} of the VM is not our Jupyter server",
            hint="Another program or user there has taken the port: see what it is, or choose another --remote-port.",
            code="server_not_ours",
        )


def await_answer(server: ServerInfo, dial: Callable[[Deadline], Any], deadline: Deadline) -> None:
    """Make one real request through the whole path, with the token, as a user's client would.

    Raises :class:`ServerError` with code ``server_not_answering`` if the answer is not what it should be.
    """
    headers = {"Authorization": f"token {server.token}"}
    status, _ = _get(dial(deadline), server.port, f"{server.base_url}api/status", headers, deadline)
    if status != http.HTTPStatus.OK:
        raise ServerError(
            f"The Jupyter server answered our request with status {status}",
            hint="remote-runtime logs shows the server's own words.",
            code="server_not_answering",
        )


def _get(sock: Any, port: int, path: str, headers: dict[str, str], deadline: Deadline) -> tuple[int, bytes]:
    """GET ``path`` over ``sock``, which is closed; status and (at most 64 KiB of) body."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = sock
    try:
        sock.settimeout(deadline.bounded(PROOF_SECONDS))
        connection.request("GET", path, headers={**headers, "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(65536)
    except (OSError, http.client.HTTPException, EOFError) as error:
        deadline.check("waiting for the Jupyter server")
        raise NetworkError(
            f"The Jupyter server did not answer: {type(error).__name__}",
            hint="remote-runtime logs shows the server's own words.",
            code="server_not_answering",
        ) from error
    finally:
        connection.close()
        sock.close()
