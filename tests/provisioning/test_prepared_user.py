"""The last step of a preparation: the server of the user who is named."""

from __future__ import annotations

from remote_runtime import bootstrap, startup_script
from remote_runtime._threads import Deadline
from remote_runtime.events import Event, Notice
from remote_runtime.model import ServerOptions
from tests.provisioning.vm import Prepared

STEP = "Starting the Jupyter server of ada"


def test_server_of_the_named_user(lonely: Prepared) -> None:
    """Whoever has no home yet is left for later; a server that does not start is told to whom connects next."""
    lonely.give_jupyter()
    script = startup_script.render(user="ada")
    lonely.uids.add(64811)
    lonely.run("useradd", "--no-create-home", "--uid", "64811", "--shell", "/bin/bash", "ada")
    assert STEP not in lonely.prepare(script)
    assert lonely.state() == ("ready", "Ready")
    assert "The user ada has no home yet: the first login starts the server" in lonely.log()

    lonely.run("install", "--directory", "--owner=ada", "--group=ada", "--mode=700", "/home/ada")
    lonely.run("touch", "/home/ada/.remote-runtime")
    assert f"remote-runtime: failed: {STEP}: " in lonely.prepare(script, status=1)
    assert lonely.state() == ("failed", STEP)
    assert (lonely.root / "opt/remote-runtime/prepared.json").exists()
    assert lonely.report()["log"]
    events: list[Event] = []
    executor = lonely.executor("root", HOME="/root")
    bootstrap.ensure_server(
        executor, ServerOptions(), token="", restart=True, on_event=events.append, deadline=Deadline(90)
    )
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.code == "preparation_failed"
    assert STEP in notice.text
    assert "/home/ada/.remote-runtime on the VM is not a directory of this user" in notice.text
    assert bootstrap.stop_server(executor, Deadline(60))
