"""Paramiko's Transport with two things added: it tells of its end, and asks for the login service only once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler


class Transport(paramiko.Transport):
    """A Transport that tells of its end, of which its thread's end is the one sure sign."""

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self.ended = threading.Event()
        self.on_change: Callable[[], None] = lambda: None
        self.login_service = False

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.ended.set()
            self.on_change()

    def attempt(self, method: str, *arguments: Any) -> list[str]:
        """Try to log in by ``method`` (``none``, ``publickey``, ``password`` or ``interactive``), and wait.

        The arguments are those of paramiko's ``auth_<method>``.  Returns the methods that the server wants besides;
        none, if this was enough.  Raises what paramiko's methods raise.
        """
        if not self.is_active():
            raise self.get_exception() or EOFError("the server hung up")
        answered = threading.Event()
        self.auth_handler = handler = _AuthHandler(self)
        getattr(handler, f"auth_{method}")(*arguments, answered)
        return list(handler.wait_for_response(answered))


class _AuthHandler(AuthHandler):
    """Sends the attempt itself where paramiko's would ask for the login service again.

    OpenSSH allows the repeated request, others (AsyncSSH) hang up, as RFC 4252 lets them: with paramiko's own handler
    only the first key could be tried there.
    """

    transport: Transport

    def _request_auth(self) -> None:
        if self.transport.login_service:
            self._parse_service_accept(_service_accept())
        else:
            super()._request_auth()  # type: ignore[misc]

    def _parse_service_accept(self, m: paramiko.Message) -> None:
        self.transport.login_service = True
        super()._parse_service_accept(m)  # type: ignore[misc]


def _service_accept() -> paramiko.Message:
    message = paramiko.Message()
    message.add_string("ssh-userauth")
    message.rewind()
    return message
