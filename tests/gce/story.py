"""The life of a VM as a user of the library leads it: the same on the stand-in and on Google's own cloud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from remote_runtime import GceOptions, GceSpec, Settings, connect
from remote_runtime.errors import InstanceError, RemoteRuntimeError
from remote_runtime.machine import Machine
from remote_runtime.machines import list_vms

LONGEST_RUN_SECONDS = 3600
MINUTES = 60.0
USER = "tester"


def tell(name: str, *, project: str, zone: str, settings: Settings) -> None:
    """Make a small VM, run a cell on it, stop it, start it, run a cell at the same URL, delete it; nothing is left.

    Whatever happens, it is deleted at the end; and if this
    program is killed, by the cloud after an hour.
    """
    places = GceOptions(project=project, zones=(zone,), remove_key=True)
    machine = Machine(name, gce=places, user=USER, settings=settings)
    with _deleted_at_the_end(machine):
        machine.create(_smallest(name), timeout=5 * MINUTES)
        url = _visit(name, places, settings)
        machine.stop(machine=True, timeout=5 * MINUTES)
        assert machine.status(timeout=MINUTES).instance == "stopped"
        machine.start(timeout=5 * MINUTES)
        assert _visit(name, places, settings) == url
        machine.delete(timeout=5 * MINUTES)
    left = list_vms(project=project, timeout=MINUTES, settings=settings).vms
    assert name not in [vm.name for vm in left]


def _smallest(name: str) -> GceSpec:
    return GceSpec(
        name,
        machine_type="e2-medium",
        disk_gb=10,
        disk_type="pd-standard",
        max_run_seconds=LONGEST_RUN_SECONDS,
        at_end="delete",
        labels={"purpose": "test"},
    )


def _visit(name: str, places: GceOptions, settings: Settings) -> str:
    """Connect, run a cell, and say at which URL that was."""
    options = {"gce": places, "user": USER, "local_port": "auto", "settings": settings}
    with connect(name, timeout=15 * MINUTES, **options) as runtime:  # type: ignore[arg-type]
        said = runtime.execute("import socket; print(socket.gethostname(), 6 * 7)", timeout=MINUTES).text
        assert said.split() == [name, "42"]
        return runtime.url


@contextmanager
def _deleted_at_the_end(machine: Machine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(RemoteRuntimeError):
            machine.delete(timeout=5 * MINUTES)
        raise
    try:
        machine.delete(timeout=5 * MINUTES)
    except InstanceError as error:
        assert error.code == "instance_not_found", error
    else:
        raise AssertionError("it was still there after it had been deleted")
