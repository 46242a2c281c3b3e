"""``connect``: the whole story, from a name to a URL that answers and keeps answering."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Literal

from remote_runtime import bootstrap, proof
from remote_runtime._threads import Deadline
from remote_runtime.errors import ChannelRefused, PortInUse
from remote_runtime.events import EventSink, LinkState, Notice, guarded, log_event, step
from remote_runtime.forward import Listener, LocalForward, listen
from remote_runtime.link import Link
from remote_runtime.model import Forward, Instance, Question, Remembered, ServerInfo, ServerOptions
from remote_runtime.providers import load_provider
from remote_runtime.providers.gce.options import GceOptions
from remote_runtime.providers.gce.spec import GceSpec
from remote_runtime.settings import Settings
from remote_runtime.ssh import Connection, TransportKind
from remote_runtime.ssh.config import lookup
from remote_runtime.store import Store

DEFAULT_PORT = 8888
OLD_PAGES = (
    "Pages that are still open at the old URL now talk to that program, and show it the token: "
    "if it is not yours, connect again with --new-token."
)
FORWARD_HINT = "Give the forward another local port: -L PORT:HOST:PORT."


def connect(
    instance: str,
    *,
    provider: str = "gce",
    zone: str | None = None,
    project: str | None = None,
    create: GceSpec | None = None,
    gce: GceOptions | None = None,
    user: str | None = None,
    host_key: str | None = None,
    local_port: int | Literal["auto"] | None = None,
    forwards: Sequence[Forward] = (),
    server: ServerOptions | None = None,
    new_token: bool = False,
    transport: TransportKind = "lean",
    timeout: float = 600,
    on_event: EventSink = log_event,
    settings: Settings | None = None,
    ask: Question | None = None,
) -> Runtime:
    """Return a Runtime whose URL answers.

    Finds the machine, logs in, puts Jupyter and our extension there if they are missing, starts the server or adopts
    the one that runs, forwards a local port to it, and makes one request through all of that.

    machine
        ``provider`` finds ``instance``: ``gce`` (a VM of Google Compute Engine, started if need be), ``ssh`` (an
        ssh_config alias or ``user@host[:port]``) or ``sandbox`` (made if it is missing).  For a VM, ``gce`` says where
        it is, how to get there, and whether it may be made or started again; ``zone``, ``project`` and ``create`` (the
        VM to make if there is none) are short for the fields of these names.
    login
        ``user`` on the machine; ``host_key`` (``SHA256:...``) is the one host key to accept; ``ask(prompt, echo)``
        puts a question to a person, and without it nothing is ever asked.
    ports
        ``local_port`` is strict; ``"auto"`` takes the one of the last time or any; None takes that of the last time,
        else 8888, else any.  ``forwards`` are further ports, strict as well.
    server
        ``server`` says what to run there; ``new_token`` revokes the token by which earlier URLs got in.
    rest
        ``transport`` moves the bytes of the forwards: our own code (``lean``), or paramiko's channels (``stock``).
        ``timeout`` bounds the whole call, in seconds.  ``on_event`` hears what happens, from several threads;
        ``settings`` are read from the environment if not given.

    Closing the Runtime leaves Jupyter and the machine running.  On any error everything opened here is closed again.

    Raises :class:`~remote_runtime.errors.RemoteRuntimeError`; see :mod:`remote_runtime.errors` for the tree.
    """
    deadline = Deadline(timeout)
    settings = settings or Settings.load()
    on_event = guarded(on_event)
    store = Store(settings.state_dir)
    with ExitStack() as opened:
        known = opened.enter_context(store.hold(provider, instance))
        # The cheapest failures first; clients that come early wait in the listeners' backlogs.
        listener = opened.enter_context(_listen(local_port, known.local_port, on_event))
        others = [
            (forward, opened.enter_context(listen(forward.local_port, hint=FORWARD_HINT))) for forward in forwards
        ]
        with step(on_event, "instance", f"Finding {instance}"):
            wanted = _options(gce or GceOptions(), zone, project, create)
            wanted = dataclasses.replace(wanted, user=user, host_key=host_key, ask=ask)
            look_up = partial(lookup, user=user, host_key=host_key)
            machine = load_provider(provider, settings, lookup=look_up, gce=wanted).ensure(instance, deadline, on_event)
        prepare = _Preparation(server or ServerOptions(), known.token, new_token, on_event)
        link = opened.enter_context(
            Link(
                instance,
                resolve=machine.resolve,
                judge=machine.judge,
                prepare=prepare,
                ask=ask,
                on_event=on_event,
                deadline=deadline,
                transport=transport,
            )
        )
        if not known.token:
            on_event(Notice("first_connection", f"Code in a notebook can do anything on {instance} that you can."))
        with step(on_event, "forward", f"Forwarding port {listener.port}"):
            _forward(opened, link, listener, others, admit=prepare.server_stands)
            proof.await_answer(link.server, lambda _: socket.create_connection(("127.0.0.1", listener.port)), deadline)
        store.save(_remembered(known, listener.port, link.server))
        return Runtime(machine, link, listener.port, opened.pop_all())


class Runtime:
    """A connected machine: a URL that answers, until :meth:`close`.  Made by :func:`connect`.

    ``instance`` is the machine, ``port`` the local port.  Usable as a context manager, and from several threads.
    """

    def __init__(self, instance: Instance, link: Link, port: int, opened: ExitStack) -> None:
        self.instance = instance
        self.port = port
        self._link = link
        self._opened = opened

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

    def run(
        self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the VM, without a shell, and return its exit status and output.

        Raises :class:`NetworkError` while the link is down, :class:`TimedOut` after ``timeout`` seconds.
        """
        return bootstrap.run(self._link.connection(), argv, input=input, deadline=Deadline(timeout))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the Runtime is closed, or for ``timeout`` seconds.

        Raises the error by which the link failed, if it failed for good; short outages don't end the wait.
        """
        self._link.wait(timeout)

    def close(self) -> None:
        """End what is local; Jupyter and the machine go on.  Safe to call twice."""
        self._opened.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Runtime {self.instance.name} on port {self.port}, {self.state}>"


class _Preparation:
    """What the Link does with each new connection, before any client's byte: the server runs, and is ours."""

    def __init__(self, options: ServerOptions, token: str, new_token: bool, on_event: EventSink) -> None:
        self._options = options
        self._token = token
        self._new_token = new_token
        self._first = True
        self._on_event = on_event
        self._sentinel: proof.Sentinel | None = None

    def __call__(self, connection: Connection, deadline: Deadline) -> ServerInfo:
        server = bootstrap.ensure_server(
            connection,
            self._options,
            token=self._token,
            new_token=self._new_token,
            restart=self._first,
            on_event=self._on_event,
            deadline=deadline,
        )
        former, self._sentinel = self._sentinel, self._sentinel_for(server, connection, deadline)
        if former:
            former.close()
        self._token = server.token
        self._first = self._new_token = False
        return server

    def _sentinel_for(self, server: ServerInfo, connection: Connection, deadline: Deadline) -> proof.Sentinel:
        """Have the server prove itself; one that was only just started, and can't be reached, is stopped again."""
        try:
            return proof.Sentinel(server, connection, deadline)
        except ChannelRefused:
            if self._first and not server.adopted:
                bootstrap.stop_server(connection, deadline)
            raise

    def server_stands(self) -> bool:
        """Whether the server that proved itself last still runs: only then may a client's byte go to its port."""
        return self._sentinel is not None and self._sentinel.stands


