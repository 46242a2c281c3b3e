"""``connect``: the whole story, from a name to a URL that answers and keeps answering."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

from remote_runtime import bootstrap, proof
from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, PortInUse, UsageError
from remote_runtime.events import EventSink, Notice, guarded, log_event, step
from remote_runtime.forward import Listener, LocalForward, listen
from remote_runtime.kernels import LEASE_SECONDS, LONGEST_LEASE_SECONDS
from remote_runtime.link import Link
from remote_runtime.model import Forward, InstanceSpec, Question, Remembered, ServerInfo, ServerOptions
from remote_runtime.preparation import Preparation
from remote_runtime.providers import Provider, load_provider
from remote_runtime.providers.gce.options import GceOptions
from remote_runtime.providers.gce.spec import GceSpec
from remote_runtime.runtime import Runtime
from remote_runtime.settings import Settings
from remote_runtime.ssh import TransportKind
from remote_runtime.ssh.config import lookup
from remote_runtime.store import Store

DEFAULT_PORT = 8888
RELEASE_SECONDS = 12.0
"""What taking back at the end what was done to be let in may take."""

DELETE_SECONDS = 300.0
"""What deleting an ephemeral machine may take."""

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
    ephemeral: bool = False,
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
        VM to make if there is none) are short for the fields of these names.  ``ephemeral``: the machine is made for
        this call alone, as ``create`` says, and deleted when the Runtime is closed; there must be none of that name.
    login
        ``user`` on the machine; ``host_key`` (``SHA256:...``) is the one host key to accept; ``ask(prompt, echo)``
        puts a question to a person, and without it nothing is ever asked.  These three are short for the fields of
        ``gce`` of these names.
    ports
        ``local_port`` is strict; ``"auto"`` takes the one of the last time or any; None takes that of the last time,
        else 8888, else any.  ``forwards`` are further ports, strict as well.
    server
        ``server`` says what to run there; ``new_token`` revokes the token by which earlier URLs got in.
    rest
        ``transport`` moves the bytes of the forwards: our own code (``lean``), or paramiko's channels (``stock``).
        ``timeout`` bounds the whole call, in seconds.  ``on_event`` hears what happens, from several threads;
        ``settings`` are read from the environment if not given.

    Closing the Runtime leaves Jupyter running, and a machine that is not ephemeral.  On any error everything opened
    here is closed again.

    Raises :class:`~remote_runtime.errors.RemoteRuntimeError`; see :mod:`remote_runtime.errors` for the tree.
    """
    deadline = Deadline(timeout)
    settings = settings or Settings.load()
    lease = parse_lease(settings.option("kernel_lease", LEASE_SECONDS))
    on_event = guarded(on_event)
    store = Store(settings.state_dir)
    with ExitStack() as opened:
        known = opened.enter_context(store.hold(provider, instance))
        # The cheapest failures first; clients that come early wait in the listeners' backlogs.
        listener = opened.enter_context(_listen(local_port, known.local_port, on_event))
        others = [
            (forward, opened.enter_context(listen(forward.local_port, hint=FORWARD_HINT))) for forward in forwards
        ]
        said = {"user": user, "host_key": host_key, "ask": ask, "project": project, "create": create}
        wanted = _options(gce or GceOptions(), zones=(zone,) if zone else (), **said)
        spec = ephemeral_spec(provider, instance, wanted.create) if ephemeral else None
        if spec:
            wanted = dataclasses.replace(wanted, create=None)  # it is made once, here
        look_up = partial(lookup, user=wanted.user, host_key=wanted.host_key)
        machines = load_provider(provider, settings, lookup=look_up, gce=wanted)
        if spec:
            _make(opened, machines, spec, store, on_event, deadline)
        with step(on_event, "instance", f"Finding {instance}"):
            machine = machines.ensure(instance, deadline, on_event)
        opened.callback(lambda: machine.release(Deadline(RELEASE_SECONDS)))
        expects = machine.expects_preparation
        prepare = Preparation(server or ServerOptions(), known.token, new_token, expects, on_event)
        link = opened.enter_context(
            Link(
                instance,
                resolve=machine.resolve,
                judge=machine.judge,
                prepare=prepare,
                ask=wanted.ask,
                on_event=on_event,
                deadline=deadline,
                transport=transport,
                first_command=bootstrap.COMMAND,
            )
        )
        if not known.token:
            on_event(Notice("first_connection", f"Code in a notebook can do anything on {instance} that you can."))
        with step(on_event, "forward", f"Forwarding port {listener.port}"):
            _forward(opened, link, listener, others, admit=prepare.server_stands)
            proof.await_answer(link.server, lambda _: socket.create_connection(("127.0.0.1", listener.port)), deadline)
        store.save(_remembered(known, listener.port, link.server))
        return Runtime(machine, link, listener.port, opened.pop_all(), kernel_lease=lease)


def _options(gce: GceOptions, **said: Any) -> GceOptions:
    """The options with what was said beside them, which is stronger."""
    return dataclasses.replace(gce, **{name: value for name, value in said.items() if value})


def ephemeral_spec(provider: str, name: str, create: GceSpec | None) -> InstanceSpec:
    """The machine to make for one call alone.

    If this process is killed nobody is left to delete a VM: then the cloud does, when its time is over.
    """
    if provider != "gce":
        return InstanceSpec(name)
    return dataclasses.replace(create or GceSpec(name), name=name, at_end="delete")


def _make(
    opened: ExitStack, machines: Provider, spec: InstanceSpec, store: Store, on_event: EventSink, deadline: Deadline
) -> None:
    """Make the machine, and have it deleted at the end; one that exists is not ours to delete, and an error."""

    def delete() -> None:
        with step(on_event, "machine", f"Deleting {spec.name}"):
            try:
                machines.delete(spec.name, Deadline(DELETE_SECONDS))
            except InstanceError as error:
                if error.code != "instance_not_found":  # it is gone already
                    raise
        store.mark(machines.name, spec.name, deleted=True)

    with step(on_event, "machine", f"Creating {spec.name}"):
        machines.create(spec, deadline, on_event)
    opened.callback(delete)


def parse_lease(value: object) -> float:
    """The seconds that a kernel outlives its program, from the environment or the profile.

    Raises :class:`UsageError` with code ``bad_kernel_lease``.
    """
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_LEASE_SECONDS:
        raise UsageError(
            f"The option kernel_lease is {value!a}, which is no number of seconds up to a week",
            hint="Correct REMOTE_RUNTIME_KERNEL_LEASE, or kernel_lease in the profile.",
            code="bad_kernel_lease",
        )
    return seconds


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
        known, local_port=port, token=server.token, base_url=server.base_url, server_pid=server.pid, deleted=False
    )
