"""The least HTTP that our own server can be asked with; http.client takes longer to import than the answer to come."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket

from .clock import Deadline

ANSWER_LIMIT = 1 << 20


def get(port: int, path: str, *, token: str = "", deadline: Deadline) -> tuple[int, bytes]:
    """Status and body of a GET from 127.0.0.1; OSError if there is no whole answer before the deadline."""
    lines = ["GET %s HTTP/1.0" % path, "Host: 127.0.0.1:%d" % port, "Accept: */*", "Connection: close"]
    if token:
        lines.append("Authorization: token " + token)
    with socket.create_connection(("127.0.0.1", port), timeout=max(0.01, deadline.left())) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        answer = b""
        while len(answer) < ANSWER_LIMIT:
            connection.settimeout(max(0.01, deadline.left()))
            chunk = connection.recv(65536)
            if not chunk:
                return parse_answer(answer)
            answer += chunk
    raise OSError("the answer is too long")


def parse_answer(answer: bytes) -> tuple[int, bytes]:
    """Status and body of an HTTP/1 answer that ended with its connection; OSError if it is none."""
    head, found, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if not found or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise OSError("that is no HTTP answer")
    return int(words[1]), body


def proves(port: int, base_url: str, token: str, deadline: Deadline) -> bool:
    """Whether the server there knows the token.  It is asked in a way that tells it nothing it could use.

    OSError if there is no answer, or one that says nothing about that, as from a server in trouble.
    """
    nonce = os.urandom(16).hex()
    status, body = get(port, "%sremote-runtime/proof?nonce=%s" % (base_url, nonce), deadline=deadline)
    if status not in (200, 404):
        raise OSError("it answered with status %d" % status)
    return status == 200 and hmac.compare_digest(body.strip(), proof(token, nonce).encode())


def proof(token: str, nonce: str) -> str:
    """What a server that knows the token answers to ``nonce``."""
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
