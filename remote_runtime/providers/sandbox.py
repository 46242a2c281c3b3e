"""Provider ``sandbox``: a scratch home on this very machine, behind a real SSH server on loopback.

It needs no cloud, no account and no root, and behaves as any other machine does.  It isolates nothing: what runs in it
has all the rights of the user who made it.
"""

from __future__ import annotations

import builtins
from functools import partial
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, UsageError
from remote_runtime.events import EventSink, Notice, log_event
from remote_runtime.model import Endpoint, Identity, Instance, InstanceSpec, Pinned
from remote_runtime.providers import _sandbox_openssh
from remote_runtime.providers import _sandbox_server as server
from remote_runtime.providers._sandbox_files import SandboxFiles
from remote_runtime.providers._sandbox_plan import State, candidates, is_name
from remote_runtime.settings import Settings


class SandboxProvider:
    """Sandboxes of this user, below ``state_dir/sandboxes``.

    The option ``sandbox_server`` (auto, openssh, asyncssh) says which SSH server a sandbox gets when it is started.
    Methods raise :class:`UsageError` for a bad name, :class:`StateError` for directories that can't be used safely,
    and :class:`InstanceError` with the codes ``instance_not_found``, ``instance_exists``, ``instance_stopped``,
    ``sandbox_unavailable`` and ``stop_failed``.
    """

    name = "sandbox"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kinds = candidates(settings.option("sandbox_server", "auto"))

    def ensure(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:
        """The sandbox, made and started if need be."""
        files = self._files(name)
        with files.lock(deadline):
            new = not files.exists()
            if new:
                files.make()
            state = self._up(files, deadline)
        if new:
            _warn(name, on_event)
        return self._instance(files, state)

    def find(
        self,
        name: str,
        deadline: Deadline | None = None,  # noqa: ARG002
        on_event: EventSink = log_event,  # noqa: ARG002
    ) -> Instance | None:
        """The sandbox as it is now, or None."""
        files = self._files(name)
        return self._instance(files, files.load()) if files.exists() else None

    def list(self, deadline: Deadline | None = None) -> builtins.list[Instance]:  # noqa: ARG002
        """All sandboxes, by name."""
        root = self._settings.state_dir / "sandboxes"
        names = sorted(path.parent.parent.name for path in root.glob("*/server/state.json"))
        return [found for name in names if is_name(name) and (found := self.find(name))]

    def create(self, spec: InstanceSpec, deadline: Deadline, on_event: EventSink) -> Instance:
        """Make a sandbox and start it."""
        files = self._files(spec.name)
        with files.lock(deadline):
            if files.exists():
                raise InstanceError(
                    f"There is a sandbox {spec.name} already",
                    hint=f"Connect to it, or: remote-runtime delete --sandbox --instance {spec.name}",
                    code="instance_exists",
                )
            files.make()
            state = self._up(files, deadline)
        _warn(spec.name, on_event)
        return self._instance(files, state)

    def creation_request(self, spec: InstanceSpec, deadline: Deadline) -> dict[str, Any]:  # noqa: ARG002
        """Not supported: nothing is asked of anybody."""
        raise _refused("show the request for", spec.name)

    def start(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:  # noqa: ARG002
        """Start the sandbox's SSH server if it does not run."""
        files = self._existing(name)
        with files.lock(deadline):
            return self._instance(files, self._up(files, deadline))

    def stop(self, name: str, deadline: Deadline) -> None:
        """End the SSH server, its connections and all that was started in the sandbox, as a machine's stop does."""
        files = self._existing(name)
        with files.lock(deadline):
            server.stop(files, deadline)

    def change(self, verb: str, name: str, deadline: Deadline) -> Instance:  # noqa: ARG002
        """Not supported."""
        raise _refused(verb, name)

    def delete(self, name: str, deadline: Deadline, *, keep_disks: bool = False) -> None:
        """Stop the sandbox and remove its home."""
        if keep_disks:
            raise UsageError("A sandbox has no disks that could be kept", hint="Leave out --keep-disks.")
        files = self._existing(name)
        with files.lock(deadline):
            server.stop(files, deadline)
            files.remove()

    def _resolve(self, name: str, deadline: Deadline) -> Endpoint:
        """How to log in now.  A server that died is started again; one that was stopped on purpose is not."""
        files = self._existing(name)
        state = files.load()
        if not state.pid:
            raise InstanceError(
                f"The sandbox {name} is stopped",
                hint=f"Start it: remote-runtime connect --sandbox --instance {name}",
                code="instance_stopped",
            )
        if not server.running(files, state):
            with files.lock(deadline):
                state = self._up(files, deadline)
        if state.kind == "openssh":
            _sandbox_openssh.repair(files)
        return Endpoint(
            host="127.0.0.1",
            port=state.port,
            user=_sandbox_openssh.account_name(),
            trust=Pinned((files.host_key(),), "the sandbox's own key file"),
            identities=(Identity(files.client_key),),
            only_identities=True,
        )

    def forget(self, name: str, deadline: Deadline) -> None:
        """Nothing: its key goes with it."""

    def refusal(self, verb: str, name: str) -> InstanceError | None:
        """Why it can't suspend, resume or reset; None for the other verbs."""
        return _refused(verb, name) if verb in ("suspend", "resume", "reset") else None

    def _up(self, files: SandboxFiles, deadline: Deadline) -> State:
        """The running server's state: adopted if it answers, else started.  The caller holds the lock."""
        files.check()
        state = files.load()
        process = server.running(files, state)
        if process and server.answers(state.port, deadline):
            return state
        if process:
            server.end(files, process, deadline)  # it hangs
        return server.start(files, self._kinds, self._settings.environ, deadline)

    def _instance(self, files: SandboxFiles, state: State) -> Instance:
        up = server.running(files, state) is not None
        detail = f"{state.version} on 127.0.0.1:{state.port}" if up else ""
        return Instance(
            files.name, self.name, "running" if up else "stopped", partial(self._resolve, files.name), detail
        )

    def _files(self, name: str) -> SandboxFiles:
        return SandboxFiles(self._settings.state_dir, name)

    def _existing(self, name: str) -> SandboxFiles:
        files = self._files(name)
        if not files.exists():
            raise InstanceError(
                f"There is no sandbox {name}", hint=f"Make it: remote-runtime connect --sandbox --instance {name}"
            )
        files.check()
        return files


def _warn(name: str, on_event: EventSink) -> None:
    text = f"Sandboxes isolate nothing: what runs in {name} has all your rights on this computer"
    on_event(Notice("sandbox_isolates_nothing", text, "warning"))


def _refused(verb: str, name: str) -> InstanceError:
    return InstanceError(
        f"Can't {verb} {name}: a sandbox has no machine of its own",
        hint="It can be stopped and started.",
        code="not_supported",
    )
