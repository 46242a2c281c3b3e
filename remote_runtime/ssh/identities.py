"""Which certificate belongs to which key file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from remote_runtime import keys
from remote_runtime.errors import AuthenticationFailed
from remote_runtime.model import Identity

_MOST_BYTES = 64 * 1024


def pair(key_files: Sequence[Path], certificates: Sequence[Path]) -> tuple[Identity, ...]:
    """The key files, each with its certificate: one that was named for it, else ``<key>-cert.pub`` beside it.

    A named certificate is matched by the public key in it, which the file ``<key>.pub`` shows.  Where that is missing,
    a single certificate is taken to belong to a single key.
    """
    named = {path: _blob(path) for path in certificates}
    identities = []
    for key in key_files:
        public = _blob(key.with_name(f"{key.name}.pub"))
        certificate = next((path for path, blob in named.items() if certifies(blob, public)), None)
        if certificate is None and not public and len(named) == len(key_files) == 1:
            certificate = certificates[0]
        beside = key.with_name(f"{key.name}-cert.pub")
        if certificate is None and beside.is_file():
            certificate = beside
        identities.append(Identity(key, certificate))
    return tuple(identities)


def certifies(certificate: bytes, public: bytes) -> bool:
    """Whether this certificate (wire format) is one for this public key (wire format).

    A certificate is the key's own fields behind a type of its own and a random string.
    """
    try:
        kind, fields = _string(public)
        certified_kind, rest = _string(certificate)
        _, certified = _string(rest)
    except struct.error:
        return False
    return certified_kind.startswith(kind + b"-cert-v") and bool(fields) and certified.startswith(fields)


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The first length-prefixed string and what follows it."""
    (length,) = struct.unpack_from(">I", data)
    return data[4 : 4 + length], data[4 + length :]


def _blob(path: Path) -> bytes:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return keys.parse_public(file.readline(_MOST_BYTES))[1]
    except (OSError, AuthenticationFailed):
        return b""