def _options(gce: GceOptions, zone: str | None, project: str | None, create: GceSpec | None) -> GceOptions:
    """The options with what was said beside them, which is stronger."""
    zones = (zone,) if zone else gce.zones
    return dataclasses.replace(gce, zones=zones, project=project or gce.project, create=create or gce.create)


def candidate_ports(wanted: int | Literal["auto"] | None, last: int) -> list[int]:
    """The local ports to try in order (0: any free one).

    A wanted port is strict; else that of the last time comes first, so that a URL stays what it was.
    """
    if isinstance(wanted, int):
        return [wanted]
    usual = [] if wanted == "auto" else [DEFAULT_PORT]
    return [port for port in dict.fromkeys([last, *usual]) if port] + [0]


def _listen(wanted: int | Literal["auto"] | None, last: int, on_event: EventSink) -> Listener:
    taken: PortInUse | None = None
    for port in candidate_ports(wanted, last):
        try:
            listener = listen(port)
        except PortInUse as error:
            if port == wanted:
                raise
            taken = taken or error
            continue
        if taken:
            text = f"{taken.message}: using port {listener.port} instead."
            if last:
                text += f" {OLD_PAGES}"
            on_event(Notice("port_changed", text, "warning" if last else "info"))
        return listener
    raise AssertionError("unreachable: any free port can be bound, or the error is raised")


def _forward(
    opened: ExitStack,
    link: Link,
    listener: Listener,
    others: list[tuple[Forward, Listener]],
    *,
    admit: Callable[[], bool],
) -> None:
    """Join the listeners to their ports on the VM; Jupyter's port is asked of the link anew for each client.

    ``admit`` says whether what listens there is still the server that proved itself.
    """

    def server_refused(error: Exception) -> bool:
        link.request_prepare(f"the Jupyter server does not answer: {error}")
        return True

    main = LocalForward(
        listener,
        lambda sink: link.open_stream("127.0.0.1", link.server.port, sink, admit=admit),
        on_refused=server_refused,
    )
    link.on_settled(opened.enter_context(main).retry)
    for forward, extra in others:
        joined = LocalForward(
            extra,
            lambda sink, f=forward: link.open_stream(f.host, f.remote_port, sink),  # type: ignore[misc]
        )
        link.on_settled(opened.enter_context(joined).retry)


def _remembered(known: Remembered, port: int, server: ServerInfo) -> Remembered:
    return dataclasses.replace(
        known, local_port=port, token=server.token, base_url=server.base_url, server_pid=server.pid
    )
