"""The cloud as a test sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.gce.cloud import catalog, judging
from tests.gce.cloud.faults import Fault, Refuse
from tests.gce.cloud.refusals import Refused
from tests.gce.cloud.server import serve_apis
from tests.gce.cloud.service import Call, Service
from tests.gce.cloud.vm import Vm
from tests.gce.cloud.world import USER, USER_TOKEN, Boot, World

PATIENCE_SECONDS = 20.0


class Cloud:
    """A running cloud; a context manager.

    ``directory`` (it must exist) holds its VMs' disks.  With ``boots`` VMs have an SSH server at port 22 of their
    address, which needs root (:func:`unavailable` says why not).  ``operation_seconds`` is what each operation takes.
    ``own_network``: each VM has a loopback of its own and reaches the metadata server only; else it has this machine's.
    ``own_rights``: its accounts are users like any other; else they are further names of root.
    ``has_agent``: what Google's guest agent does is done; else nobody makes accounts, or tells host keys.
    ``guest_environment`` is what sshd sets for every login (a PATH with a Jupyter, say).  ``links`` are symbolic links
    that every fresh disk has, by their places, which have to be in directories that this machine has.
    """

    def __init__(
        self,
        directory: Path,
        *,
        project: str = catalog.PROJECT,
        boots: bool = True,
        operation_seconds: float = 0.05,
        own_network: bool = True,
        own_rights: bool = False,
        has_agent: bool = True,
        guest_environment: Mapping[str, str] | None = None,
        links: Mapping[str, Path] | None = None,
    ) -> None:
        self.world = World(directory, project=project, boots=boots, operation_seconds=operation_seconds)
        self.world.own_network = own_network
        self.world.own_rights = own_rights
        self.world.has_agent = has_agent
        self.world.links = dict(links or {})
        self.world.guest_environment = dict(guest_environment or {})
        self._service = Service(self.world)
        with ExitStack() as opened:
            opened.callback(self.world.clock.close)
            server = serve_apis(self.world, self._service)
            opened.callback(server.close)
            self.world.root_url = f"http://{server.host}:{server.port}"
            self._opened = opened.pop_all()

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all VMs and the servers."""
        with self.world.changed:
            self.world.closed = True
            self.world.changed.notify_all()
            vms = list(self.world.vms.values())
            for vm in vms:
                if vm.guest:
                    vm.guest.pull_plug()
            boots = list(self.world.boots_begun)
        for boot in boots:
            boot.join()
        self._opened.close()

    # -- how to get there ----------------------------------------------------------------------------------------------

    @property
    def project(self) -> str:
        return self.world.project

    @property
    def compute_url(self) -> str:
        """For ``CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE``."""
        return f"{self.world.root_url}/compute/v1/"

    @property
    def oslogin_url(self) -> str:
        """For ``CLOUDSDK_API_ENDPOINT_OVERRIDES_OSLOGIN``."""
        return f"{self.world.root_url}/oslogin/"

    @property
    def metadata_host(self) -> str:
        """For ``GCE_METADATA_HOST`` and ``GCE_METADATA_IP``: a machine's own credentials, a service account's."""
        return self.world.root_url.removeprefix("http://")

    @property
    def token_url(self) -> str:
        """OAuth's token endpoint, for a service account's key file."""
        return f"{self.world.root_url}/token"

    @property
    def user(self) -> str:
        """The e-mail address of the person whose token :meth:`environment` gives."""
        return USER

    def environment(self) -> dict[str, str]:
        """What leads gcloud and us here, as the person called :attr:`user`."""
        token = self.world.directory / "access-token"
        if not token.exists():
            token.touch(mode=0o600)
            token.write_text(USER_TOKEN)
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": self.compute_url,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_OSLOGIN": self.oslogin_url,
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CONFIG": str(self.world.directory / "gcloud"),
            "CLOUDSDK_CORE_ACCOUNT": USER,
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_PROJECT": self.project,
        }

    # -- what is there -------------------------------------------------------------------------------------------------

    def vm(
        self,
        name: str,
        *,
        zone: str = catalog.ZONES[0],
        status: str = "RUNNING",
        metadata: Mapping[str, str] | None = None,
        external: bool = True,
        user: str = USER,
        **fields: Any,
    ) -> Vm:
        """Make a VM as if somebody had made it yesterday; ``fields`` are more of the API's Instance.

        RUNNING means that it boots now: ``wait_for_boot`` tells when that is over.
        """
        items = [{"key": key, "value": value} for key, value in (metadata or {}).items()]
        interface: dict[str, Any] = {"network": "global/networks/default"}
        if external:
            interface["accessConfigs"] = [{"name": "external-nat", "type": "ONE_TO_ONE_NAT"}]
        image = "projects/debian-cloud/global/images/family/debian-12"
        body = {
            "name": name,
            "machineType": f"zones/{zone}/machineTypes/e2-standard-4",
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": image}}],
            "networkInterfaces": [interface],
            "metadata": {"items": items},
            **fields,
        }
        judging.check_instance(body, zone, self.world.lacking.get(zone, ()))
        with self.world.changed:
            vm = Vm(self.world, zone, body, user)
            self.world.vms[zone, name] = vm
            if status == "RUNNING":
                vm.power_on()
            else:
                vm.status = status
            self.world.changed.notify_all()
        return vm

    def find(self, name: str) -> Vm | None:
        """The VM of that name, in whatever zone; None if there is none."""
        with self.world.lock:
            return next((vm for vm in self.world.vms.values() if vm.name == name), None)

    @property
    def vms(self) -> list[Vm]:
        with self.world.lock:
            return list(self.world.vms.values())

    @property
    def disks(self) -> list[dict[str, Any]]:
        """Also those that no VM has any more: nobody pays for them gladly."""
        with self.world.lock:
            return list(self.world.disks.values())

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; an AssertionError after :data:`PATIENCE_SECONDS`."""
        end = time.monotonic() + PATIENCE_SECONDS
        with self.world.changed:
            while not holds():
                assert time.monotonic() < end, "the cloud did not come to that state"
                self.world.changed.wait(0.05)  # what happens inside VMs tells nobody

    def wait_for_boot(self, vm: Vm) -> None:
        """Wait until one can log in to it."""
        self.wait_until(lambda: vm.ready)

    def set_boot(self, **seconds: float) -> None:
        """How later boots go: the fields of :class:`tests.gce.cloud.world.Boot`."""
        with self.world.lock:
            self.world.boot = Boot(**seconds)

    def set_firewall(self, *rules: Mapping[str, Any]) -> None:
        """Replace all firewall rules; each is a Firewall's name, sourceRanges, allowed and so on."""
        path = f"projects/{self.project}/global"
        usual = {"network": f"{path}/networks/default", "direction": "INGRESS", "priority": 1000, "disabled": False}
        with self.world.lock:
            self.world.firewalls[:] = [{**usual, **rule} for rule in rules]
            for vm in self.world.vms.values():
                if vm.guest:
                    vm.guest.firewall_changed()

    def preempt(self, vm: Vm, *, seconds: float = 0.2) -> None:
        """Take a VM away for somebody who pays more; it has so many seconds."""
        with self.world.changed:
            vm.preempted = True
            vm.end_by_itself("compute.instances.preempted", "Instance was preempted.", seconds)
            self.world.changed.notify_all()

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        *,
        times: int = 1,
        after: int = 0,
        status: int = 503,
        code: str | None = None,
        message: str = "",
    ) -> None:
        """Refuse so many calls of ``method`` ("instances.insert"), after so many that pass; ``code`` is the reason."""
        error = Refused(status, message or f"The service says {status} because a test wants it.", reason=code)
        self.inject(method, Refuse(error), times=times, after=after)

    def refuse(self, method: str, error: Refused, *, times: int = 1, after: int = 0) -> None:
        """The same with one of the well-known refusals."""
        self.inject(method, Refuse(error), times=times, after=after)

    def inject(self, method: str, fault: Fault, *, times: int = 1, after: int = 0, zone: str | None = None) -> None:
        """Order any fault; ``zone`` restricts it to requests about that zone."""
        self.world.faults.order(method, fault, times=times, after=after, zone=zone)

    @property
    def unused_faults(self) -> list[str]:
        """The methods of orders that are not used up."""
        return self.world.faults.unused

    # -- what was asked ------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """Every request to the APIs so far, in the order of their answers."""
        return list(self._service.calls)

    @property
    def methods(self) -> list[str]:
        """The names of the methods that were called, in that order."""
        return [call.method for call in self.calls]

    def forget_calls(self) -> None:
        self._service.calls.clear()

    @property
    def problems(self) -> list[str]:
        """What the stand-in itself did wrong: answers that the schema does not know, crashes."""
        return list(self.world.problems)

    # -- credentials ---------------------------------------------------------------------------------------------------

    def write_service_account(self, path: Path) -> None:
        """Write a service account's key file, for ``GOOGLE_APPLICATION_CREDENTIALS``; its tokens come from here."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        email = self.world.tokens[self.world.service_account_token]
        content = {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": f"key-of-{int(time.time())}",
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": self.token_url,
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
