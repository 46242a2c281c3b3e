"""The machines that this host knows: the verbs on one of them (:class:`Machine`), the list, and stopping all.

Everything here is synchronous, bounded by a ``timeout`` in seconds, prints nothing and prompts only through ``ask``.
"""

from __future__ import annotations

import queue
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from remote_runtime._threads import Deadline, ThreadGroup
from remote_runtime.errors import InstanceError, RemoteRuntimeError, StateError, TimedOut
from remote_runtime.events import Event, EventSink, Notice, log_event
from remote_runtime.machine import Machine, MachineStatus, MachineSummary
from remote_runtime.model import Endpoint
from remote_runtime.providers import load_provider
from remote_runtime.settings import Settings
from remote_runtime.store import Store

__all__ = [
    "ListedVm",
    "Machine",
    "MachineStatus",
    "MachineSummary",
    "Stopped",
    "Vms",
    "known_machines",
    "list_machines",
    "list_vms",
    "stop_all",
]

STOP_ALL_SECONDS = 20.0


def known_machines(settings: Settings) -> list[tuple[str, str]]:
    """Provider and name of each machine that this host remembers and each sandbox that exists, by name.

    A machine that was deleted is remembered for its URL's sake, but it is not known.
    """
    sandboxes = load_provider("sandbox", settings, lookup=_never).list()
    found = {key for key in Store(settings.state_dir).names() if key[0] != "sandbox"}
    found |= {("sandbox", instance.name) for instance in sandboxes}
    return sorted(found, key=lambda key: (key[1], key[0]))


def list_machines(settings: Settings | None = None, on_event: EventSink = log_event) -> list[MachineSummary]:
    """The known machines, and whether they are connected now.

    One whose state is damaged is left out; ``on_event`` hears which file that is, and what to do.
    """
    settings = settings or Settings.load()
    found = []
    for provider, name in known_machines(settings):
        try:
            found.append(Machine(name, provider=provider, settings=settings).summary())
        except StateError as error:
            on_event(Notice(error.code, f"{error.message}. {error.hint}", "warning"))
    return found


@dataclass(frozen=True)
class ListedVm:
    """A VM of Google Compute Engine: ``age`` is how long it runs or exists, ``owner`` what its label says."""

    name: str
    zone: str
    status: str
    age: str
    address: str
    owner: str


@dataclass(frozen=True)
class Vms:
    """The VMs of a project, and the zones that could not be asked."""

    project: str
    vms: tuple[ListedVm, ...]
    unreachable: tuple[str, ...]


def list_vms(*, project: str | None = None, timeout: float = 60, settings: Settings | None = None) -> Vms:
    """The VMs of a project of Google Cloud, in all zones; ``project``: None for gcloud's."""
    from remote_runtime.providers.gce import GceOptions, GceProvider
    from remote_runtime.providers.gce.finding import is_about

    provider = GceProvider(settings or Settings.load(), GceOptions(project=project))
    found, now = provider.vms(Deadline(timeout)), time.time()
    listed = tuple(
        ListedVm(vm.name, vm.zone, vm.status, is_about(vm, now), vm.external or vm.internal, vm.owner)
        for vm in found.vms
    )
    return Vms(provider.project, listed, found.unreachable)


@dataclass(frozen=True)
class Stopped:
    """How stopping one of many machines went: ``ran`` as :meth:`Machine.stop` returns it, ``error`` why it failed."""

    name: str
    provider: str
    ran: bool
    error: RemoteRuntimeError | None


def stop_all(
    *,
    machine: bool = False,
    timeout: float = STOP_ALL_SECONDS,
    settings: Settings | None = None,
    on_event: EventSink = log_event,
) -> list[Stopped]:
    """:meth:`Machine.stop` for all :func:`known_machines`, side by side, ``timeout`` seconds for each.

    ``on_event`` hears their notices; the steps of several machines at once would tell no story.  One that its provider
    does not have (any more) has nothing to be stopped, unless a process of this host keeps it connected.
    """
    settings = settings or Settings.load()
    pending = set(known_machines(settings))
    results: queue.SimpleQueue[Stopped] = queue.SimpleQueue()
    deadlines = {key: Deadline(timeout) for key in pending}

    def stop_one(provider: str, name: str) -> None:
        ran, problem = False, None
        try:
            one = Machine(name, provider=provider, settings=settings, on_event=notices)
            ran = _stop(one, machine, deadlines[provider, name], notices)
        except RemoteRuntimeError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - a thread's top: the others go on
            problem = RemoteRuntimeError(f"Internal error: {type(error).__name__}: {error}", code="internal")
        results.put(Stopped(name, provider, ran, problem))

    def notices(event: Event) -> None:
        if isinstance(event, Notice):
            on_event(event)

    def cancel() -> None:
        for deadline in deadlines.values():
            deadline.cancel()

    group = ThreadGroup(cancel)
    done: list[Stopped] = []
    patience = Deadline(timeout + 1)  # more than theirs, which they keep
    try:
        for provider, name in sorted(pending):
            group.spawn(f"stop-{name}", partial(stop_one, provider, name))
        with suppress(queue.Empty):
            while pending:
                done.append(results.get(timeout=patience.bounded(timeout + 1)))
                pending.discard((done[-1].provider, done[-1].name))
    finally:
        with suppress(RemoteRuntimeError):  # a thread that is stuck is a daemon: it ends with the process
            group.close(1.0)
    late = TimedOut(f"No answer within {timeout:g} s", hint="Try it alone, with a longer --timeout.")
    done += [Stopped(name, provider, False, late) for provider, name in pending]
    return sorted(done, key=lambda stopped: (stopped.name, stopped.provider))


def _stop(one: Machine, machine: bool, deadline: Deadline, on_event: EventSink) -> bool:
    try:
        return one.stop_by(machine, deadline)
    except InstanceError as error:
        if error.code != "instance_not_found" or one.store.held(one.provider, one.name):
            raise
        command = shlex.join(["remote-runtime", "uninstall", one.name])
        text = f"{error.message}, so nothing is to be stopped. If it is gone for good: {command}"
        on_event(Notice("machine_gone", text))
        return False


def _never(target: str, *_: object, **__: object) -> Endpoint:
    raise AssertionError(f"a sandbox is not looked up in ssh_config: {target}")
