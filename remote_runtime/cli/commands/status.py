"""``remote-runtime status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.layout import fold
from remote_runtime.cli.options import machine_options, verb

if TYPE_CHECKING:
    from remote_runtime.machine import MachineStatus

HANG = 12


@verb("status", short_help="Ask a machine how it is.")
@machine_options(timeout=30)
def command(call: Invocation, machine: Chosen) -> None:
    """Ask a machine, its Jupyter server and the connection to it how they are.

    The exit status is 1 if the machine could not be asked.
    """
    call.reporting = True
    status = call.machine(machine).status(timeout=call.timeout)
    lines = [fold(line, call.terminal.out_width, hang=HANG) for line in as_lines(status)]
    call.document(as_document(status), lines)
    if status.error:
        raise status.error


def as_document(status: MachineStatus) -> dict[str, Any]:
    """The status as plain values; without the token."""
    server, known = status.server, status.summary
    return {
        "name": known.name,
        "provider": known.provider,
        "state": known.state,
        "instance": {"state": status.instance, "detail": status.detail},
        "server": {
            "state": _server_state(status),
            "pid": server.pid if server else None,
            "port": server.port if server else None,
            "version": server.version if server else None,
            "python": server.python if server else None,
            "root_dir": server.root_dir if server else None,
        },
        "forward": None if status.answers is None else {"url": known.url, "pid": known.pid, "answers": status.answers},
        "error": status.error.to_dict() if status.error else None,
    }


def as_lines(status: MachineStatus) -> list[str]:
    """The status for people."""
    known, server = status.summary, status.server
    rows = [
        ("Machine", f"{known.name} ({known.provider}): {status.instance}", status.detail),
        (
            "Jupyter",
            f"{_server_state(status)}, port {server.port}, process {server.pid}" if server else _server_state(status),
            f"version {server.version}, {server.python}" if server and server.version else "",
        ),
    ]
    if status.answers is None:
        rows.append(("Connection", "none from this computer", ""))
    else:
        answers = "answers" if status.answers else "does not answer"
        rows.append(
            ("Connection", f"{known.url or 'being made'} {answers}", f"process {known.pid}" if known.pid else "")
        )
    return [f"{name:<{HANG}}{text}" + (f"  ({detail})" if detail else "") for name, text, detail in rows]


def _server_state(status: MachineStatus) -> str:
    if status.server:
        return "running"
    return "unknown" if status.error else "stopped"
