"""The way to one VM, asked for anew at each login: first as it is remembered, then as Google says.

What is remembered is tried at once, without a call to any API.  When that login fails, the API is asked: the machine is
started if it may be, its address and our key are brought up to date, and a machine that boots is waited for.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from remote_runtime._threads import Deadline
from remote_runtime.errors import (
    AuthenticationFailed,
    HostKeyError,
    InstanceError,
    NetworkError,
    RemoteRuntimeError,
)
from remote_runtime.events import EventSink, Notice, StepProgress
from remote_runtime.model import Dial, Direct, Endpoint, Fingerprint, HostKeyTrust, Identity, KnownHosts, Pinned, Via
from remote_runtime.providers.gce import finding, login, patience, reach, vouching
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.memory import Known, Memory
from remote_runtime.providers.gce.operations import bring_up, fetch, rest, was_preempted
from remote_runtime.providers.gce.options import GceOptions, Reach

HASTY_SECONDS = 4.0
"""A remembered address that does not answer within this time is asked about."""

ASK_EVERY_SECONDS = 10.0
"""While a link is down the API is not asked more often than that."""

UNASKED = (
    "api_disabled",
    "api_failing",
    "api_unreachable",
    "billing_disabled",
    "credentials_missing",
    "credentials_rejected",
    "credentials_unreadable",
    "permission_denied",
    "rate_limited",
)
"""Errors that say nothing of the machine: once it was connected, it is looked for where it was."""

FIREWALL_SECONDS = 20.0
LOOK_AGAIN_FAILURES = 15

Facts = Literal["remembered", "doubted", "fresh"]
"""Of the last login, that went well; the same, and a login has failed since; or just asked for."""


@dataclass(frozen=True)
class Means:
    """What the way to a VM needs: ``open`` gives the API, ``find`` the VM in it (made if that was asked for)."""

    options: GceOptions
    memory: Memory
    open: Callable[[], Cloud]
    find: Callable[[Cloud, Deadline], Vm]


class Access:
    """Gives the endpoint of one VM (:meth:`resolve`), and hears how logins there went (:meth:`judge`).

    ``known``: what is remembered of it, and may still be true.  ``vm``: the VM as it was found just now.
    """

    def __init__(
        self, name: str, means: Means, *, known: Known | None, vm: Vm | None = None, on_event: EventSink
    ) -> None:
        self._name = name
        self._means = means
        self._known = known
        self._vm = vm
        self._on_event = on_event
        self._facts: Facts = "doubted" if known is None or vm is not None else "remembered"
        self._settled = False  # whether a login went well
        self._complained = False
        self._asked_at = self._key_added_at = self._first_failure = -float("inf")
        self._failures = 0

    # -- where it is ----------------------------------------------------------------------------------------------

    def resolve(self, deadline: Deadline) -> Endpoint:
        """How to log in now.  Raises what the API and the VM's state give rise to."""
        known = self._known
        if known and not self._must_ask(known):
            return self._endpoint(known)
        self._asked_at = time.monotonic()
        try:
            with self._means.open() as cloud:
                known = self._ask(cloud, deadline)
            self._facts = "fresh"
        except InstanceError as error:
            if not (self._settled and known and error.code in UNASKED):
                raise
            self._tell_unasked(error)
        return self._endpoint(known)

    def _must_ask(self, known: Known) -> bool:
        if self._settled:
            return self._facts == "doubted" and time.monotonic() - self._asked_at > ASK_EVERY_SECONDS
        ends = self._facts == "remembered" and known.key_until - time.time() < login.RENEW_SECONDS
        return self._facts == "doubted" or ends

    def _ask(self, cloud: Cloud, deadline: Deadline) -> Known:
        """Have the machine running, our key on it and its host keys at hand; remember all of that."""
        options, memory = self._means.options, self._means.memory
        vm = self._running(cloud, deadline)
        public = login.public_line(options.key) if options.key else login.own_key(memory.key)
        user = options.user or (self._known.user if self._known else None)
        admitted = login.let_in(cloud, vm, public, user, time.time(), deadline)
        if admitted.added:
            self._key_added_at = time.monotonic()
        route = reach.choose_route(vm, self._reach())
        address = {"external": vm.external, "internal": vm.internal, "iap": vm.internal}[route or "external"]
        pins, source = self._vouched(cloud, vm, deadline)
        known = Known(
            project=vm.project,
            zone=vm.zone,
            id=vm.id,
            user=admitted.user,
            route=route or "external",
            address=address,
            key=str(options.key or memory.key),
            key_until=min(admitted.until, time.time() + 10 * login.KEY_SECONDS),
            host_keys=pins,
            source=source,
            stops_at=(vm.started or time.time()) + vm.run_limit if vm.run_limit else 0.0,
        )
        if known != self._known:
            memory.save(self._name, known)
        self._known, self._vm = known, vm
        return known

    def _running(self, cloud: Cloud, deadline: Deadline) -> Vm:
        vm, self._vm = self._vm, None
        if vm is None or self._settled:
            known = self._known
            vm = fetch(cloud, known.zone, self._name, deadline) if known else None
            vm = vm or self._means.find(cloud, deadline)
        if self._settled and not self._means.options.restart and finding.next_step(vm) != "use":
            raise finding.gone(self._name, vm, preempted=was_preempted(cloud, vm, deadline))
        vm = bring_up(cloud, vm, deadline, self._say)
        while reach.choose_route(vm, self._reach()) is None:  # its address has yet to be allocated
            deadline.check(f"waiting for the external address of {vm.name}")
            rest(1.0, deadline)
            vm = fetch(cloud, vm.zone, vm.name, deadline) or vm
        return vm

    def _reach(self) -> Reach:
        """The way that was asked for, else the one by which it was reached the last time."""
        asked = self._means.options.reach
        if asked == "auto" and self._known and self._known.route == "internal":
            return "internal"
        return asked

    # -- whom to trust ------------------------------------------------------------------------------------------------

    def _vouched(self, cloud: Cloud, vm: Vm, deadline: Deadline) -> tuple[tuple[str, ...], str]:
        """The host keys that Google vouches for, and where they were found; none if it vouches for none.

        They are pinned once per numeric id.
        """
        if self._known and self._known.id == vm.id and self._known.host_keys:
            return self._known.host_keys, self._known.source
        if self._means.options.host_key:
            return (), ""
        return vouching.host_keys(cloud, vm, deadline, self._tell)

    def _trust(self, known: Known) -> HostKeyTrust:
        accepted = KnownHosts(
            name=f"compute.{known.id}", files=(), accepted=self._means.memory.accepted_host_keys, alias=True
        )
        if self._means.options.host_key:
            return Fingerprint(self._means.options.host_key, accepted)
        return Pinned(known.host_keys, known.source) if known.host_keys else accepted

    def _endpoint(self, known: Known | None) -> Endpoint:
        assert known is not None  # noqa: S101 - there is one, or an error was raised
        return Endpoint(
            host=known.address,
            user=known.user,
            trust=self._trust(known),
            identities=(Identity(Path(known.key)),),
            only_identities=True,
            via=self._via(known),
        )

    def _via(self, known: Known) -> Via:
        if known.route == "iap":
            return Dial(partial(_dial_iap, self._means, known, self._name), f"IAP to {self._name}")
        if self._facts == "remembered":
            return Dial(partial(_dial_hastily, known.address), known.address)
        return Direct()

    # -- how it went --------------------------------------------------------------------------------------------------

    def judge(self, error: RemoteRuntimeError | None, deadline: Deadline) -> None:
        """Hear how a login went: None for well.

        Returns if another attempt is worth it now, after having waited for it as long as it takes; else raises the
        error as the person should see it.
        """
        if error is None:
            if not self._settled:
                self._tell_limit()
            self._settled, self._facts, self._failures = True, "remembered", 0
            self._asked_at = -float("inf")  # the next outage is another one
            return
        if self._facts == "remembered":
            self._facts = "doubted"
            if not self._settled or isinstance(error, (HostKeyError, AuthenticationFailed)):
                return
        if self._settled:
            self._facts = "doubted"
            raise error
        now = time.monotonic()
        self._first_failure = now if not self._failures else self._first_failure
        self._failures += 1
        started = self._vm.started if self._vm else None
        if deadline.expired or not patience.worth_waiting(
            error,
            since_boot=time.time() - started if started else float("inf"),
            since_key=now - self._key_added_at,
            since_first=now - self._first_failure,
        ):
            raise self._diagnosed(error)
        self._wait_for_boot(error, deadline)

    def _wait_for_boot(self, error: RemoteRuntimeError, deadline: Deadline) -> None:
        """Until the next attempt, which comes as soon as the guest says that it can be logged in to, if it does.

        The machine's own words are shown meanwhile.
        """
        pause = patience.pause(error, self._failures)
        vm = self._vm
        if vm and vouching.publishes(vm) and self._failures > 1:
            with suppress(RemoteRuntimeError), self._means.open() as cloud:
                vouching.tell_console(cloud, vm, deadline, self._tell)
                vouching.await_sshable(cloud, vm, deadline.sooner(pause))
        else:
            rest(pause, deadline)
        if self._failures % LOOK_AGAIN_FAILURES == 0:
            self._facts = "doubted"  # it may have been stopped while it was booting

    def _diagnosed(self, error: RemoteRuntimeError) -> RemoteRuntimeError:
        """The error with what the firewall says of it.  What can't be learnt is left out."""
        if not isinstance(error, NetworkError) or error.code not in ("unreachable", "timeout") or not self._known:
            return error
        vm, rules = self._vm, None
        if vm is None:
            return error
        with suppress(RemoteRuntimeError), self._means.open() as cloud:
            pages = cloud.pages("firewalls", "list", Deadline(FIREWALL_SECONDS))
            rules = [rule for page in pages for rule in page.get("items") or []]
        verdict, hint = reach.diagnosed(vm, self._known.route, rules)
        message = f"{error.message}: {verdict}" if verdict else error.message
        code = "firewall_closed" if verdict else error.code
        return NetworkError(message, hint=hint, code=code, retryable=True)

    def _tell_limit(self) -> None:
        """When the cloud stops the machine, if it does."""
        if self._known and self._known.stops_at:
            at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._known.stops_at))
            self._on_event(Notice("run_limit", f"Google stops {self._name} at {at}, as was asked when it was made"))

    def _say(self, text: str) -> None:
        self._on_event(StepProgress("instance", text))

    def _tell_unasked(self, error: InstanceError) -> None:
        """That Google can't be asked, if a person has to do something about that."""
        if not (error.retryable or self._complained):
            self._complained = True
            text = f"The machine is looked for where it was, since Google can't be asked: {error.message}. {error.hint}"
            self._on_event(Notice("cloud_not_asked", text, "warning"))

    def _tell(self, line: str) -> None:
        """What the machine says while it is waited for."""
        self._on_event(StepProgress("ssh", line))


def _dial_hastily(address: str, deadline: Deadline) -> socket.socket:
    from remote_runtime.ssh.dial import tcp

    return tcp(address, reach.SSH_PORT, deadline.sooner(HASTY_SECONDS))


def _dial_iap(means: Means, known: Known, name: str, deadline: Deadline) -> socket.socket:
    """A socket through IAP's relay."""
    from remote_runtime.providers.gce.iap import dial

    def token() -> str:
        with means.open() as cloud:
            return cloud.token()

    return dial(
        project=known.project, zone=known.zone, instance=name, port=reach.SSH_PORT, token=token, deadline=deadline
    )
