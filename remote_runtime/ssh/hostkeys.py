"""Host keys: is the server the one we may trust?  Files and questions; the decisions are in ``known_hosts``."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from remote_runtime import keys
from remote_runtime.errors import HostKeyError, StateError
from remote_runtime.events import EventSink, Notice
from remote_runtime.model import Fingerprint, HostKeyTrust, KnownHosts, Pinned, Question
from remote_runtime.ssh import known_hosts
from remote_runtime.ssh.known_hosts import Decision, Entry
from remote_runtime.store import private_directory, write_private
from remote_runtime.text import printable

LOCK_SECONDS = 10.0


def preferred_kinds(trust: HostKeyTrust, port: int) -> tuple[str, ...]:
    """Key types to ask the server for first, since a key of that type is pinned or known; empty: no preference.

    These are key types.  For ``ssh-rsa`` the caller asks for the signature algorithms ``rsa-sha2-512`` and
    ``rsa-sha2-256``.
    """
    if isinstance(trust, Pinned):
        return tuple(dict.fromkeys(keys.parse_public(line)[0] for line in trust.keys))
    if isinstance(trust, Fingerprint):
        return ()  # which type has that fingerprint cannot be told from it
    return known_hosts.known_kinds(_entries(trust, port, lambda _: None))


def verify(
    trust: HostKeyTrust, port: int, kind: str, blob: bytes, *, ask: Question | None, on_event: EventSink
) -> None:
    """Return if this key (type ``kind``, wire format ``blob``) may be trusted for the server at ``port``.

    A new key that the person accepts is appended to ``trust.accepted``.  Raises :class:`HostKeyError` with code
    ``host_key_unknown``, ``host_key_changed`` or ``host_key_revoked``; :class:`StateError` if an accepted key can't be
    written down.
    """
    entries = _entries(trust, port, on_event) if isinstance(trust, KnownHosts) else []
    decision = known_hosts.decide(trust, kind, blob, entries, can_ask=ask is not None)
    if decision.skipped_authorities:
        on_event(Notice("cert_authority_skipped", "Lines with @cert-authority in known_hosts are not used here"))
    if decision.verdict == "accept":
        if isinstance(trust, Fingerprint) and trust.known:
            _remember_vouched(trust.known, port, kind, blob)
        return
    if decision.verdict == "refuse" or not isinstance(trust, KnownHosts):
        raise _refusal(trust, port, kind, blob, decision)
    shown = f"{printable(kind, 64)} key {keys.fingerprint(blob)}"
    if decision.verdict == "accept-new":
        on_event(
            Notice("host_key_accepted", f"Trusting the {shown} of {trust.name}, seen for the first time", "warning")
        )
    elif not (ask and _consents(ask, trust, port, kind, blob)):
        raise HostKeyError(
            f"The {shown} of {trust.name} port {port} was not accepted",
            hint="Only yes, written out, or the fingerprint itself accepts a host key.",
        )
    _remember(trust, port, kind, blob)


def _consents(ask: Question, trust: KnownHosts, port: int, kind: str, blob: bytes) -> bool:
    fingerprint = keys.fingerprint(blob)
    answer = ask(
        f"{known_hosts.host_name(trust.name, port, alias=trust.alias)} is seen for the first time, "
        f"and nothing vouches for its host key:\n"
        f"  {printable(kind, 64)} {fingerprint}\n"
        "Compare it with what the machine's owner says. Trust it from now on (yes/no)? ",
        True,
    ).strip()
    return answer.lower() == "yes" or answer == fingerprint


def _refusal(trust: HostKeyTrust, port: int, kind: str, blob: bytes, decision: Decision) -> HostKeyError:
    shown = f"{printable(kind, 64)} key {keys.fingerprint(blob)}"
    if isinstance(trust, Pinned):
        wanted = " or ".join(keys.fingerprint(keys.parse_public(line)[1]) for line in trust.keys) or "no key at all"
        return HostKeyError(
            f"The host key has changed: the server shows the {shown}, but {trust.source} says {wanted}",
            hint="Somebody may be in the middle. Nothing was sent; find out why before you connect again.",
            code="host_key_changed",
        )
    if isinstance(trust, Fingerprint):
        return HostKeyError(
            f"The server shows the {shown}, not {trust.sha256} as asked for",
            hint="Check the fingerprint with the machine's owner; a machine has one for each type of key.",
            code="host_key_changed",
        )
    name = known_hosts.host_name(trust.name, port, alias=trust.alias)
    if decision.entry is None:
        return _unknown(trust, name, shown, keys.fingerprint(blob), decision.skipped_authorities)
    place = f"line {decision.entry.line} of {decision.entry.file}"
    if decision.code == "host_key_revoked":
        return HostKeyError(
            f"The {shown} of {name} is revoked by {place}",
            hint="Don't trust this server: give it a new host key, or ask its owner.",
            code="host_key_revoked",
        )
    return HostKeyError(
        f"The host key of {name} has changed: the server shows the {shown}, "
        f"but {place} has the {decision.entry.kind} key {keys.fingerprint(decision.entry.blob)}",
        hint="Somebody may be in the middle. If you know why it changed (a reinstalled machine, say), "
        f"remove {place}, then connect again.",
        code="host_key_changed",
    )


def _unknown(trust: KnownHosts, name: str, shown: str, fingerprint: str, authorities: bool) -> HostKeyError:
    besides = ". Lines with @cert-authority in known_hosts are not used here" if authorities else ""
    if trust.strict == "yes":
        return HostKeyError(
            f"The {shown} of {name} is not known, and StrictHostKeyChecking is yes",
            hint=f"Add its key to known_hosts, or vouch for it with --host-key {fingerprint}{besides}",
        )
    return HostKeyError(
        f"Nothing vouches for the {shown} of {name}, and nobody can be asked",
        hint=f"If the machine's owner confirms that fingerprint: --host-key {fingerprint}{besides}",
    )


def _entries(trust: KnownHosts, port: int, on_event: EventSink) -> list[Entry]:
    """The lines that mean this server, our own file's first."""
    found: list[Entry] = []
    for file in dict.fromkeys((trust.accepted, *trust.files)):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            on_event(Notice("known_hosts_unreadable", f"Can't read {file}: {error.strerror or error}", "warning"))
            continue
        found += known_hosts.parse_known_hosts(text, file)
    return known_hosts.entries_for(found, known_hosts.host_name(trust.name, port, alias=trust.alias))


