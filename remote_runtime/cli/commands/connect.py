"""``remote-runtime connect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from remote_runtime.cli.instructions import after_ready, goodbye
from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import GCE, NEW_VM, machine_options, option, verb
from remote_runtime.cli.precedence import said_here
from remote_runtime.cli.signals import Received
from remote_runtime.cli.terminal import OutputClosed
from remote_runtime.cli.values import FORWARD, HOST_KEY, LOCAL_PORT, ORIGIN, PORT, TEXT
from remote_runtime.cli.vm import new_vm_options
from remote_runtime.errors import UsageError
from remote_runtime.model import Forward, ServerOptions

if TYPE_CHECKING:
    from remote_runtime.providers.gce.spec import GceSpec
    from remote_runtime.runtime import Runtime

LOOK_SECONDS = 0.5

EPILOG = """\b
Examples:
  remote-runtime connect --sandbox
      try it out: a scratch machine on this computer
  remote-runtime connect me@gpu.example.com
      a machine that you reach by SSH
  remote-runtime connect --provider ssh gpu -L 6006:localhost:6006
      a host of your ssh_config, with TensorBoard's port forwarded too
  remote-runtime connect --zone us-central1-a trainer
      a VM of Google Compute Engine, started if it is stopped
  remote-runtime connect --create --gpu l4 --region us-central1 trainer
      the same, made if there is none, in any zone that has a GPU left
  remote-runtime connect me@gpu.example.com --json
      for programs: one JSON object per line, the URL in the line "ready"
"""


@verb("connect", short_help="Connect a machine: prints a URL that works until Ctrl-C.", epilog=EPILOG)
@machine_options(timeout=600)
@new_vm_options
@option("--create", is_flag=True, per_call=True, section=GCE, help="Make the VM if there is none, after asking.")
@option("--restart", is_flag=True, section=GCE, help="Start it again whenever it stops while it is connected.")
@option(
    "--port",
    type=LOCAL_PORT,
    metavar="N|auto",
    section="Ports",
    help="Local port of the URL; auto takes any free one. [default: the last one, else 8888, else a free one]",
)
@option(
    "-L",
    "--forward",
    type=FORWARD,
    multiple=True,
    section="Ports",
    help="Forward one more local port to HOST:PORT as the machine sees it; repeatable.",
)
@option(
    "--remote-port", type=PORT, section="Ports", help="Jupyter's port on the machine. [default: 8888 or a free one]"
)
@option("--python", type=TEXT, metavar="PATH", section="Jupyter", help="The kernels' Python on the machine.")
@option("--notebook-dir", type=TEXT, metavar="DIR", section="Jupyter", help="Directory there to serve notebooks from.")
@option(
    "--allow-origin",
    type=ORIGIN,
    default=ServerOptions.allow_origin,
    section="Jupyter",
    help="The web page that may use the server.  [default: Colab's]",
)
@option(
    "--jupyter-arg",
    type=TEXT,
    multiple=True,
    metavar="ARG",
    section="Jupyter",
    help="Argument of Jupyter; repeatable.",
)
@option(
    "--ui",
    type=click.Choice(["lab", "none"]),
    default=ServerOptions.ui,
    show_default=True,
    section="Jupyter",
    help="Whether JupyterLab is installed if Jupyter is missing.",
)
@option("--upgrade", is_flag=True, section="Jupyter", help="Install the newest supported Jupyter.")
@option(
    "--transport",
    type=click.Choice(["lean", "stock"]),
    default="lean",
    show_default=True,
    section="Ports",
    help="What moves forwarded bytes: our own code, or paramiko's, which always does so behind a jump host.",
)
@option(
    "--new-token",
    is_flag=True,
    per_call=True,
    section="Security",
    help="Make all earlier URLs of this machine invalid.",
)
@option(
    "--host-key",
    type=HOST_KEY,
    per_call=True,
    section="Security",
    help="Accept exactly the SSH host key with this fingerprint.",
)
def command(
    call: Invocation,
    machine: Chosen,
    spec: GceSpec | None,
    create: bool,
    restart: bool,
    port: int | Literal["auto"] | None,
    forward: tuple[Forward, ...],
    remote_port: int | None,
    python: str | None,
    notebook_dir: str | None,
    allow_origin: str,
    jupyter_arg: tuple[str, ...],
    ui: Literal["lab", "none"],
    upgrade: bool,
    transport: Literal["lean", "stock"],
    new_token: bool,
    host_key: str | None,
) -> None:
    """Connect a machine and print a localhost URL of Jupyter on it, for Colab, VS Code or a browser.

    What is missing there is installed and started.  The URL works until Ctrl-C, also over network failures, and is the
    same the next time.  Jupyter keeps running on the machine when the connection ends.
    """
    _check_ports(port, forward)
    if not create:
        _check_not_new()
    if spec:
        machine = machine.with_gce(create=spec if create else None, restart=restart)
    from remote_runtime.api import connect

    options = ServerOptions(
        python=python,
        notebook_dir=notebook_dir,
        remote_port=remote_port,
        allow_origin=allow_origin,
        jupyter_args=jupyter_arg,
        ui=ui,
        upgrade=upgrade,
    )
    with connect(
        machine.target.name,
        provider=machine.target.provider,
        gce=machine.gce,
        user=machine.user,
        host_key=host_key,
        local_port=port,
        forwards=forward,
        server=options,
        new_token=new_token,
        transport=transport,
        timeout=call.timeout,
        on_event=call.on_event,
        settings=call.settings,
        ask=call.ask,
    ) as runtime:
        call.ready = True
        try:
            _announce(call, machine, runtime, forward)
            _stay(call, runtime)
        except Received as end:
            call.say(goodbye(machine.target, end))
            raise


def _check_not_new() -> None:
    """What a new VM shall be was said, but not that one may be made."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if said_here(str(parameter.name)) and getattr(parameter, "section", "") == NEW_VM:
            raise UsageError(
                f"--{str(parameter.name).replace('_', '-')} is for a new VM, and none may be made",
                hint="Add --create, or leave it out.",
            )


def _check_ports(port: int | str | None, forwards: tuple[Forward, ...]) -> None:
    ports = [port, *(forward.local_port for forward in forwards)]
    twice = sorted({str(one) for one in ports if isinstance(one, int) and ports.count(one) > 1})
    if twice:
        raise UsageError(f"Local port {', '.join(twice)} was named twice", hint="Give each forward a port of its own.")


def _announce(call: Invocation, machine: Chosen, runtime: Runtime, forwards: tuple[Forward, ...]) -> None:
    import os

    if call.json:
        call.result(
            "ready",
            f"{machine.target.name} is ready",
            url=runtime.url,
            port=runtime.port,
            token=runtime.token,
            instance=machine.target.name,
            provider=machine.target.provider,
            pid=os.getpid(),
            server_pid=runtime.server.pid,
        )
        return
    call.terminal.out(runtime.url)
    call.rows(after_ready(machine.target, forwards))


def _stay(call: Invocation, runtime: Runtime) -> None:
    """Wait until the link ends for good, a signal comes, or nobody reads our results any more."""
    while runtime.state in ("connected", "reconnecting"):
        runtime.wait(LOOK_SECONDS)
        if call.terminal.closed:
            raise OutputClosed
    runtime.wait(0)
