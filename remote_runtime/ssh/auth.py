"""Proving to the server who we are: keys first, then, on a terminal, what the server asks for."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import paramiko

from remote_runtime import keys
from remote_runtime._threads import Deadline, ThreadGroup
from remote_runtime.errors import AuthenticationFailed, NetworkError
from remote_runtime.events import EventSink, Notice
from remote_runtime.model import Endpoint, Identity, Question
from remote_runtime.ssh.agent import agent_keys
from remote_runtime.ssh.failures import Cure, denied
from remote_runtime.ssh.transport import Transport
from remote_runtime.text import printable

TRIES = 3
"""How often a passphrase or password may be mistyped, as in OpenSSH."""


@dataclass
class Unlocked:
    """What a person has unlocked or typed once, kept in memory so that a reconnect need not ask again.

    Keys by their file, passwords by ``user@host:port``; and the key files of which was said that others can read them.
    """

    keys: dict[Path, paramiko.PKey] = field(default_factory=dict, repr=False)
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    open_files: set[Path] = field(default_factory=set)


def authenticate(
    transport: Transport,
    endpoint: Endpoint,
    *,
    ask: Question | None,
    on_event: EventSink,
    unlocked: Unlocked,
    deadline: Deadline,
) -> None:
    """Log in on ``transport``, whose host key has been checked.

    Keys are tried in an order that spends few of the server's tries: files that need no passphrase (or that the agent
    holds), then the agent's other keys, then encrypted files; passwords last.  Nobody is asked without ``ask``;
    ``unlocked`` holds what was given before.  A key file that others can read is told to ``on_event``.
    Raises :class:`AuthenticationFailed`, or :class:`NetworkError` if the server hangs up.
    """
    login = _Login(transport, endpoint, ask, on_event, unlocked, deadline)
    try:
        if not login.by_keys() and not login.by_answers():
            deadline.check("logging in")
            login.learn_what_is_allowed()
            raise login.failure()
    except paramiko.AuthenticationException as error:
        deadline.check("logging in")
        raise login.failure() from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        deadline.check("logging in")
        # sshd hangs up on the client that has tried too many keys; it says so only in its own log.
        if login.tried:
            raise login.failure("hung_up") from error
        raise NetworkError(
            f"{endpoint.host} ended the connection during the login: {printable(str(error))}",
            hint="Try again; if it persists, look into the SSH server's log on the machine.",
            code="connection_lost",
        ) from error


class _Login:
    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        ask: Question | None,
        on_event: EventSink,
        unlocked: Unlocked,
        deadline: Deadline,
    ) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.ask = ask
        self.on_event = on_event
        self.unlocked = unlocked
        self.who = f"{endpoint.user}@{endpoint.host}"
        self.deadline = deadline
        self.allowed: list[str] = []
        self.tried: list[str] = []
        self.skipped: list[str] = []
        self.cure: Cure = ""

    # -- keys ---------------------------------------------------------------------------------------------------

    def by_keys(self) -> bool:
        with agent_keys(self.endpoint.agent) as agent:
            for label, key in self._keys(agent):
                self.deadline.check("logging in")
                if self._attempt(label, partial(self._bounded().attempt, "publickey", self.endpoint.user, key)):
                    return True
                # A key may be right and yet not enough: the server then names what it wants besides.
                if self.allowed and "publickey" not in self.allowed:
                    return False
        return False

    def _attempt(self, label: str, method: Callable[[], Iterable[str]]) -> bool:
        """One of the few tries that the server grants; whether it let us in.  It may say what it still accepts."""
        self.tried.append(label)
        try:
            self.allowed = list(method())
        except paramiko.BadAuthenticationType as error:
            self.allowed = error.allowed_types
        except paramiko.AuthenticationException:
            return False
        return self.transport.is_authenticated()

    def _keys(self, agent: list[paramiko.AgentKey]) -> Iterator[tuple[str, paramiko.PKey]]:
        held = {key.asbytes(): key for key in agent}
        locked: list[Identity] = []
        for identity in self.endpoint.identities:
            if identity.key in self.unlocked.keys:
                yield str(identity.key), self.unlocked.keys[identity.key]
                continue
            public = _public_blob(identity.key)
            if public in held:
                yield str(identity.key), held.pop(public)
                continue
            try:
                key = self._load(identity, None)
            except paramiko.PasswordRequiredException:
                locked.append(identity)
                continue
            if key:
                held.pop(key.asbytes(), None)
                yield str(identity.key), key
        if not self.endpoint.only_identities:
            for key in held.values():
                yield f"agent key {printable(key.comment) or key.get_name()}", key
        for identity in locked:
            unlocked = self._unlock(identity)
            if unlocked:
                yield str(identity.key), unlocked

    def _load(self, identity: Identity, passphrase: str | None) -> paramiko.PKey | None:
        try:
            key = paramiko.PKey.from_path(identity.key, passphrase.encode() if passphrase else None)  # type: ignore[arg-type]
            if identity.certificate and self._in_force(identity.certificate):
                key.load_certificate(str(identity.certificate))
            self._warn_of_readers(identity.key)
            return key
        except paramiko.PasswordRequiredException:
            raise
        except TypeError as error:  # cryptography's way to say that a passphrase is needed
            raise paramiko.PasswordRequiredException(str(error)) from error
        except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
            if passphrase is None:
                why = error.strerror if isinstance(error, OSError) else ""
                self.skipped.append(f"{identity.key} ({why or printable(str(error)) or type(error).__name__})")
            return None

    def _in_force(self, certificate: Path) -> bool:
        """Whether the certificate may still be of use; one that has expired would be in the way of its own key."""
        end = keys.certificate_end(certificate.read_bytes())
        if end is None or end > time.time():
            return True
        when = time.strftime("%Y-%m-%d", time.gmtime(end))
        self.skipped.append(f"{certificate} (it expired on {when})")
        self.cure = "renew"
        return False

    def _warn_of_readers(self, key: Path) -> None:
        if sys.platform != "win32" and key not in self.unlocked.open_files and key.stat().st_mode & 0o077:
            self.unlocked.open_files.add(key)
            text = f"Other users of this computer can read the key {key}: chmod 600 {key}"
            self.on_event(Notice("key_file_open", text, "warning"))

    def _unlock(self, identity: Identity) -> paramiko.PKey | None:
        if self.ask is None:
            self.skipped.append(f"{identity.key} (it has a passphrase and nobody can be asked for it)")
            self.cure = "unlock"
            return None
        prompt = f"Passphrase for {identity.key}: "
        for _ in range(TRIES):
            passphrase = self.ask(prompt, False)
            if not passphrase:
                break
            key = self._load(identity, passphrase)
            if key:
                self.unlocked.keys[identity.key] = key
                return key
            prompt = f"That was not it. Passphrase for {identity.key}: "
        self.skipped.append(f"{identity.key} (wrong passphrase)")
        self.cure = "retype"
        return None

    # -- what a person answers -------------------------------------------------------------------------------------

    def by_answers(self) -> bool:
        known = self.unlocked.passwords.get(self._place())
        if self.ask is None and known is None:
            return False
        if not self.allowed:  # paramiko does not tell what a server says that refused a key
            self._allowed_without_credentials()
        if known is not None and "password" in self.allowed and self._attempt("password", partial(self._send, known)):
            return True
        if self.ask is None:
            return False
        for method in ("keyboard-interactive", "password"):
            for _ in range(TRIES):
                if method in self.allowed and self._attempt(method, partial(self._answer, method, self.ask)):
                    return True
        return False

    def learn_what_is_allowed(self) -> None:
        """Ask the server what it would accept, for the sake of what is said about the failure."""
        with suppress(paramiko.SSHException, OSError, EOFError):
            if not self.allowed:
                self._allowed_without_credentials()

    def _allowed_without_credentials(self) -> None:
        try:
            self._bounded().attempt("none", self.endpoint.user)
        except paramiko.BadAuthenticationType as error:
            self.allowed = error.allowed_types

    def _answer(self, method: str, ask: Question) -> list[str]:
        if method == "password":
            password = ask(f"{self.who}'s password: ", False)
            wanted_besides = self._send(password)
            self.unlocked.passwords[self._place()] = password
            return wanted_besides
        return _Conversation(self._bounded(), self.endpoint.user, self.who).hold(ask)

    def _send(self, password: str) -> list[str]:
        return self._bounded().attempt("password", self.endpoint.user, password)

    def _place(self) -> str:
        return f"{self.who}:{self.endpoint.port}"

    def _bounded(self) -> Transport:
        self.transport.auth_timeout = self.deadline.bounded(120)
        return self.transport

    def failure(self, cure: Cure = "") -> AuthenticationFailed:
        """Why it failed."""
        return denied(
            self.who,
            allowed=self.allowed,
            tried=self.tried,
            skipped=self.skipped,
            cure=cure or self.cure,
            can_ask=self.ask is not None,
        )


class _Conversation:
    """Keyboard-interactive, with the questions asked in the caller's thread.

    Paramiko calls its handler in the transport's thread; a person who thinks, or presses Ctrl-C, must not hold that up.
    """

    def __init__(self, transport: Transport, user: str, who: str) -> None:
        self._transport = transport
        self._user = user
        self._who = who
        self._asked: queue.SimpleQueue[list[tuple[str, bool]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._result: list[str] = []
        self._error: Exception | None = None

    def hold(self, ask: Question) -> list[str]:
        with ThreadGroup(lambda: self._answers.put(None)) as threads:
            threads.spawn("ssh-interactive", self._run)
            try:
                while (questions := self._asked.get()) is not None:
                    self._answers.put([ask(prompt, echo) for prompt, echo in questions])
            except BaseException:
                self._transport.close()
                raise
        if self._error:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._transport.attempt("interactive", self._user, self._handle)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._error = error
        finally:
            self._asked.put(None)

    def _handle(self, title: str, instructions: str, fields: list[tuple[str, bool]]) -> list[str]:
        if not fields:
            return []
        words = " ".join(printable(text) for text in (title, instructions) if text.strip())
        prefix = f"({self._who}) " + (f"{words} " if words else "")
        self._asked.put([(f"{prefix}{printable(prompt)} ", echo) for prompt, echo in fields])
        answers = self._answers.get()
        if answers is None:
            raise paramiko.SSHException("nobody answered")
        return answers


def _public_blob(key: Path) -> bytes:
    try:
        return keys.parse_public(Path(f"{key}.pub").read_text(encoding="utf-8"))[1]
    except (OSError, ValueError, AuthenticationFailed):
        return b""
