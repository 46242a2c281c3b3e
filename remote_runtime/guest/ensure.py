"""The verb that all others are for: a Jupyter server of ours runs, with what is missing for that and no more."""

from __future__ import annotations

from . import plan, preparation, server
from .loader import GuestFailure
from .locks import exclusive
from .paths import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Sequence

    from .context import Context

WAIT_SECONDS = 20.0  # for a server that lives and does not answer


def ensure(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Adopt our running server, or start one; the result describes it."""
    state, wire, deadline = context.state, context.wire, context.deadline
    plan.check_arguments(request["options"].get("jupyter_args", ()))
    state.make()
    if request.get("await_preparation", True) and not server.alive(state.record()):
        # Not with the lock held: what prepares the machine may start this user's server, which takes the same lock.
        preparation.await_end(wire, deadline, expected=request.get("expects_preparation", False))
    with exclusive(state.root, deadline, wire.say):
        wire.keep_secret(state.token())
        record = _settle(request, context)
        if record is None:
            from .start import start

            return start(request, context)
        server.bound_log(state)
        return describe(state, record, adopted=True, differs=plan.differing(request["options"], record["options"]))


def _settle(request: dict[str, Any], context: Context) -> dict[str, Any] | None:
    """The record of the server to adopt, or None if one has to be started; one that must go is ended."""
    state, wire = context.state, context.wire
    record, token = state.record(), state.token()
    running = server.look(record, token, context.deadline)
    decision = plan.decide(
        running,
        stopped=state.stopped,
        restart=request["restart"],
        new_token=request["new_token"],
        outdated=request["upgrade"] and _outdated(record, context),
    )
    if decision == "stay":
        raise GuestFailure(
            "server_stopped",
            "The Jupyter server was stopped on purpose",
            "Connect again to start it: remote-runtime connect.",
        )
    if decision == "wait":
        wire.say("Waiting for the running Jupyter server to answer")
        server.await_ready(state, record, token, context.deadline.sooner(WAIT_SECONDS))
        decision = "adopt"
    if decision == "replace":
        wire.say("Stopping the running Jupyter server")
        server.stop(record, context.deadline)
    return record if decision == "adopt" else None


def _outdated(record: dict[str, Any], context: Context) -> bool:
    """Whether the server runs something older of ours than this program brings."""
    from .start import current_parts

    return any(record.get(name) not in ("", value) for name, value in current_parts(record, context).items())


def describe(
    state: State,
    record: dict[str, Any],
    *,
    adopted: bool,
    installed: tuple[str, ...] = (),
    differs: Sequence[str] = (),
    died: Sequence[str] = (),
) -> dict[str, Any]:
    """The result frame's value: the server as the host shall know it.

    ``died`` are the last lines of a server that this one had to replace.
    """
    return {
        "pid": record["pid"],
        "port": record["port"],
        "token": state.token(),
        "base_url": record["base_url"],
        "root_dir": record["root_dir"],
        "version": record["version"],
        "python": record["python"],
        "adopted": adopted,
        "installed": list(installed),
        "differs": list(differs),
        "died": list(died),
    }
