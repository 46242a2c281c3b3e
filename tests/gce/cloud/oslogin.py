"""The methods of OS Login: who may log in as whom, with which keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from typing import Any

from tests.gce.cloud.answers import Request, answers
from tests.gce.cloud.refusals import Refused
from tests.gce.cloud.world import World


@answers("users.getLoginProfile")
def get_login_profile(world: World, request: Request) -> dict[str, Any]:
    return _profile(world, request)


@answers("users.importSshPublicKey")
def import_ssh_public_key(world: World, request: Request) -> dict[str, Any]:
    """Adds the key, and makes the POSIX account if there is none."""
    profile = _profile(world, request)
    key = _key(_email(request), request.body)
    profile.setdefault("sshPublicKeys", {})[key["fingerprint"]] = key
    if not profile.get("posixAccounts"):
        profile["posixAccounts"] = [_account(profile["name"], request.query.get("projectId", world.project))]
    _tell_guests(world)
    return {"loginProfile": profile}


@answers("users.sshPublicKeys.get")
def get_ssh_public_key(world: World, request: Request) -> dict[str, Any]:
    return _find_key(world, request)


@answers("users.sshPublicKeys.patch")
def patch_ssh_public_key(world: World, request: Request) -> dict[str, Any]:
    key = _find_key(world, request)
    mask = request.query.get("updateMask", "expirationTimeUsec").split(",")
    key.update({name: request.body[name] for name in mask if name in request.body})
    _tell_guests(world)
    return key


@answers("users.sshPublicKeys.delete")
def delete_ssh_public_key(world: World, request: Request) -> dict[str, Any]:
    key = _find_key(world, request)
    del world.login_profiles[_email(request)]["sshPublicKeys"][key["fingerprint"]]
    _tell_guests(world)
    return {}


def accounts(world: World) -> dict[str, tuple[str, ...]]:
    """Per POSIX user name the keys that are valid now: what the guest's sshd is told."""
    now = time.time() * 1e6
    found = {}
    for profile in world.login_profiles.values():
        keys = [
            key["key"]
            for key in profile.get("sshPublicKeys", {}).values()
            if int(key.get("expirationTimeUsec", 0)) == 0 or int(key["expirationTimeUsec"]) > now
        ]
        found.update({account["username"]: tuple(keys) for account in profile.get("posixAccounts", ())})
    return found


def _email(request: Request) -> str:
    name = request.path.get("name") or request.path["parent"]
    return name.split("/")[1]


def _profile(world: World, request: Request) -> dict[str, Any]:
    email = _email(request)
    if email not in world.emails:
        raise Refused(404, f"Requested entity was not found: users/{email}.")
    if email != request.user and request.user:
        raise Refused(403, "The caller does not have permission")
    project = request.query.get("projectId", world.project)
    if project not in (world.project, world.project_number):
        raise Refused(403, f"Permission denied on resource project {project}.")
    return world.login_profiles.setdefault(email, {"name": email})


def _find_key(world: World, request: Request) -> dict[str, Any]:
    fingerprint = request.path["name"].rpartition("/")[2]
    keys = _profile(world, request).get("sshPublicKeys", {})
    if fingerprint not in keys:
        raise Refused(404, f"SSH public key '{fingerprint}' was not found.")
    found: dict[str, Any] = keys[fingerprint]
    return found


def _key(email: str, body: Any) -> dict[str, Any]:
    text = body.get("key", "").strip()
    words = text.split()
    try:
        valid = len(words) >= 2 and len(base64.b64decode(words[1], validate=True)) > 16
    except binascii.Error:
        valid = False
    if not valid:
        raise Refused(400, "Invalid SSH public key.")
    expires = body.get("expirationTimeUsec")
    if expires is not None and int(expires) <= time.time() * 1e6:
        raise Refused(400, "Expiration time must be in the future.")
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    key = {"key": text, "fingerprint": fingerprint, "name": f"users/{email}/sshPublicKeys/{fingerprint}"}
    return {**key, "expirationTimeUsec": expires} if expires else key


def _account(email: str, project: str) -> dict[str, Any]:
    """The user name that the service makes of an address: me@example.com is me_example_com."""
    name = re.sub(r"[^a-z0-9]", "_", email.lower())
    return {
        "primary": True,
        "username": name,
        "uid": "1234567890",
        "gid": "1234567890",
        "homeDirectory": f"/home/{name}",
        "operatingSystemType": "LINUX",
        "accountId": project,
        "name": f"users/{email}/projects/{project}",
    }


def _tell_guests(world: World) -> None:
    for vm in world.vms.values():
        if vm.guest:
            vm.guest.metadata_changed()
