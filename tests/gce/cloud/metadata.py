"""What the metadata server says, to a VM about itself or to a program that looks for credentials."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from tests.gce.cloud import catalog

if TYPE_CHECKING:
    from tests.gce.cloud.vm import Vm
    from tests.gce.cloud.world import World

PREFIX = "/computeMetadata/v1/"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}

Answer = tuple[int, str, str]
"""Status, type, text."""


def answer(world: World, vm: Vm | None, verb: str, path: str, query: dict[str, str], body: str) -> Answer:
    """Answer a request for ``path`` (below :data:`PREFIX`); the lock of the world is held.

    ``vm`` is who asks.  None is a machine without attributes, whose service account gives a token of the test's.
    """
    path = path.strip("/")
    if vm and path.startswith("instance/guest-attributes/"):
        return _guest_attributes(vm, verb, path.removeprefix("instance/guest-attributes/"), body)
    if verb != "GET":
        return 405, "text/html", "Method not allowed"
    value: Any = _tree(world, vm)
    for name in filter(None, path.split("/")):
        if not isinstance(value, dict) or name not in value:
            return 404, "text/html", "The requested URL was not found on this server."
        value = value[name]
    if path.endswith("/token"):
        return 200, "application/json", value
    if isinstance(value, list):
        return 200, "application/text", "".join(f"{one}\n" for one in value)
    if not isinstance(value, dict):
        return 200, "application/text", str(value)
    if query.get("recursive", "").lower() == "true":
        return 200, "application/json", json.dumps(_as_json(value, path.rpartition("/")[2]))
    return 200, "application/text", "".join(f"{k}/\n" if isinstance(v, dict) else f"{k}\n" for k, v in value.items())


def _tree(world: World, vm: Vm | None) -> dict[str, Any]:
    email = f"{world.project_number}-compute@developer.gserviceaccount.com"
    if vm is None:
        email = world.tokens.get(world.service_account_token, "")
    token = {"access_token": world.service_account_token, "expires_in": 3599, "token_type": "Bearer"}
    account = {"aliases": ["default"], "email": email, "scopes": [SCOPE]}
    accounts = {name: {**account, "token": json.dumps(token)} for name in ("default", email)}
    project = {
        "project-id": world.project,
        "numeric-project-id": world.project_number,
        "attributes": dict(world.common_metadata),
    }
    if vm is None:
        return {
            "instance": {"service-accounts": accounts if email else {}},
            "project": project,
            "universe": {"universe-domain": "googleapis.com"},
        }
    has_account = bool(vm.resource.get("serviceAccounts"))
    instance: dict[str, Any] = {
        "id": vm.id,
        "name": vm.name,
        "hostname": f"{vm.name}.{vm.zone}.c.{world.project}.internal",
        "zone": f"projects/{world.project_number}/zones/{vm.zone}",
        "machine-type": f"projects/{world.project_number}/machineTypes/{vm.resource['machineType'].rpartition('/')[2]}",
        "virtual-clock": {"drift-token": "0"},
        "preempted": "TRUE" if vm.preempted else "FALSE",
        "attributes": dict(vm.metadata),
        "service-accounts": accounts if has_account else {},
        "network-interfaces": {"0": {"ip": vm.internal_address, "access-configs": {"0": {"external-ip": vm.address}}}},
    }
    return {"instance": instance, "project": project, "region": catalog.region_of(vm.zone)}


def etag(text: str) -> str:
    """What changes when the answer does."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json(value: Any, name: str = "") -> Any:
    """The recursive form: names in camel case, what is numbered as a list, ids as numbers; attributes as they are."""
    if not isinstance(value, dict):
        return int(value) if name in ("id", "numeric-project-id") else value
    if name == "attributes":
        return value
    if value and all(key.isdigit() for key in value):
        return [_as_json(item) for item in value.values()]
    shown = {key: item for key, item in value.items() if key != "token"}
    return {re.sub(r"-(\w)", lambda match: match[1].upper(), key): _as_json(item, key) for key, item in shown.items()}


def _guest_attributes(vm: Vm, verb: str, path: str, body: str) -> Answer:
    if not vm.enabled("enable-guest-attributes"):
        return 403, "text/html", "Guest attributes endpoint access is disabled."
    namespace, _, key = path.partition("/")
    if verb == "PUT" and namespace and key:
        vm.guest_attributes[namespace, key] = body
        return 200, "text/html", ""
    if verb == "DELETE" and vm.guest_attributes.pop((namespace, key), None) is not None:
        return 200, "text/html", ""
    if verb == "GET" and (namespace, key) in vm.guest_attributes:
        return 200, "application/text", vm.guest_attributes[namespace, key]
    return 404, "text/html", "The requested URL was not found on this server."
