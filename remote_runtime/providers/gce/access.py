"""The way to one VM, asked for anew at each login: first as it is remembered, then as Google says.

What is remembered is tried at once, without a call to any API.  When that login fails, the API is asked: the machine is
started if it may be, its address and our key are brought up to date, and a machine that boots is waited for.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal

from remote_runtime import startup_script
from remote_runtime._threads import Deadline
from remote_runtime.errors import (
    AuthenticationFailed,
    HostKeyError,
    InstanceError,
    NetworkError,
    RemoteRuntimeError,
)
from remote_runtime.events import EventSink, Notice, StepProgress, step
from remote_runtime.model import Endpoint
from remote_runtime.providers.gce import ending, login, patience, reach, vouching, ways
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.memory import Known
from remote_runtime.providers.gce.operations import bring_up, fetch, rest, was_preempted
from remote_runtime.providers.gce.options import Reach
from remote_runtime.providers.gce.spec import STARTUP_SCRIPT
from remote_runtime.providers.gce.ways import Means

ASK_EVERY_SECONDS, SOLD_OUT_SECONDS = 10.0, 30.0
"""While a link is down the API is not asked more often than that; the second, if the zone had no such machine left."""

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
LOOK_AGAIN_SECONDS = 15.0
"""While a machine is waited for it is looked at so often: it may have been stopped, or taken away, meanwhile."""

Facts = Literal["remembered", "doubted", "fresh"]
"""Of the last login, that went well; the same, and a login has failed since; or just asked for."""


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
        self._found = self._vm = vm  # as it was found just now, which counts once; as it was seen last
        self._on_event = on_event
        self._facts: Facts = "doubted" if known is None or vm is not None else "remembered"
        self._settled = False  # whether a login went well
        self._complained = self._prepared = self._told_end = False
        self._told_limit = ""
        self._unvouched = "", 0.0  # the id of the VM that showed a key that nothing vouched for, and when it did
        self._sold_out: InstanceError | None = None  # why it could not be started again the last time
        self._asked_at = self._key_added_at = self._first_failure = -float("inf")
        self._failures = 0

    # -- where it is ----------------------------------------------------------------------------------------------

    def resolve(self, deadline: Deadline) -> Endpoint:
        """How to log in now.  Raises what the API and the VM's state give rise to."""
        known = self._known
        if known is None or self._must_ask(known):
            known = self._news(known, deadline)
        elif self._sold_out:
            raise self._sold_out  # it does not run, so that nobody would answer
        hasty, asked_again = self._facts == "remembered", self._unvouched[0] == known.id
        return ways.endpoint(self._name, known, self._means, deadline, hasty=hasty, may_ask=asked_again)

    def _news(self, known: Known | None, deadline: Deadline) -> Known:
        """What Google says of it now; ``known`` if Google can't be asked, and it was there before."""
        self._asked_at = time.monotonic()
        try:
            with self._means.open() as cloud:
                known = self._ask(cloud, deadline)
            self._facts, self._sold_out = "fresh", None
        except InstanceError as error:
            self._sold_out = error if self._settled and error.code == "stock_out" else None
            if not (self._settled and known and error.code in UNASKED):
                raise
            self._tell_unasked(error)
        return known

    def _must_ask(self, known: Known) -> bool:
        if self._settled:
            pause = SOLD_OUT_SECONDS if self._sold_out else ASK_EVERY_SECONDS
            return self._facts == "doubted" and time.monotonic() - self._asked_at > pause
        ends = self._facts == "remembered" and known.key_until - time.time() < login.RENEW_SECONDS
        return self._facts == "doubted" or ends

    def _ask(self, cloud: Cloud, deadline: Deadline) -> Known:
        """Have the machine running, our key on it and its host keys at hand; remember all of that."""
        options, memory = self._means.options, self._means.memory
        vm = self._vm = self._running(cloud, deadline)
        self._prepared = startup_script.is_ours(vm.metadata.get(STARTUP_SCRIPT, ""))
        public = self._public_line()
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
            stops_at=vm.ends,
            jump=self._jump if route == "internal" else "",
            at_end=vm.at_end,
        )
        if known != self._known:
            memory.save(self._name, known)
        self._known = known
        return known

    def _public_line(self) -> str:
        """The key to log in with: the user's, if one was named, else our own."""
        key = self._means.options.key
        return login.public_line(key) if key else login.own_key(self._means.memory.key)

    def _running(self, cloud: Cloud, deadline: Deadline) -> Vm:
        vm, self._found = self._found, None
        if vm is None or self._settled:
            known = self._known
            vm = fetch(cloud, known.zone, self._name, deadline) if known else None
            find = self._means.find_made if self._settled else self._means.find
            vm = vm or find(cloud, deadline)
        check = partial(self._hear_of_its_end, cloud, deadline) if self._settled else None
        vm = bring_up(cloud, vm, deadline, self._say, until_up=self._means.options.retry_until_up, check=check)
        while reach.choose_route(vm, self._reach()) is None:  # its address has yet to be allocated
            deadline.check(f"waiting for the external address of {vm.name}")
            rest(1.0, deadline)
            vm = fetch(cloud, vm.zone, vm.name, deadline) or vm
        return vm

    def _hear_of_its_end(self, cloud: Cloud, deadline: Deadline, vm: Vm) -> None:
        """If it stopped while it was connected, raise that, unless it may be started again."""
        if self._told_end or not ending.has_ended(vm):
            return
        preempted, now = was_preempted(cloud, vm, deadline), time.time()
        error = ending.gone(self._name, vm, preempted=preempted, now=now)
        if not self._means.options.restart or ending.is_being_deleted(vm, preempted=preempted, now=now):
            raise error
        self._told_end = True
        self._on_event(Notice(error.code, f"{error.message}: starting it again", "warning"))

    def _reach(self) -> Reach:
        """The way that was asked for, else the one by which it was reached the last time."""
        asked = self._means.options.reach
        if asked == "auto" and (self._jump or (self._known and self._known.route == "internal")):
            return "internal"
        return asked

    @property
    def _jump(self) -> str:
        """The jump host that was asked for, else that of the last time; empty for none."""
        options = self._means.options
        last = self._known.jump if self._known and options.reach == "auto" else ""
        return options.jump or last

    def expects_preparation(self) -> bool:
        """Whether a startup script of ours is known, and the machine was started so recently that it may yet begin."""
        started = self._vm.started if self._vm else None
        return self._prepared and started is not None and time.time() - started < patience.PREPARATION_SECONDS

    # -- whom to trust ------------------------------------------------------------------------------------------------

    def _vouched(self, cloud: Cloud, vm: Vm, deadline: Deadline) -> tuple[tuple[str, ...], str]:
        """The host keys that Google vouches for, and where they were found; none if it vouches for none.

        They are pinned once per numeric id.
        """
        if self._known and self._known.id == vm.id and self._known.host_keys:
            return self._known.host_keys, self._known.source
        if self._means.options.host_key:
            return (), ""
        shown_by, shown_at = self._unvouched
        return vouching.host_keys(cloud, vm, deadline, self._tell, shown_at=shown_at if shown_by == vm.id else None)

    def _looks_again(self, error: RemoteRuntimeError) -> bool:
        """Whether Google is asked once more for the host keys, before a person is, or the login fails.

        A machine in its first boot may have published them since it was looked at, or be about to.
        """
        known = self._known
        if error.code != "host_key_unknown" or known is None or self._unvouched[0] == known.id:
            return False
        self._unvouched = known.id, time.monotonic()
        self._facts, self._asked_at = "doubted", -float("inf")  # it is asked now, however lately it was asked
        return True

    # -- how it went --------------------------------------------------------------------------------------------------

    def judge(self, error: RemoteRuntimeError | None, deadline: Deadline) -> None:
        """Hear how a login went: None for well.

        Returns if another attempt is worth it now, after having waited for it as long as it takes; else raises the
        error as the person should see it.
        """
        if error is None:
            self._tell_limit()
            self._settled, self._facts, self._failures, self._told_end = True, "remembered", 0, False
            self._asked_at = -float("inf")  # the next outage is another one
            return
        if error.on_the_way and isinstance(error, (HostKeyError, AuthenticationFailed)):
            raise error
        if self._looks_again(error):
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
                if self._prepared:
                    vouching.tell_preparation(cloud, vm, deadline, self._tell)
                vouching.await_sshable(cloud, vm, deadline.sooner(pause))
        else:
            rest(pause, deadline)
        if time.monotonic() - self._asked_at > LOOK_AGAIN_SECONDS:
            self._facts = "doubted"

    def release(self, deadline: Deadline) -> None:
        """Take our key back, if that was asked for.  What hinders that is told, not raised: all else has been done.

        A key of the user's stays, unless it was put there just now.
        """
        known, vm, options = self._known, self._vm, self._means.options
        absent = vm is None and (known is None or known.key_until <= time.time())
        if not options.remove_key or absent or (options.key and self._key_added_at < 0):
            return
        try:
            with self._means.open() as cloud, step(self._on_event, "key", f"Removing our key from {self._name}"):
                vm = fetch(cloud, vm.zone if vm else known.zone if known else "", self._name, deadline)
                if vm:
                    login.withdraw(cloud, vm, known.user if known else options.user, self._public_line(), deadline)
            self._vm = None
            if known:
                self._known = replace(known, key_until=0.0)  # the next login asks for it again
                self._means.memory.save(self._name, self._known)
        except RemoteRuntimeError as error:
            end = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + login.KEY_SECONDS))
            text = f"Our key may still be on {self._name}, until {end} at the latest: {error.message}. {error.hint}"
            self._on_event(Notice("key_left", text, "warning"))

    def _diagnosed(self, error: RemoteRuntimeError) -> RemoteRuntimeError:
        """The error with what the firewall, or the route, says of it.  What can't be learnt is left out."""
        if isinstance(error, HostKeyError) and self._known and self._known.route == "internal":
            hint = f"{error.hint}\nIn the network that you are in, {self._known.address} may be another machine's."
            return HostKeyError(error.message, hint=hint, code=error.code)
        vm, rules = self._vm, None
        mute = isinstance(error, NetworkError) and error.code in ("unreachable", "timeout") and not error.on_the_way
        if not mute or not self._known or vm is None:
            return error
        with suppress(RemoteRuntimeError), self._means.open() as cloud:
            pages = cloud.pages("firewalls", "list", Deadline(FIREWALL_SECONDS))
            rules = [rule for page in pages for rule in page.get("items") or []]
        verdict, hint = reach.diagnosed(vm, self._known.route, rules)
        message = f"{error.message}: {verdict}" if verdict else error.message
        code = "firewall_closed" if verdict else error.code
        return NetworkError(message, hint=hint, code=code, retryable=True)

    def _tell_limit(self) -> None:
        """When the cloud stops or deletes the machine, if it does, and that has not been said."""
        known = self._known
        text = ending.limit(self._name, known.stops_at, known.at_end, time.time()) if known else ""
        if text and text != self._told_limit:
            self._told_limit = text
            self._on_event(Notice("run_limit", text))

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
