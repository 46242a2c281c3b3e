"""Provider ``gce``: virtual machines of Google Compute Engine.

Nothing of google.* is imported before a call to an API is needed.
"""

from __future__ import annotations

import builtins
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from remote_runtime import startup_script
from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, UsageError
from remote_runtime.events import EventSink, Notice, StepProgress, log_event
from remote_runtime.model import Endpoint, Instance, InstanceSpec
from remote_runtime.providers.gce import creating, credentials, finding, gcloud, login, metadata, spec
from remote_runtime.providers.gce.access import Access
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.memory import Known, Memory
from remote_runtime.providers.gce.operations import bring_up, change, everything, fetch, look
from remote_runtime.providers.gce.options import GceOptions
from remote_runtime.providers.gce.spec import GceSpec
from remote_runtime.providers.gce.ways import Means
from remote_runtime.providers.gce.zones import UnknownZone
from remote_runtime.settings import Settings

__all__ = ["GceOptions", "GceProvider", "GceSpec"]

FIND_SECONDS = 60.0


class GceProvider:
    """The VMs of one project.

    Methods raise :class:`InstanceError` (:class:`~.failures.CloudError` for what Google refuses), and
    :class:`UsageError` for what can't be meant.
    """

    name = "gce"

    def __init__(self, settings: Settings, options: GceOptions) -> None:
        self._settings = settings
        self._options = options
        self._properties = gcloud.read_properties(settings.environ, settings.home)
        self._memory = Memory(settings.state_dir)
        self._on_event: EventSink = log_event
        self._step = "instance"  # of which progress is told
        self._meant: Vm | None = None  # by the name, since it was made or found here

    # -- finding ------------------------------------------------------------------------------------------------------

    def ensure(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:
        """The machine, ready to be logged in to: started or resumed if need be, made if that was asked for.

        One that is remembered is not asked about: whether it is still there shows at the login.
        """
        self._on_event, self._step = on_event, "instance"
        known = self._remembered(name)
        if known:
            access = Access(name, self._means(name), known=known, on_event=on_event)
            instance = self._instance(name, "unknown", access, known.zone)
        else:
            with self._open() as cloud:
                vm = self._find_or_make(name, cloud, deadline)
                vm = bring_up(cloud, vm, deadline, self._say, until_up=self._options.retry_until_up)
            instance = self._as_instance(vm, on_event)
        return instance

    def find(self, name: str, deadline: Deadline | None = None, on_event: EventSink = log_event) -> Instance | None:
        """The machine as it is now, or None.  From then on it alone is what this provider means by its name."""
        self._on_event, self._step = on_event, "instance"
        with self._open() as cloud:
            vm, _ = self._look(name, cloud, deadline or Deadline(FIND_SECONDS))
            self._meant = vm or self._meant
        return self._as_instance(vm, on_event) if vm else None

    def list(self, deadline: Deadline | None = None) -> builtins.list[Instance]:
        """All VMs of the project, by name."""
        return [self._as_instance(vm, log_event) for vm in self.vms(deadline or Deadline(FIND_SECONDS)).vms]

    def vms(self, deadline: Deadline) -> finding.Found:
        """All VMs of the project by name, with all that the API says of them, and the zones that could not be asked."""
        with self._open() as cloud:
            found = everything(cloud, deadline)
        zones = self._options.zones
        mine = [vm for vm in found.vms if not zones or vm.zone in zones]
        return replace(found, vms=tuple(sorted(mine, key=lambda vm: (vm.name, vm.zone))))

    # -- changing -----------------------------------------------------------------------------------------------------

    def create(self, spec: InstanceSpec, deadline: Deadline, on_event: EventSink) -> Instance:
        """Make a machine, running.  From then on it alone is what this provider means by its name.

        Raises :class:`InstanceError` with code ``instance_exists`` if there is one of that name, also if somebody else
        makes it at the same time: whoever makes a machine may delete it.
        """
        self._on_event, self._step = on_event, "machine"
        with self._open() as cloud:
            vm, _ = self._look(spec.name, cloud, deadline)
            if vm:
                raise finding.taken(vm)
            vm = self._meant = self._make(_gce_spec(spec), cloud, deadline, adopt=False)
        return self._as_instance(vm, on_event)

    def creation_request(self, spec: InstanceSpec, deadline: Deadline) -> dict[str, Any]:
        """The request by which :meth:`create` would make it, in the first of its zones; nothing is made."""
        with self._open() as cloud:
            zones, order = self._order(_gce_spec(spec), cloud, deadline)
            return {
                "method": "instances.insert",
                "project": cloud.project,
                "zones": list(zones),
                "body": order.body(cloud.project, zones[0], "UNIQUE-PER-REQUEST"),
            }

    def start(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:
        """Have it running, whatever its state is."""
        self._on_event, self._step = on_event, "machine"
        with self._open() as cloud:
            vm = self._existing(name, cloud, deadline)
            vm = bring_up(cloud, vm, deadline, self._say, until_up=self._options.retry_until_up)
        self._memory.note_end(vm)
        return self._as_instance(vm, on_event)

    def stop(self, name: str, deadline: Deadline) -> None:
        """Stop it; nothing happens if it is stopped."""
        with self._open() as cloud:
            vm = self._existing(name, cloud, deadline)
            if vm.status not in ("TERMINATED", "STOPPED"):
                change(cloud, vm, "stop", deadline)
        self._memory.note_end(vm, over=True)

    def change(self, verb: str, name: str, deadline: Deadline) -> Instance:
        """Suspend, resume or reset it."""
        with self._open() as cloud:
            vm = self._existing(name, cloud, deadline)
            wanted = {"suspend": "SUSPENDED", "resume": "RUNNING", "reset": ""}[verb]
            if vm.status != wanted:
                change(cloud, vm, verb, deadline)
            vm = fetch(cloud, vm.zone, name, deadline) or vm
        self._memory.note_end(vm)
        return self._as_instance(vm, log_event)

    def delete(self, name: str, deadline: Deadline, *, keep_disks: bool = False) -> None:
        """Delete it with its disks; with ``keep_disks`` all of them stay, and go on to cost."""
        with self._open() as cloud:
            vm = self._existing(name, cloud, deadline)
            if keep_disks:
                for disk in vm.raw.get("disks") or []:
                    where = {"zone": vm.zone, "instance": name, "device_name": disk["deviceName"]}
                    done = cloud.call("instances", "set_disk_auto_delete", deadline, auto_delete=False, **where)
                    cloud.finish(done, deadline)
            change(cloud, vm, "delete", deadline)
        self._memory.forget(name)

    def forget(self, name: str, deadline: Deadline) -> None:
        """Take our key back, if the machine is still there, and forget it."""
        known = self._memory.load(name)
        if known is None:
            return
        if known.key == str(self._memory.key):  # another one is the user's, who may use it elsewhere
            with self._open() as cloud:
                vm, _ = self._look(name, cloud, deadline)
                if vm:
                    login.withdraw(cloud, vm, known.user, login.own_key(self._memory.key), deadline)
        self._memory.forget(name)

    def refusal(self, verb: str, name: str) -> InstanceError | None:  # noqa: ARG002
        """None: it can do all."""
        return None

    # -- helpers ------------------------------------------------------------------------------------------------------

    @cached_property
    def _identity(self) -> credentials.Identity:
        named = bool(self._options.project or self._properties.project)
        return credentials.load(self._properties, with_project=not named)

    @cached_property
    def project(self) -> str:
        """The project; as it was named, else as gcloud is set, else that of the credentials."""
        project = self._options.project or self._properties.project or self._identity.project
        if not project:
            raise UsageError(
                "No Google Cloud project was named",
                hint="Name it with --project, or: gcloud config set project PROJECT",
                code="project_needed",
            )
        return project

    def _open(self) -> Cloud:
        return Cloud(self.project, self._identity, self._properties)

    def _means(self, name: str) -> Means:
        find, find_made = partial(self._find_or_make, name), partial(self._existing, name)
        endpoint = str(self._settings.option("iap_endpoint", ""))
        return Means(self._options, self._memory, self._open, find, find_made, self._look_up, endpoint)

    def _look_up(self, jump: str, deadline: Deadline) -> Endpoint:
        from remote_runtime.ssh.config import lookup

        return lookup(jump, self._settings, deadline=deadline)

    def _remembered(self, name: str) -> Known | None:
        """What is known of that name, if it can be what is meant now."""
        known, options, meant = self._memory.load(name), self._options, self._meant
        if known is None or not known.address or (meant and meant.name == name and meant.id != known.id):
            return None
        project = options.project or self._properties.project
        other_route = options.reach not in ("auto", known.route)
        other_jump = options.jump != known.jump if options.jump or options.reach != "auto" else False
        other_key = options.key is not None and str(options.key) != known.key
        other_user = options.user is not None and options.user != known.user
        elsewhere = (project and project != known.project) or (options.zones and known.zone not in options.zones)
        return None if elsewhere or other_route or other_jump or other_key or other_user else known

    def _look(self, name: str, cloud: Cloud, deadline: Deadline) -> tuple[Vm | None, finding.Found]:
        """The zone of the last time, or that which gcloud is set to, is looked into first: that is one quick call."""
        meant = self._meant
        if meant and meant.name == name:
            vm = fetch(cloud, meant.zone, name, deadline)
            return (vm, finding.Found((vm,))) if vm and vm.id == meant.id else (None, finding.Found())
        known = self._memory.load(name)
        last = known.zone if known and known.project == cloud.project else ""
        zones, ask = self._options.zones, self._options.ask
        likely = last or self._properties.zone
        if not zones and likely:
            with suppress(UnknownZone):  # of gcloud's settings, or one that is no more: it may be in any other
                vm = fetch(cloud, likely, name, deadline)
                if vm:
                    return vm, finding.Found((vm,))
        vm, found = look(cloud, name, zones, deadline, last_zone=last, ask=ask)
        doubt = finding.not_sure(vm, found) if vm else ""
        if doubt:
            self._on_event(Notice("zones_unreachable", doubt, "warning"))
        return vm, found

    def _existing(self, name: str, cloud: Cloud, deadline: Deadline) -> Vm:
        vm, _ = self._look(name, cloud, deadline)
        if vm is None:
            found = everything(cloud, deadline)  # for the name that is meant, perhaps
            raise finding.not_found(name, found, project=cloud.project, zones=self._options.zones)
        return vm

    def _find_or_make(self, name: str, cloud: Cloud, deadline: Deadline) -> Vm:
        if self._options.create is None:
            return self._existing(name, cloud, deadline)
        vm, _ = self._look(name, cloud, deadline)
        wanted = replace(self._options.create, name=name)
        return vm or self._make(wanted, cloud, deadline, adopt=True)

    def _make(self, wanted: GceSpec, cloud: Cloud, deadline: Deadline, *, adopt: bool) -> Vm:
        zones, order = self._order(wanted, cloud, deadline)
        if self._options.confirm:
            self._options.confirm(f"Create {spec.summary(wanted, zones)}? It costs money.")
        until_up = self._options.retry_until_up
        sink = self._on_event
        return creating.create(
            cloud, order, zones, deadline, say=self._say, on_event=sink, adopt=adopt, until_up=until_up
        )

    def _order(self, wanted: GceSpec, cloud: Cloud, deadline: Deadline) -> tuple[tuple[str, ...], creating.Order]:
        spec.check(wanted)
        options = self._options
        zones = creating.zones_for(cloud, options.zones, options.region, self._properties.zone, deadline)
        image = creating.find_image(cloud, wanted, deadline)
        items = self._key_items(wanted, cloud, deadline)
        if wanted.prepare:
            items[spec.STARTUP_SCRIPT] = startup_script.render()
        owner = cloud.account or login.local_user() or "unknown"
        return zones, creating.Order(wanted, image, owner, items)

    def _key_items(self, wanted: GceSpec, cloud: Cloud, deadline: Deadline) -> dict[str, str]:
        """Our key is on a new VM from its first start, unless it lets in by OS Login, or the key shall not stay.

        A VM that is prepared for somebody needs the account, and so the key, all the same.
        """
        not_to_stay = self._options.remove_key and not wanted.prepare
        if not_to_stay or login.uses_oslogin(cloud, dict(wanted.metadata), deadline):
            return {}
        key = self._options.key
        public = login.public_line(key) if key else login.own_key(self._memory.key)
        user = metadata.user_name(self._options.user, login.local_user())
        prepared = {spec.PREPARED_USER: user} if wanted.prepare else {}
        return {metadata.KEYS: metadata.key_line(user, public, time.time() + login.KEY_SECONDS), **prepared}

    def _as_instance(self, vm: Vm, on_event: EventSink) -> Instance:
        access = Access(vm.name, self._means(vm.name), known=self._memory.load(vm.name), vm=vm, on_event=on_event)
        return self._instance(vm.name, vm.state, access, f"{vm.detail}, project {vm.project}")

    def _instance(self, name: str, state: Any, access: Access, detail: str) -> Instance:
        return Instance(
            name,
            self.name,
            state,
            access.resolve,
            detail,
            access.judge,
            access.expects_preparation,
            access.release,
        )

    def _say(self, text: str) -> None:
        self._on_event(StepProgress(self._step, text))


def _gce_spec(wanted: InstanceSpec) -> GceSpec:
    return wanted if isinstance(wanted, GceSpec) else GceSpec(wanted.name)
