"""One machine, and the verbs on it besides connect: ask for its status, read its log, stop it, clean it up.

Everything here is synchronous, bounded by a ``timeout`` in seconds, prints nothing and prompts only through ``ask``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any, Literal

from remote_runtime import bootstrap
from remote_runtime._threads import Deadline
from remote_runtime.errors import AlreadyConnected, InstanceError, RemoteRuntimeError
from remote_runtime.events import Event, EventSink, Notice, log_event, step
from remote_runtime.model import Instance, InstanceSpec, InstanceState, Question, Remembered, ServerInfo
from remote_runtime.processes import end, recognise
from remote_runtime.providers import USUAL_PROVIDER, load_provider
from remote_runtime.settings import Settings
from remote_runtime.store import Store

if TYPE_CHECKING:
    from remote_runtime.providers import Change, Provider
    from remote_runtime.providers.gce.options import GceOptions
    from remote_runtime.ssh import Connection

_LONG_SECONDS = 600.0
DISCONNECT_SECONDS = 15.0
"""For so long a process that is asked to end may clean up: it may have a key to take back from a cloud."""

_ANSWER_SECONDS = 5.0

HostState = Literal["connected", "disconnected"]


@dataclass(frozen=True)
class MachineSummary:
    """One line of the list: ``state`` is whether a process of this host (``pid``) keeps it connected now.

    ``url`` is without the token, and ``""`` if the machine was never connected.
    """

    name: str
    provider: str
    state: HostState
    url: str
    pid: int | None


@dataclass(frozen=True)
class MachineStatus:
    """A machine as it answered just now.

    ``answers`` tells whether an HTTP request through the forward came back (None: there is no forward).  ``error``
    is why the machine could not be asked for its ``server``, which is None too if none runs.
    """

    summary: MachineSummary
    instance: InstanceState
    detail: str
    server: ServerInfo | None
    answers: bool | None
    error: RemoteRuntimeError | None


class Machine:
    """One machine, by its name at its provider.

    ``gce`` and ``user`` as for :func:`remote_runtime.api.connect`; ``ask`` may be asked for passphrases (None:
    nobody is there).  What is not said by ``user`` and ``ask`` is as the fields of ``gce`` of these names say.
    """

    def __init__(
        self,
        name: str,
        *,
        provider: str = USUAL_PROVIDER,
        gce: GceOptions | None = None,
        user: str | None = None,
        settings: Settings | None = None,
        ask: Question | None = None,
        on_event: EventSink = log_event,
    ) -> None:
        self.name = name
        self.provider = provider
        self.settings = settings or Settings.load()
        self.store = Store(self.settings.state_dir)
        self._user = user or (gce.user if gce else None)
        self._gce = gce
        self._ask = ask or (gce.ask if gce else None)
        self._on_event = on_event

    # -- what is remembered here --------------------------------------------------------------------------------------

    def remembered(self) -> Remembered:
        """What this host knows of the machine.

        Raises :class:`InstanceError` (``instance_not_found``) if it never was connected from here, or was deleted.
        """
        found = self.store.load(self.provider, self.name)
        if found and found.deleted:
            raise InstanceError(
                f"{self.name} was deleted", hint="A machine made anew under this name gets the URL that it had."
            )
        if found is None or not found.url:
            # A bare name of which nothing is known counts as the usual provider's: that is no news to anybody.
            said = "" if self.provider == USUAL_PROVIDER else f" ({self.provider})"
            raise InstanceError(
                f"{self.name}{said} was never connected from this computer",
                hint="`remote-runtime list` shows what is known here; `remote-runtime connect` connects a machine.",
            )
        return found

    def summary(self) -> MachineSummary:
        """Its line in the list."""
        found = self.store.load(self.provider, self.name) or Remembered(self.name, self.provider)
        held = self.store.held(self.provider, self.name)
        url = f"http://localhost:{found.local_port}{found.base_url}" if found.local_port else ""
        state: HostState = "connected" if held else "disconnected"
        return MachineSummary(self.name, self.provider, state, url, (found.host_pid or None) if held else None)

    # -- what the machine says ----------------------------------------------------------------------------------------

    def status(self, *, timeout: float = 30) -> MachineStatus:
        """Ask the provider, the forward and the server.

        Raises :class:`InstanceError` if there is no such machine; that it can't be reached is part of the answer.
        """
        deadline = Deadline(timeout)
        summary = self.summary()
        instance = self._find(deadline)
        answers = _answers(summary, deadline) if summary.state == "connected" else None
        server, problem = None, None
        if instance.state not in ("stopped", "stopping"):
            try:
                title = f"Asking for the Jupyter server on {self.name}"
                with self._login(instance, deadline, "status", title) as connection:
                    server = bootstrap.server_status(connection, deadline)
            except RemoteRuntimeError as error:
                problem = error
        return MachineStatus(summary, instance.state, instance.detail, server, answers, problem)

    def logs(self, *, lines: int = 200, timeout: float = 60) -> list[str]:
        """The newest ``lines`` of the Jupyter server's log."""
        deadline = Deadline(timeout)
        title = f"Reading Jupyter's log on {self.name}"
        with self._login(self._running(deadline), deadline, "logs", title) as connection:
            return bootstrap.server_log(connection, deadline, lines=lines)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        on_output: Callable[[str, bytes], None] | None = None,
        timeout: float = 600,
    ) -> CompletedProcess[bytes]:
        """Run a command on the machine, as :meth:`.Runtime.run` does, without a Jupyter and over a login of its own."""
        deadline = Deadline(timeout)
        with self._login(self._running(deadline), deadline, "run", f"Running {argv[0]} on {self.name}") as connection:
            return bootstrap.run(connection, argv, input=input, on_output=on_output, deadline=deadline)

    # -- ending -----------------------------------------------------------------------------------------------------

    def _disconnect(self, deadline: Deadline) -> bool:
        """End the process of ours on this host that keeps the machine connected; whether there was one.

        It is asked to end, and killed if it does not.  It may have taken its key back: what was known of the machine
        is no longer sure then.  A connection of this very process is left alone.
        Raises :class:`AlreadyConnected` if that process can't be told from others.
        """
        if not self.store.held(self.provider, self.name):
            return False
        found = self.store.load(self.provider, self.name) or Remembered(self.name, self.provider)
        if found.host_pid == os.getpid():
            return False
        process = recognise(found.host_pid, found.host_started)
        if process is None:
            if not self.store.held(self.provider, self.name):
                return True  # it ended just now
            raise AlreadyConnected(
                f"Another process on this computer is connecting to {self.name} just now",
                hint="Wait until it is connected, or end it with Ctrl-C where it was started, and try again.",
            )
        with step(self._on_event, "disconnect", f"Ending process {process.pid}, which keeps {self.name} connected"):
            if not end([process], deadline, seconds=DISCONNECT_SECONDS):
                raise RemoteRuntimeError(
                    f"Process {process.pid}, which keeps {self.name} connected, does not end",
                    hint="End it as the user who started it, and try again.",
                    code="process_not_ended",
                )
        return True

    def stop(self, *, machine: bool = False, timeout: float = 60) -> bool:
        """Stop the Jupyter server, and the connection to it; return whether a server ran.

        A sandbox's own SSH server ends with it.  With ``machine`` the machine is stopped too, also if the server
        can't be reached any more.
        """
        return self.stop_by(machine, Deadline(timeout))

    def stop_by(self, machine: bool, deadline: Deadline) -> bool:
        """:meth:`stop` with a deadline, which another thread may cancel."""
        if machine:
            self.check_verb("stop")  # before anything is ended
        instance = self._find(deadline)
        if self._disconnect(deadline):
            instance = self._find(deadline)
        ran = False
        if instance.state not in ("stopped", "stopping"):
            # A machine that does not answer must leave time to stop it all the same.
            asking = deadline.sooner(deadline.bounded(_LONG_SECONDS) / 2) if machine else deadline
            try:
                with self._login(instance, asking, "stop", f"Stopping Jupyter on {self.name}") as connection:
                    ran = bootstrap.stop_server(connection, asking)
            except RemoteRuntimeError as error:
                if not machine:
                    raise
                self._on_event(Notice("server_not_stopped", f"Jupyter was not stopped: {error.message}", "warning"))
            machine = machine or self.provider == "sandbox"
        if machine:  # one that is suspended, too: what it has in memory costs
            with step(self._on_event, "machine", f"Stopping {self.name}"):
                self._provider().stop(self.name, deadline)
        return ran

    def check_verb(self, verb: str) -> None:
        """Raise :class:`InstanceError` (``not_supported``) if the provider can do that (``delete``) with no machine."""
        refusal = self._provider().refusal(verb, self.name)
        if refusal:
            raise refusal

    def delete(
        self,
        *,
        keep_disks: bool = False,
        confirm: Callable[[Instance], None] = lambda _: None,
        timeout: float = 60,
    ) -> None:
        """Delete the machine, and all that is on it unless ``keep_disks``.

        ``confirm`` is shown the very machine that was found, and may raise; for so long ``timeout`` does not count.
        Its port and token stay remembered, so that a machine made anew under its name gets the same URL.
        """
        provider = self._provider()
        confirm(self._find(Deadline(timeout), provider))
        deadline = Deadline(timeout)
        self._disconnect(deadline)
        with step(self._on_event, "machine", f"Deleting {self.name}"):
            provider.delete(self.name, deadline, keep_disks=keep_disks)
        self.store.mark(self.provider, self.name, deleted=True)

    def uninstall(self, *, timeout: float = 60) -> list[str]:
        """Remove all of ours from the machine, and what this host remembers of it; return what was removed.

        A machine that is known here, but is gone, is only forgotten.
        """
        deadline = Deadline(timeout)
        try:
            instance = self._running(deadline)
        except InstanceError as error:
            if error.code != "instance_not_found" or self.store.load(self.provider, self.name) is None:
                raise
            self._disconnect(deadline)
            self._on_event(Notice("machine_gone", f"{error.message}, so it is only forgotten here"))
            self._forget(deadline)
            return []
        if self._disconnect(deadline):
            instance = self._running(deadline)
        title = f"Removing what remote-runtime put on {self.name}"
        with self._login(instance, deadline, "uninstall", title) as connection:
            removed = bootstrap.uninstall(connection, deadline, on_event=self._on_event)
        self._forget(deadline)
        return removed

    def _forget(self, deadline: Deadline) -> None:
        self._provider().forget(self.name, deadline)
        self.store.forget(self.provider, self.name)

    # -- making -----------------------------------------------------------------------------------------------------

    def create(self, spec: InstanceSpec | None = None, *, timeout: float = 60) -> Instance:
        """Make the machine, running; ``spec`` says what it shall be (None: the usual)."""
        with step(self._on_event, "machine", f"Creating {self.name}"):
            made = self._provider().create(spec or InstanceSpec(self.name), Deadline(timeout), self._on_event)
        self.store.mark(self.provider, self.name, deleted=False)
        return made

    def creation_request(self, spec: InstanceSpec, *, timeout: float = 60) -> dict[str, Any]:
        """The request by which :meth:`create` would make it; nothing is made."""
        return self._provider().creation_request(spec, Deadline(timeout))

    def start(self, *, timeout: float = 60) -> Instance:
        """Start the machine (its Jupyter server is started by connect)."""
        with step(self._on_event, "machine", f"Starting {self.name}"):
            return self._provider().start(self.name, Deadline(timeout), self._on_event)

    def change(self, verb: Change, *, timeout: float = 60) -> Instance:
        """Suspend, resume or reset the machine."""
        self.check_verb(verb)
        words = {"suspend": "Suspending", "resume": "Resuming", "reset": "Resetting"}[verb]
        with step(self._on_event, "machine", f"{words} {self.name}"):
            return self._provider().change(verb, self.name, Deadline(timeout))

    # -- helpers ----------------------------------------------------------------------------------------------------

    def _provider(self) -> Provider:
        from remote_runtime.providers.gce.options import GceOptions
        from remote_runtime.ssh.config import lookup

        gce = replace(self._gce or GceOptions(), user=self._user, ask=self._ask)
        look_up = partial(lookup, user=gce.user, host_key=gce.host_key)
        return load_provider(self.provider, self.settings, lookup=look_up, gce=gce)

    def _find(self, deadline: Deadline, provider: Provider | None = None) -> Instance:
        instance = (provider or self._provider()).find(self.name, deadline, self._warned)
        if instance is None:
            raise InstanceError(
                f"There is no machine {self.name} at the provider {self.provider}",
                hint="`remote-runtime list` shows the machines that are known here.",
            )
        return instance

    def _warned(self, event: Event) -> None:
        """Pass the provider's warnings on; the rest of what it tells are parts of a connect's story."""
        if isinstance(event, Notice) and event.level == "warning":
            self._on_event(event)

    def _running(self, deadline: Deadline) -> Instance:
        instance = self._find(deadline)
        if instance.state in ("stopped", "stopping"):
            start = "remote-runtime start, with the same name and options."
            if self.provider == "sandbox":
                start = f"remote-runtime start --sandbox --instance {self.name}"
            raise InstanceError(
                f"{self.name} is {instance.state}, so it can't be asked",
                hint=f"Start it first: {start}",
                code="instance_stopped",
            )
        return instance

    @contextmanager
    def _login(self, instance: Instance, deadline: Deadline, name: str, title: str) -> Iterator[Connection]:
        """A connection for what the block does there, which is told as the step ``name``."""
        from remote_runtime import ssh
        from remote_runtime.link import FIRST_SILENCE_SECONDS, log_in

        try:
            with step(self._on_event, "ssh", f"Logging in to {self.name}"):
                attempt = partial(ssh.connect, ask=self._ask, on_event=self._on_event, deadline=deadline)
                connection = log_in(instance.resolve, attempt, instance.judge, deadline)
            with connection, step(self._on_event, name, title), ssh.Pulse(connection).required(FIRST_SILENCE_SECONDS):
                yield connection
        finally:
            instance.release(deadline)


# -- processes and answers on this host -------------------------------------------------------------------------------


def _answers(summary: MachineSummary, deadline: Deadline) -> bool:
    """Whether Jupyter answers through the forward; the version that is asked for is no secret and needs none."""
    import http.client

    port, _, path = summary.url.removeprefix("http://localhost:").partition("/")
    if not port:
        return False
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=deadline.bounded(_ANSWER_SECONDS))
    try:
        connection.request("GET", f"/{path}api", headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
