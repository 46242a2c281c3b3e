"""One VM: its resource as the API shows it, and its life."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.gce.cloud import catalog, disks
from tests.gce.cloud.operations import record, timestamp
from tests.gce.cloud.world import fingerprint, metadata_items, metadata_resource

if TYPE_CHECKING:
    from tests.gce.cloud.guest import Guest
    from tests.gce.cloud.world import World

_SERVER_SIDE = ("kind", "id", "status", "selfLink", "zone", "creationTimestamp", "metadata", "labels", "disks")


class Vm:
    """A VM from its insert to its end; whoever changes it holds the world's lock.

    ``guest`` is the running system, None while it is off or where VMs don't boot.
    """

    def __init__(self, world: World, zone: str, body: Mapping[str, Any], user: str) -> None:
        self._world = world
        self.zone = zone
        self.name: str = body["name"]
        self.id = world.new_id()
        self.user = user
        self.status = "PROVISIONING"
        self.metadata = metadata_items(body.get("metadata", {}))
        self.labels: dict[str, str] = dict(body.get("labels", {}))
        self.guest_attributes: dict[tuple[str, str], str] = {}
        self.serial = ""
        self.guest: Guest | None = None
        self.last_boot: threading.Thread | None = None
        self.internal_address = world.new_address()
        self.address = ""
        self.preempted = False
        self._starts = 0
        self._resource = {name: value for name, value in body.items() if name not in _SERVER_SIDE}
        self._fill_in(body)
        self._resource["disks"] = disks.attach(world, self, body.get("disks", ()))

    @property
    def path(self) -> str:
        return self._world.zone_path(self.zone, "instances", self.name)

    @property
    def resource(self) -> dict[str, Any]:
        """The Instance as the API shows it now."""
        dynamic: dict[str, Any] = {
            "kind": "compute#instance",
            "id": self.id,
            "status": self.status,
            "zone": self._world.link(f"projects/{self._world.project}/zones/{self.zone}"),
            "selfLink": self._world.link(self.path),
            "metadata": metadata_resource(self.metadata),
            "labelFingerprint": fingerprint(self.labels),
            "networkInterfaces": [self._interface()],
        }
        if self.labels:
            dynamic["labels"] = dict(self.labels)
        return {**self._resource, **dynamic}

    @property
    def scheduling(self) -> dict[str, Any]:
        scheduling: dict[str, Any] = self._resource["scheduling"]
        return scheduling

    @property
    def disks(self) -> list[dict[str, Any]]:
        """The attached disks, as the Instance lists them."""
        attached: list[dict[str, Any]] = self._resource["disks"]
        return attached

    @property
    def protected(self) -> bool:
        return bool(self._resource.get("deletionProtection"))

    @property
    def external(self) -> bool:
        """Whether it asked for an external address."""
        return bool(self._resource["networkInterfaces"][0].get("accessConfigs"))

    def effective(self, key: str) -> str:
        """A metadata value as the guest sees it: the instance's hides the project's."""
        return self.metadata.get(key, self._world.common_metadata.get(key, ""))

    def enabled(self, key: str) -> bool:
        return self.effective(key).lower() in ("true", "1", "y", "yes")

    # -- its life ------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """RUNNING, at a new external address; the guest boots on its own time."""
        world = self._world
        self.status = "RUNNING"
        self.preempted = False
        self.address = world.new_address() if self.external else ""
        self._resource["lastStartTimestamp"] = timestamp()
        self._starts += 1
        self._limit_run_time()
        self.boot()

    def boot(self) -> None:
        """Start the system in it, where VMs have one; the console begins anew."""
        self.serial = ""
        if self._world.boots:
            from tests.gce.cloud.guest import Guest

            self.guest = Guest(self._world, self)
            self.guest.boot()

    def power_off(self, status: str = "TERMINATED") -> None:
        """Off; the ephemeral address is gone, what is on the disks stays."""
        self._pull_plug()
        self.status = status
        self.address = ""
        self._resource["lastStopTimestamp" if status == "TERMINATED" else "lastSuspendedTimestamp"] = timestamp()

    @property
    def ready(self) -> bool:
        """Whether its boot is over, and one can log in."""
        return self.guest is not None and self.guest.ready

    def reset(self) -> None:
        """The reset button: the same addresses, a new boot."""
        self._pull_plug()
        self.boot()

    def vanish(self) -> None:
        """Gone, with the disks that go with it."""
        self._pull_plug()
        self._world.vms.pop((self.zone, self.name), None)
        disks.let_go(self._world, self)

    def end_by_itself(self, kind: str, message: str, seconds: float) -> None:
        """What preemption and the end of a limited run have in common: STOPPING, then off or deleted."""
        self.status = "STOPPING"
        record(self._world, kind, self.path, self.zone, self.id, message)
        if self.guest:
            self.guest.shut_down()
        deletes = self.scheduling.get("instanceTerminationAction") == "DELETE"
        starts = self._starts
        self._world.when(seconds, lambda: self._finish_by_itself(deletes, starts))

    def _finish_by_itself(self, deletes: bool, starts: int) -> None:
        if self.status != "STOPPING" or starts != self._starts:
            return
        if deletes:
            self.vanish()
        else:
            self.power_off()

    def _pull_plug(self) -> None:
        if self.guest:
            self.guest.pull_plug()
            self.guest = None

    def _limit_run_time(self) -> None:
        limit = self.scheduling.get("maxRunDuration")
        if not limit:
            return
        seconds, starts = int(limit["seconds"]), self._starts
        status = {"scheduling": {"terminationTimestamp": timestamp(time.time() + seconds)}}
        self._resource["resourceStatus"] = status

        def end() -> None:
            if self.status == "RUNNING" and starts == self._starts:
                self.end_by_itself("compute.instances.scheduledVirtualMachineTermination", "The time is up.", 0.1)

        self._world.when(seconds, end)

    # -- the resource --------------------------------------------------------------------------------------------------

    def _fill_in(self, body: Mapping[str, Any]) -> None:
        resource, link = self._resource, self._world.link
        has_gpu = bool(body.get("guestAccelerators"))
        scheduling = dict(body.get("scheduling", {}))
        spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible", False)
        scheduling.setdefault("onHostMaintenance", "TERMINATE" if spot or has_gpu else "MIGRATE")
        scheduling.setdefault("automaticRestart", not spot)
        scheduling.setdefault("provisioningModel", "SPOT" if spot else "STANDARD")
        scheduling.setdefault("preemptible", spot)
        resource.update(
            scheduling=scheduling,
            machineType=link(self._world.zone_path(self.zone, "machineTypes", body["machineType"].rpartition("/")[2])),
            creationTimestamp=timestamp(),
            tags={**body.get("tags", {}), "fingerprint": fingerprint(body.get("tags", {}))},
            canIpForward=body.get("canIpForward", False),
            deletionProtection=body.get("deletionProtection", False),
            startRestricted=False,
            cpuPlatform="Intel Broadwell",
            fingerprint=fingerprint(self.id),
        )
        for account in resource.get("serviceAccounts", ()):
            if account.get("email") == "default":
                account["email"] = f"{self._world.project_number}-compute@developer.gserviceaccount.com"

    def _interface(self) -> dict[str, Any]:
        wanted = self._resource["networkInterfaces"][0]
        world = self._world
        region = catalog.region_of(self.zone)
        network = wanted.get("network", "global/networks/default").rpartition("/")[2]
        subnetwork = wanted.get("subnetwork", network).rpartition("/")[2]
        interface: dict[str, Any] = {
            "kind": "compute#networkInterface",
            "name": "nic0",
            "network": world.link(f"projects/{world.project}/global/networks/{network}"),
            "subnetwork": world.link(f"projects/{world.project}/regions/{region}/subnetworks/{subnetwork}"),
            "networkIP": self.internal_address,
            "stackType": "IPV4_ONLY",
            "fingerprint": fingerprint([self.internal_address, self.address]),
        }
        if wanted.get("accessConfigs"):
            access = {"type": "ONE_TO_ONE_NAT", "name": "external-nat", **wanted["accessConfigs"][0]}
            access |= {"kind": "compute#accessConfig", "networkTier": access.get("networkTier", "PREMIUM")}
            interface["accessConfigs"] = [{**access, "natIP": self.address} if self.address else access]
        return interface
