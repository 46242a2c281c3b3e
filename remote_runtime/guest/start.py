"""Starting a server: choose its Python, bring what it lacks, tell it what we need, wait until it answers."""

from __future__ import annotations

import os
import shutil
import time

from . import config, parts, plan, probe, processes, server
from .ensure import describe
from .loader import GuestFailure, private_directory, write_private
from .paths import in_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context

LAST_LINES = 12


def start(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Start the server; the result describes it."""
    state = context.state
    deaths, last_words = _mourn(request, context)
    options = plan.merge_options(request["options"], state.record().get("options", {}))
    plan.check_arguments(options["jupyter_args"])
    root_dir = _root_dir(options["notebook_dir"], state.home)
    _settle_token(request, context)
    choice = _choose(options, context)
    extension, installed = parts.unpack_extension(context)
    record = {
        "base_url": plan.base_url(options["jupyter_args"]),
        "root_dir": root_dir,
        "extension": os.path.basename(extension),
        "options": options,
        "deaths": deaths,
    }
    _write_kernelspec(choice.kernel, context)
    upgrade, theirs = request["upgrade"], choice.server
    try:
        record, built = _serve(record, choice, context, upgrade=upgrade)
    except GuestFailure as failure:
        # Only now is it looked at closely: that would cost every start the time of an import.
        if failure.code != "server_died" or not theirs or probe.can_serve(theirs.executable, context.deadline):
            raise
        context.wire.say("The Jupyter in %s is broken, so it is left alone" % theirs.executable)
        record, built = _serve(record, plan.Choice(None, choice.kernel), context, upgrade=upgrade)
    state.stopped = False
    return describe(state, record, adopted=False, installed=(*built, *installed), died=last_words)


def _serve(
    record: dict[str, Any], choice: plan.Choice, context: Context, *, upgrade: bool
) -> tuple[dict[str, Any], list[str]]:
    """Launch the server in the Python that was chosen, or in an environment of ours.

    The complete record, and what had to be installed.
    """
    found, environment = choice.server, ""
    installed: list[str] = []
    if found is None:
        found, environment, installed = parts.own_environment(record["options"]["ui"], upgrade, context)
    record = {
        **record,
        "version": found.server,
        "python": choice.kernel.executable if choice.kernel else found.executable,
        "environment": environment,
    }
    return _launch(record, found, context, ours=bool(environment), kernel=choice.kernel is not None), installed


def _mourn(request: dict[str, Any], context: Context) -> tuple[list[float], list[str]]:
    """When the server died of late, and the last lines of the one that is dead now.

    GuestFailure ``server_keeps_dying`` if a reconnect would start it again and again.
    """
    state = context.state
    record = state.record()
    wanted = record.get("ended") or state.stopped or request["new_token"] or request["upgrade"]
    missed = bool(record) and not wanted
    # A machine that is reset again and again is no fault of its server's.
    died = missed and plan.of_one_boot(record["started"], processes.started(os.getpid()))
    deaths = plan.recent_deaths(record.get("deaths", []), time.time(), died=died, forgiven=request["restart"])
    last_words = context.wire.clean_lines(server.log_tail(state, LAST_LINES), LAST_LINES) if missed else []
    if plan.keeps_dying(deaths) and not request["restart"]:
        raise GuestFailure(
            "server_keeps_dying",
            "The Jupyter server died %d times within %d minutes" % (len(deaths), plan.DEATH_WINDOW_SECONDS // 60),
            "Its last lines may say why (often memory has run out). Connect again to start it once more.",
            log=last_words,
        )
    return deaths, last_words


def _settle_token(request: dict[str, Any], context: Context) -> None:
    state = context.state
    old = state.token()
    token = plan.choose_token(vm=old, host=request["token"], new=request["new_token"], fresh=os.urandom(24).hex())
    context.wire.keep_secret(token)
    if token != old:
        state.write_token(token)


def _root_dir(wanted: str | None, home: str) -> str:
    """The directory to serve, ``~`` being the home; GuestFailure if it is not there."""
    path = os.path.normpath(in_home(home, wanted or ""))
    if not os.path.isdir(path):
        raise GuestFailure(
            "notebook_dir_missing", "There is no directory %s on the VM" % path, "Make it there, or name another one."
        )
    return path


def _choose(options: dict[str, Any], context: Context) -> plan.Choice:
    """Ask the Pythons of this machine what they have, until the choice is clear."""
    home, environ, deadline = context.state.home, context.environ, context.deadline
    context.wire.say("Looking for Jupyter")
    asked = options["python"]
    if asked:
        python = probe.locate(asked, environ, home)
        choice = plan.choose_jupyter(asked=asked, asked_found=probe.ask(python, deadline), found=None)
    else:
        found = None
        for found in probe.find(environ, home, deadline):
            if plan.usable(found):
                break
            if found.server:
                context.wire.say("Jupyter Server %s in %s is too old" % (found.server, found.executable))
        choice = plan.choose_jupyter(asked=None, asked_found=None, found=found)
    if choice.server:
        context.wire.say("Found Jupyter Server %s in %s" % (choice.server.server, choice.server.executable))
    return choice


def _write_kernelspec(kernel: plan.Found | None, context: Context) -> None:
    """Make the kernels run in the Python that was asked for, if it is not the server's own."""
    data = context.state.data
    if os.path.isdir(data):
        shutil.rmtree(data)
    if kernel:
        directory = os.path.join(private_directory(data), "kernels", "python3")
        os.makedirs(directory)
        spec = config.kernelspec(kernel.executable, kernel.python_version)
        write_private(os.path.join(directory, "kernel.json"), spec)


def _launch(record: dict[str, Any], found: plan.Found, context: Context, *, ours: bool, kernel: bool) -> dict[str, Any]:
    """Start it on the first port that works; the complete record."""
    state, options = context.state, record["options"]
    wanted = options["remote_port"]
    kept = state.record().get("port", 0)
    failures = 0
    for candidate in plan.port_candidates(wanted=wanted, kept=kept):
        port = candidate or processes.any_port()
        if not processes.port_free(port):
            continue
        try:
            return _start_on(port, record, found, context, ours=ours, kernel=kernel)
        except GuestFailure as failure:
            # Another program may have taken the port between our look and Jupyter's, and may even be gone again: so
            # one death proves nothing, unless nobody but Jupyter can be meant.
            failures += 1
            if failure.code != "server_died" or (processes.port_free(port) and (wanted or failures > 1)):
                raise
    raise GuestFailure(
        "server_port_taken",
        "Port %s on the VM is in use by another program" % (wanted or "8888"),
        "Choose another one with --remote-port, or leave that option out.",
        retryable=True,
    )


def _start_on(
    port: int, record: dict[str, Any], found: plan.Found, context: Context, *, ours: bool, kernel: bool
) -> dict[str, Any]:
    state = context.state
    data = state.data if kernel else None
    environ = config.environment(
        context.environ, config=state.config, data=data, bin_dir=os.path.dirname(found.executable)
    )
    traits = config.traits(
        record["options"],
        port=port,
        root_dir=record["root_dir"],
        base_url=record["base_url"],
        lab=bool(found.lab) and record["options"]["ui"] == "lab",
        root=os.geteuid() == 0,
    )
    text = config.render(
        traits,
        extension=parts.extension_place(record["extension"], context),
        token_file=state.token_file,
        home=state.home,
        restore={"JUPYTER_CONFIG_PATH": context.environ.get("JUPYTER_CONFIG_PATH")},
    )
    write_private(os.path.join(private_directory(state.config), config.CONFIG_FILE), text)
    context.wire.say("Starting Jupyter Server %s on port %d" % (found.server, port))
    command = config.command(found.executable, record["options"]["jupyter_args"], borrowed=not ours)
    child = server.spawn(state, command, environ, context.users_umask)
    record = {**record, "pid": child.pid, "started": processes.started(child.pid), "port": port}
    former = state.record().get("options", {})
    # Written before it runs: if we are cut off now, the next connect finds it and waits for it.
    state.write_record(record)
    server.release(child)
    try:
        server.await_ready(state, record, state.token(), context.deadline.sooner(server.START_SECONDS), child)
    except GuestFailure as failure:
        if failure.code == "server_died":  # perhaps of its options, which nobody shall get without asking for them
            state.write_record({**record, "options": former})
        raise
    return record


def current_parts(record: dict[str, Any], context: Context) -> dict[str, str]:
    """The parts of ours that a server started now would use, to compare with a running one's."""
    ui = plan.merge_options({}, record["options"])["ui"]
    return {"extension": parts.extension_key(), "environment": parts.environment_key(ui, context)}
