"""``remote-runtime stop``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, option, verb
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.events import Notice, step


@verb("stop", short_help="Stop Jupyter on a machine (with --machine the machine too).")
@machine_options(timeout=180, unless="all")
@option(
    "--all",
    is_flag=True,
    per_call=True,
    section="What to stop",
    help="Jupyter on all machines known here, side by side, with 20 seconds for each at most.",
)
@option("--machine", "with_machine", is_flag=True, per_call=True, section="What to stop", help="The machine too.")
def command(call: Invocation, machine: Chosen | None, with_machine: bool) -> None:
    """Stop Jupyter on a machine, with its kernels, and the connection to it.

    Files stay.  Stopping Jupyter in a sandbox stops the sandbox too.
    """
    if machine is None:
        _stop_all(call, with_machine)
        return
    target = machine.target
    ran = call.machine(machine).stop(machine=with_machine, timeout=call.timeout)
    stopped = with_machine or target.provider == "sandbox"
    text = f"Jupyter on {target.name} is stopped" if ran else f"No Jupyter ran on {target.name}"
    call.result(
        "stopped",
        f"{text}; the machine is stopped too" if stopped else text,
        instance=target.name,
        provider=target.provider,
        server_was_running=ran,
        machine_stopped=stopped,
    )


def _stop_all(call: Invocation, with_machine: bool) -> None:
    from remote_runtime.machines import STOP_ALL_SECONDS, stop_all

    with step(call.on_event, "stop", "Stopping Jupyter on all machines"):
        done = stop_all(
            machine=with_machine,
            timeout=min(STOP_ALL_SECONDS, call.timeout),
            settings=call.settings,
            on_event=call.on_event,
        )
    failed = [(stopped.name, stopped.error) for stopped in done if stopped.error]
    for name, error in failed:
        call.on_event(Notice(error.code, f"{name}: {error.message}", "warning"))
    if failed:
        raise RemoteRuntimeError(
            f"{len(failed)} of {len(done)} could not be stopped: {', '.join(name for name, _ in failed)}",
            hint="Try each alone: remote-runtime stop NAME",
            code="stop_failed",
            retryable=any(error.retryable for _, error in failed),
        )
    names = [stopped.name for stopped in done]
    call.result(
        "stopped",
        f"Stopped: {', '.join(names)}" if names else "No machine is known, so none had to be stopped",
        runtimes=[
            {"name": stopped.name, "provider": stopped.provider, "server_was_running": stopped.ran} for stopped in done
        ],
    )
