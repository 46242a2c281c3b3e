"""The state of the cloud: what there is, what is going on, and what the tests ordered to go wrong."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.gce.cloud import catalog
from tests.gce.cloud.clock import Clock
from tests.gce.cloud.faults import Faults
from tests.gce.cloud.firewalls import default_rules

if TYPE_CHECKING:
    from tests.gce.cloud.operations import Operation
    from tests.gce.cloud.vm import Vm


USER = "ada@example.com"
USER_TOKEN = "ya29.the-token-of-ada"
SERVICE_ACCOUNT_TOKEN = "ya29.the-token-of-a-service-account"


@dataclass(frozen=True)
class Boot:
    """How a boot goes, in seconds; by default all is ready at once.

    ``sshd_after``: nothing listens before.  ``keys_after``: sshd answers so much earlier than keys are accepted.
    ``refused_for``: then it restarts, and refuses connections meanwhile.  ``host_keys_after``: at the first boot, when
    its host keys are published, whatever sshd does meanwhile.
    """

    sshd_after: float = 0.0
    keys_after: float = 0.0
    refused_for: float = 0.0
    host_keys_after: float = 0.0


class World:
    """Everything that a request may see or change; whoever touches it holds ``lock``.

    ``changed`` is told when an operation or a VM went on; ``boots`` says whether VMs are more than entries in a list.
    """

    def __init__(self, directory: Path, *, project: str, boots: bool, operation_seconds: float) -> None:
        self.directory = directory
        self.project = project
        self.project_number = catalog.PROJECT_NUMBER
        self.boots = boots
        self.operation_seconds = operation_seconds
        self.root_url = ""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.closed = False
        self.problems: list[str] = []
        self.faults = Faults()
        self.clock = Clock(self.problems.append)
        self.vms: dict[tuple[str, str], Vm] = {}
        self.disks: dict[tuple[str, str], dict[str, Any]] = {}
        self.firewalls = default_rules(f"projects/{project}")
        self.operations: dict[str, Operation] = {}
        self.by_request_id: dict[str, str] = {}
        self.unreachable_zones: set[str] = set()
        self.lacking: dict[str, set[str]] = {}  # by zone, the types of the catalog that it does not have
        self.own_network = True
        self.guest_environment: dict[str, str] = {}
        self.has_agent = True
        self.own_rights = False
        self.links: dict[str, Path] = {}
        self.agent_seconds = 0.02
        self.boot = Boot()
        self.boots_begun: list[threading.Thread] = []
        self.zones = list(catalog.ZONES)
        self.common_metadata: dict[str, str] = {}
        self.login_profiles: dict[str, dict[str, Any]] = {}
        self.tokens = {USER_TOKEN: USER, SERVICE_ACCOUNT_TOKEN: f"tests@{project}.iam.gserviceaccount.com"}
        self.service_account_token = SERVICE_ACCOUNT_TOKEN
        self.token_required = False
        self.grants_refused = False
        first = secrets.randbelow(50) + 70, secrets.randbelow(200)  # another test may run beside this one
        self._addresses = (
            f"127.{first[0]}.{third}.{last}" for third in itertools.count(first[1]) for last in range(1, 255)
        )

    @property
    def emails(self) -> set[str]:
        """Everybody whom the cloud knows."""
        return set(self.tokens.values())

    def new_id(self) -> str:
        """A numeric id, as long as the real ones."""
        return str(secrets.randbelow(9 * 10**18) + 10**18)

    def new_address(self) -> str:
        """An address of loopback that nobody had before."""
        return next(self._addresses)

    def link(self, path: str) -> str:
        """The URL of a resource."""
        return f"{self.root_url}/compute/v1/{path}"

    def zone_path(self, zone: str, kind: str, name: str) -> str:
        """``projects/p/zones/z/instances/i``."""
        return f"projects/{self.project}/zones/{zone}/{kind}/{name}"

    def when(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later, with the lock held, and tell everybody."""

        def run() -> None:
            with self.changed:
                if not self.closed:
                    action()
                    self.changed.notify_all()

        self.clock.after(seconds, run)


def fingerprint(value: object) -> str:
    """What changes when the value does."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    return base64.urlsafe_b64encode(digest[:9]).decode()


def metadata_items(resource: Mapping[str, Any]) -> dict[str, str]:
    """The keys and values of metadata as the API takes it."""
    return {item["key"]: item.get("value", "") for item in resource.get("items", ())}


def metadata_resource(items: dict[str, str]) -> dict[str, Any]:
    """Metadata as the API shows it."""
    listed = [{"key": key, "value": value} for key, value in items.items()]
    resource: dict[str, Any] = {"kind": "compute#metadata", "fingerprint": fingerprint(listed)}
    if listed:
        resource["items"] = listed
    return resource