def _remember_vouched(known: KnownHosts, port: int, kind: str, blob: bytes) -> None:
    """Write down a key that the user vouched for by its fingerprint, unless known_hosts has another one.

    A key that is revoked there is refused all the same.
    """
    decision = known_hosts.decide(known, kind, blob, _entries(known, port, lambda _: None), can_ask=True)
    if decision.code == "host_key_revoked":
        raise _refusal(known, port, kind, blob, decision)
    if decision.verdict != "accept" and decision.code != "host_key_changed":
        _remember(replace(known, strict="ask"), port, kind, blob)


def _remember(trust: KnownHosts, port: int, kind: str, blob: bytes) -> None:
    """Append the key to our own file, unless another process has written about this server meanwhile."""
    from filelock import FileLock, Timeout

    file = trust.accepted
    private_directory(file.parent)
    try:
        with FileLock(f"{file}.lock", timeout=LOCK_SECONDS):
            decision = known_hosts.decide(trust, kind, blob, _entries(trust, port, lambda _: None), can_ask=True)
            if decision.verdict == "accept":
                return
            if decision.verdict == "refuse":
                raise _refusal(trust, port, kind, blob, decision)
            before = _content(file)
            name = known_hosts.host_name(trust.name, port, alias=trust.alias)
            line = f"{name} {kind} {base64.b64encode(blob).decode()}\n".encode()
            write_private(file, before + (b"\n" if before and not before.endswith(b"\n") else b"") + line)
    except (Timeout, OSError) as error:
        raise StateError(f"Can't write {file}: {error}", hint="Check its owner, its mode and free space.") from error


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
