"""ssh_config's ProxyCommand: a command whose standard input and output carry the SSH connection."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO

from remote_runtime._threads import ThreadGroup
from remote_runtime.errors import NetworkError


class ProxyCommand:
    """A running proxy command; ``socket`` is what SSH is spoken on.

    On POSIX systems the command gets the other end of a socket pair; on Windows, where a child can't have a socket as
    its standard input, two threads copy (``piped``).
    """

    def __init__(self, argv: tuple[str, ...], *, piped: bool = sys.platform == "win32") -> None:
        self.socket, self._theirs = socket.socketpair()
        self._complaint = b""
        self._ended = threading.Event()
        self._threads = ThreadGroup(self._stop)
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if piped else self._theirs.fileno(),
                stdout=subprocess.PIPE if piped else self._theirs.fileno(),
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            self.socket.close()
            self._theirs.close()
            raise NetworkError(
                f"Can't run the proxy command {argv[0]}: {error.strerror}",
                hint="Check ProxyCommand in your ssh_config.",
                code="proxy_command_failed",
                retryable=False,
            ) from error
        self._threads.spawn("proxy-command-stderr", lambda: self._listen(self._process.stderr))
        if piped:
            self._threads.spawn("proxy-command-stdin", lambda: self._copy_in(self._process.stdin))
            self._threads.spawn("proxy-command-stdout", lambda: self._copy_out(self._process.stdout))
        else:
            self._theirs.close()

    def complaint(self) -> str:
        """What the command last said on standard error, or else how it ended; nothing while it goes on."""
        if not self._ended.wait(0.5):
            return ""
        return self._complaint.decode(errors="replace").strip() or self._how_it_ended()

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return ""  # it has only closed its standard error
        return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"

    def close(self) -> None:
        """End the command; safe to call twice."""
        self._threads.close()

    def _stop(self) -> None:
        self.socket.close()
        self._theirs.close()
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, pipe: IO[bytes] | None) -> None:
        if pipe:
            with pipe:
                while chunk := pipe.read(4096):
                    self._complaint = (self._complaint + chunk)[-4096:]
        self._ended.set()

    def _copy_in(self, pipe: IO[bytes] | None) -> None:
        try:
            if pipe:
                with pipe:
                    while chunk := self._theirs.recv(65536):
                        pipe.write(chunk)
        except OSError:
            return  # the command has ended; the other direction says so

    def _copy_out(self, pipe: IO[bytes] | None) -> None:
        # A plain close would not end the connection while the other thread still reads from this socket.
        try:
            if pipe:
                with pipe:
                    while chunk := pipe.read(65536):
                        self._theirs.sendall(chunk)
            self._theirs.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # our side has been closed

    def __enter__(self) -> ProxyCommand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
