"""known_hosts: reading it line by line, and the decision about a presented key.  No IO here.

The reader is our own because a file that a person has kept for years holds things that must not stop a login
(broken lines, keys of forgotten types) beside things that must (``@revoked``).

A *kind* is a key type (``ssh-rsa``), never a signature algorithm: a server that signs with ``rsa-sha2-512`` still
shows a key of kind ``ssh-rsa``.  Whoever negotiates maps the one to the other.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remote_runtime import keys
from remote_runtime.model import Fingerprint, HostKeyTrust, Pinned

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
"""The host key types that can be verified here, best first; lines with others say nothing about a server to us."""

Verdict = Literal["accept", "ask", "accept-new", "refuse"]


@dataclass(frozen=True)
class Entry:
    """One readable line of a known_hosts file: ``hosts`` is its first field as written, ``line`` counts from 1."""

    hosts: str
    kind: str
    blob: bytes
    marker: Literal["", "revoked", "cert-authority"] = ""
    line: int = 0
    file: Path | None = None


@dataclass(frozen=True)
class Decision:
    """What to do with a presented key, and why.

    ``code`` is the error code of a refusal, ``entry`` the line that it rests on, if it rests on one.
    ``skipped_authorities``: lines of certificate authorities exist for this host, and were passed over.
    """

    verdict: Verdict
    code: str = ""
    entry: Entry | None = None
    skipped_authorities: bool = False


def parse_known_hosts(text: str, file: Path | None = None) -> list[Entry]:
    """All lines that can be read; the others (comments, damage, unknown markers) are passed over.  Never raises."""
    entries = (_parse_line(line, number, file) for number, line in enumerate(text.split("\n"), 1))
    return [entry for entry in entries if entry]


def _parse_line(line: str, number: int, file: Path | None) -> Entry | None:
    fields = line.split()
    marker: Literal["", "revoked", "cert-authority"] = ""
    if line.lstrip().startswith("@"):
        written = fields.pop(0)
        if written not in ("@revoked", "@cert-authority"):
            return None
        marker = "revoked" if written == "@revoked" else "cert-authority"
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    hosts, kind = fields[:2]
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except ValueError:
        return None
    named = kind.encode()
    if not blob.startswith(struct.pack(">I", len(named)) + named):
        return None  # it says one type and holds another
    return Entry(hosts, kind, blob, marker, number, file)


def host_name(name: str, port: int, *, alias: bool = False) -> str:
    """The name under which known_hosts lists a server: ``host``, or ``[host]:port`` for a port other than 22.

    An ``alias`` (ssh_config's HostKeyAlias) stands for the server whatever its port is.
    """
    name = name.lower()
    return name if alias or port == 22 else f"[{name}]:{port}"


def names_host(hosts: str, name: str) -> bool:
    """Whether the first field of a line means the server called ``name`` (see :func:`host_name`)."""
    if hosts.startswith("|"):
        return _hash_matches(hosts, name)
    found = False
    for pattern in hosts.lower().split(","):
        negated = pattern.startswith("!")
        # Only * and ? are special in known_hosts; brackets belong to the [host]:port form.
        if fnmatch.fnmatchcase(name, pattern[negated:].replace("[", "[[]")):
            if negated:
                return False
            found = True
    return found


def _hash_matches(hosts: str, name: str) -> bool:
    try:
        _, version, salt, wanted = hosts.split("|")
        key, digest = base64.b64decode(salt, validate=True), base64.b64decode(wanted, validate=True)
    except ValueError:
        return False
    # SHA-1 is what the format says; it only hides the name from a reader of the file.
    return version == "1" and hmac.compare_digest(hmac.new(key, name.encode(), hashlib.sha1).digest(), digest)


def entries_for(entries: Iterable[Entry], name: str) -> list[Entry]:
    """The lines that mean the server called ``name``."""
    return [entry for entry in entries if names_host(entry.hosts, name)]


def known_kinds(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The types of the keys known from these lines of one server, best first; revoked ones don't count."""
    usable = {entry.kind for entry in _usable(entries)}
    return tuple(kind for kind in KINDS if kind in usable)


def _usable(entries: Sequence[Entry]) -> list[Entry]:
    revoked = {entry.blob for entry in entries if entry.marker == "revoked"}
    return [e for e in entries if e.marker == "" and e.kind in KINDS and e.blob not in revoked]


def decide(trust: HostKeyTrust, kind: str, blob: bytes, entries: Sequence[Entry], *, can_ask: bool) -> Decision:
    """What to do with this key of this server.

    ``entries`` are the lines that mean the server; they matter only where ``trust`` is KnownHosts.  A server known by
    keys of other types alone counts as changed, not as unknown: known types were asked for first, so an honest
    server would have shown one of them.
    """
    if isinstance(trust, Pinned):
        pinned = any(keys.parse_public(line)[1] == blob for line in trust.keys)
        return Decision("accept") if pinned else Decision("refuse", "host_key_changed")
    if isinstance(trust, Fingerprint):
        same = hmac.compare_digest(keys.fingerprint(blob).encode(), trust.sha256.rstrip("=").encode())
        return Decision("accept") if same else Decision("refuse", "host_key_changed")
    revoked = next((e for e in entries if e.marker == "revoked" and e.blob == blob), None)
    if revoked:
        return Decision("refuse", "host_key_revoked", revoked)
    usable = _usable(entries)
    known = next((e for e in usable if e.blob == blob), None)
    if known:
        return Decision("accept", entry=known)
    skipped = any(e.marker == "cert-authority" for e in entries)
    if usable:
        other = next((e for e in usable if e.kind == kind), usable[0])
        return Decision("refuse", "host_key_changed", other, skipped)
    if trust.strict == "accept-new":
        return Decision("accept-new", skipped_authorities=skipped)
    if trust.strict == "ask" and can_ask:
        return Decision("ask", skipped_authorities=skipped)
    return Decision("refuse", "host_key_unknown", skipped_authorities=skipped)
