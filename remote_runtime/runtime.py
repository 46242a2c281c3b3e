"""What the user holds: a connected machine, and what a program does with it."""

from __future__ import annotations

import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from remote_runtime import bootstrap, kernels, transfer
from remote_runtime._threads import Deadline, timed_out
from remote_runtime.cells import CellResult, Output
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.events import LinkState
from remote_runtime.forward import LocalForward, listen
from remote_runtime.kernels import Kernel
from remote_runtime.link import Link, closed
from remote_runtime.model import Instance, ServerInfo
from remote_runtime.transfer import Progress

FORWARD_HINT = "Give the forward another local port, or let the system choose one."
_KERNEL_START_SECONDS = 120.0


class Runtime:
    """A connected machine: a URL that answers, until :meth:`close`.  Made by :func:`.connect`.

    ``instance`` is the machine, ``port`` the local port.  Usable as a context manager, and from several threads; what
    waits in another thread ends with an error when it is closed.
    """

    def __init__(
        self,
        instance: Instance,
        link: Link,
        port: int,
        opened: ExitStack,
        *,
        kernel_lease: float = kernels.LEASE_SECONDS,
    ) -> None:
        self.instance = instance
        self.port = port
        self._link = link
        self._opened = opened
        self._lease = kernel_lease
        self._lock = threading.Lock()
        self._starting = threading.Lock()  # held for as long as a kernel takes to start: never within the other one
        self._closed = False
        self._kernel: Kernel | None = None
        # Those that still run, which their own threads hold: one that was closed must not be held here.
        self._forwards: weakref.WeakSet[LocalForward] = weakref.WeakSet()
        link.on_settled(self._retry_forwards)

    @property
    def url(self) -> str:
        """The URL to paste into Colab, VS Code or a browser.  It carries the token: whoever has it can run code."""
        return self.server.url(self.port)

    @property
    def token(self) -> str:
        """The server's token."""
        return self.server.token

    @property
    def server(self) -> ServerInfo:
        """The Jupyter server as it was at the last connect or reconnect."""
        return self._link.server

    @property
    def state(self) -> LinkState:
        """``connected``, ``reconnecting``, ``failed`` or ``closed``."""
        return self._link.state

    # -- commands and code ---------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        cwd: str = "~",
        env: Mapping[str, str] | None = None,
        on_output: Callable[[str, bytes], None] | None = None,
        timeout: float | None = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the VM, without a shell, and return its exit status and output.

        ``input`` is its standard input; ``cwd`` the directory, from the home directory on; ``env`` goes on top of the
        login's environment.  ``on_output(stream, piece)`` is told of what it writes to ``stdout`` and ``stderr`` while
        it runs; then nothing is collected.  A command ends with its connection: when this program is killed, and in a
        cut.  Raises :class:`NetworkError` while the link is down and when it is cut, :class:`GuestError`
        ``command_timeout`` after ``timeout`` seconds (None: it may take for ever).
        """
        return bootstrap.run(
            self._link.connection(),
            argv,
            input=input,
            cwd=cwd,
            env=env,
            on_output=on_output,
            deadline=Deadline(timeout),
        )

    def execute(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_output: Callable[[Output], None] = kernels.nobody,
        check: bool = True,
    ) -> CellResult:
        """Run ``code`` in a kernel on the VM, as a notebook's cell, and return its outputs.

        The kernel is this Runtime's own: it is started by the first call, keeps its variables from call to call, also
        when the link is cut meanwhile, and ends with :meth:`close`.  ``on_output`` is told of each output while the
        code runs, in the shape that notebooks have.  After ``timeout`` seconds (None: never) the code is interrupted.

        Raises :class:`CellError` if the code raises an exception (``check=False``: it is the result's ``error``),
        :class:`TimedOut`, and :class:`KernelError` if the kernel died or a cut swallowed the result.  It needs
        ``pip install 'remote-runtime[kernels]'``.
        """
        deadline = Deadline(timeout)
        kernel = self._running_kernel(deadline)
        try:
            result = kernel.execute(code, on_output, deadline)
        finally:
            if kernel.ended:
                self._let_go(kernel)
        if check and result.error:
            raise result.error
        return result

    def _running_kernel(self, deadline: Deadline) -> Kernel:
        left = deadline.remaining()
        if not self._starting.acquire(timeout=-1 if left is None else left):
            raise timed_out("waiting for a kernel to start", deadline.seconds)
        try:
            with self._lock:
                self._check()
                if self._kernel:
                    return self._kernel
            kernel = self._start_kernel(deadline.sooner(_KERNEL_START_SECONDS))
            with self._lock:
                if not self._closed:
                    self._kernel = kernel
                    return kernel
            kernel.close()
            raise closed(self.instance.name)
        finally:
            self._starting.release()

    def _start_kernel(self, deadline: Deadline) -> Kernel:
        try:
            return Kernel(
                self.port,
                lambda: self._link.server,
                check=self._check,
                reachable=lambda: self._link.state == "connected",
                lease=self._lease,
                deadline=deadline,
            )
        except RemoteRuntimeError:
            self._check()  # that this is over says more than what failed because of it
            raise

    def _let_go(self, kernel: Kernel) -> None:
        with self._lock:
            if self._kernel is kernel:
                self._kernel = None
        kernel.close()

    def _check(self) -> None:
        """Raise if this is over: the error by which the link failed, or that it was closed."""
        if self._link.state in ("failed", "closed"):
            self._link.connection()  # raises it
        if self._closed:
            raise closed(self.instance.name)

    # -- files ---------------------------------------------------------------------------------------------------------

    def put(
        self,
        local: str | Path,
        remote: str = "~",
        *,
        on_progress: Progress = transfer.nobody,
        timeout: float | None = None,
    ) -> str:
        """Copy a file or a directory to the VM and return its path there.

        ``remote`` is its new path, from the home directory on; it goes *into* ``remote``, under its own name, if that
        ends with a slash, is ``~``, or is a directory while a file is copied.  Directories above it are made.  It
        appears at once and complete, or not at all; to a directory that exists its files are added.  Modes are kept,
        symbolic links followed.  ``on_progress(bytes, of)`` is told how far it is.

        Raises :class:`TransferError` for files here, :class:`GuestError` ``transfer_failed`` for files there, and
        :class:`NetworkError` in a cut: it can be called again.
        """
        deadline = Deadline(timeout)
        connection = self._link.connection()
        return transfer.put(connection, Path(local), remote, on_progress=on_progress, deadline=deadline)

    def get(
        self,
        remote: str,
        local: str | Path = ".",
        *,
        on_progress: Progress = transfer.nobody,
        timeout: float | None = None,
    ) -> Path:
        """Copy a file or a directory from the VM and return its path here; all else is as for :meth:`put`.

        It goes into ``local`` if that is a directory, under the name that ``remote`` ends with.
        """
        deadline = Deadline(timeout)
        connection = self._link.connection()
        return transfer.get(connection, remote, Path(local), on_progress=on_progress, deadline=deadline)

    # -- ports ---------------------------------------------------------------------------------------------------------

    def forward(self, port: int, *, host: str = "127.0.0.1", local_port: int | None = None) -> LocalForward:
        """Forward a local port to ``host:port`` as the VM sees them; its number is the result's ``port``.

        ``local_port`` is strict, None takes a free one.  It ends by its ``close()`` or with this Runtime, and gets over
        cuts as the URL does.  Raises :class:`PortInUse`.
        """
        listener = listen(local_port or 0, hint=FORWARD_HINT)
        with self._lock:
            try:
                self._check()
            except BaseException:
                listener.close()
                raise
            forward = LocalForward(listener, lambda sink: self._link.open_stream(host, port, sink))
            self._forwards.add(forward)
        return forward

    def _retry_forwards(self) -> None:
        for forward in list(self._forwards):
            forward.retry()

    # -- the end -------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the Runtime is closed, or for ``timeout`` seconds.

        Raises the error by which the link failed, if it failed for good; short outages don't end the wait.
        """
        self._link.wait(timeout)

    def close(self) -> None:
        """End what is local, and the kernel of :meth:`execute`; Jupyter, its other kernels and the machine go on.

        A machine that was made by ``connect(..., ephemeral=True)`` is deleted.  Safe to call twice.
        """
        with self._lock:
            self._closed = True
            kernel, self._kernel = self._kernel, None
        with self._opened:
            for forward in list(self._forwards):
                forward.close()
            if kernel:
                kernel.close()
            # One that is being started ends itself, for which it needs the link; if that is down, its lease ends it.
            elif self._link.state == "connected" and self._starting.acquire(timeout=kernels.END_SECONDS):
                self._starting.release()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Runtime {self.instance.name} on port {self.port}, {self.state}>"
