"""A key of ours on the VM: in the profile of OS Login where that is on, else in the instance's metadata."""

from __future__ import annotations

import getpass
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from remote_runtime import keys
from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed, InstanceError, StateError, UsageError
from remote_runtime.providers.gce import metadata, oslogin
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.failures import CloudError
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.operations import fetch
from remote_runtime.store import private_directory, write_private

KEY_SECONDS = 7 * 24 * 3600.0
"""For so long a key is good; a connect before its end renews it."""

RENEW_SECONDS = 24 * 3600.0
"""A key that expires sooner than that is renewed."""

CONFLICTS = 8
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Login:
    """As whom one may log in, until when (seconds since 1970), and whether the key was put there just now."""

    user: str
    until: float
    added: bool


def own_key(path: Path) -> str:
    """The public line of our own key at ``path``; it is made if it is missing."""
    private_directory(path.parent)
    public = path.with_name(f"{path.name}.pub")
    try:
        with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
            if not (path.exists() and public.exists()):
                private, line = keys.generate("remote-runtime")
                write_private(path, private)
                write_private(public, f"{line}\n".encode())
            return public.read_text(encoding="utf-8").strip()
    except (OSError, Timeout) as error:
        raise StateError(
            f"Can't keep a key in {path}: {error}", hint="Check its directory's owner and mode."
        ) from error


def public_line(private: Path) -> str:
    """The public line of a key of the user's.

    Raises :class:`AuthenticationFailed` with code ``key_unreadable``.
    """
    path = private.with_name(f"{private.name}.pub")
    with suppress(OSError, IndexError):
        line = path.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
        keys.parse_public(line)
        return line
    raise AuthenticationFailed(
        f"There is no public key in {path}",
        hint=f"Write it there: ssh-keygen -y -f {private} >{path}",
        code="key_unreadable",
    )


def local_user() -> str:
    """This computer's name for the user; empty if it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account that the password file does not know
        return ""


def let_in(cloud: Cloud, vm: Vm, public: str, wanted: str | None, now: float, deadline: Deadline) -> Login:
    """Make sure that our key gets in.

    Raises :class:`CloudError`, :class:`UsageError` for a user that can't be, and :class:`AuthenticationFailed`.
    """
    if uses_oslogin(cloud, vm.metadata, deadline):
        return _by_oslogin(cloud, vm, public, wanted, now, deadline)
    return _by_metadata(cloud, vm, public, metadata.user_name(wanted, local_user()), now, deadline)


def uses_oslogin(cloud: Cloud, instance: dict[str, str], deadline: Deadline) -> bool:
    """Whether a VM with this metadata lets in by OS Login; the project is asked only if the instance does not say."""
    if oslogin.ENABLED in instance:
        return oslogin.is_on(instance, {})
    try:
        project = cloud.call("projects", "get", deadline)
    except CloudError as error:
        if error.fault.status in (403, 404):
            return False  # we may not know: the metadata of the instance is what we may write
        raise
    return oslogin.is_on(instance, metadata.items(project))


def withdraw(cloud: Cloud, vm: Vm, user: str | None, public: str, deadline: Deadline) -> None:
    """Take our key back: out of the instance's metadata, and out of the profile where OS Login is on.

    ``user`` as for :func:`let_in`, or the account that it gave.
    """
    user = user or metadata.user_name(None, local_user())
    if cloud.account and uses_oslogin(cloud, vm.metadata, deadline):
        _leave_profile(cloud, public, vm.project, deadline)
    for _ in range(CONFLICTS):
        value = vm.metadata.get(metadata.KEYS, "")
        without = metadata.without(value, user, public)
        if without == value or _set_keys(cloud, vm, without, deadline):
            return
        vm = _again(cloud, vm, deadline)


def _by_metadata(cloud: Cloud, vm: Vm, public: str, user: str, now: float, deadline: Deadline) -> Login:
    """Others change the metadata too, each with the fingerprint of what they have read: who is late reads again."""
    until = now + KEY_SECONDS
    for attempt in range(CONFLICTS):
        value = vm.metadata.get(metadata.KEYS, "")
        present = metadata.expires_at(value, user, public)
        if present is not None and present - now > RENEW_SECONDS:
            return Login(user, present, added=attempt > 0)
        line = metadata.key_line(user, public, until)
        if _set_keys(cloud, vm, metadata.merged(value, line, now), deadline):
            return Login(user, until, added=present is None)
        vm = _again(cloud, vm, deadline)
    raise InstanceError(
        f"The metadata of {vm.name} is changed by others all the time",
        hint="Try again.",
        code="instance_busy",
        retryable=True,
    )


def _set_keys(cloud: Cloud, vm: Vm, value: str, deadline: Deadline) -> bool:
    """Whether it was set; not, if somebody else changed the metadata meanwhile."""
    body = metadata.replaced(vm.raw.get("metadata") or {}, metadata.KEYS, value)
    try:
        operation = cloud.call("instances", "set_metadata", deadline, zone=vm.zone, instance=vm.name, body=body)
        cloud.finish(operation, deadline)
    except CloudError as error:
        if error.fault.status == 412:
            return False
        raise
    return True


def _again(cloud: Cloud, vm: Vm, deadline: Deadline) -> Vm:
    fresh = fetch(cloud, vm.zone, vm.name, deadline)
    if fresh is None:
        raise InstanceError(f"The VM {vm.name} is gone", hint="Somebody deleted it just now.")
    return fresh


def _leave_profile(cloud: Cloud, public: str, project: str, deadline: Deadline) -> None:
    """The profile is the person's in all projects; machines that need the key again put it there again."""
    query = {"projectId": project}
    profile = cloud.oslogin("GET", f"{_person(cloud)}/loginProfile", deadline, query=query)
    for name in oslogin.key_names(profile, public):
        try:
            cloud.oslogin("DELETE", name, deadline, query={})
        except CloudError as error:
            if error.fault.status != 404:  # another process has done it just now, or the first attempt went through
                raise


def _person(cloud: Cloud) -> str:
    return f"users/{quote(cloud.account, safe='@')}"


def _by_oslogin(cloud: Cloud, vm: Vm, public: str, wanted: str | None, now: float, deadline: Deadline) -> Login:
    if not cloud.account:
        raise UsageError(
            f"{vm.name} uses OS Login, and nothing says which account you are",
            hint="Say it to gcloud: gcloud config set account YOU@EXAMPLE.COM (or set CLOUDSDK_CORE_ACCOUNT).",
            code="account_unknown",
        )
    who = _person(cloud)
    profile = cloud.oslogin("GET", f"{who}/loginProfile", deadline, query={"projectId": vm.project})
    end = oslogin.key_end(profile, public)
    if end is not None and end - now > RENEW_SECONDS and profile.get("posixAccounts"):
        return Login(oslogin.user_name(profile, wanted), end, added=False)
    until = now + KEY_SECONDS
    body = {"key": public, "expirationTimeUsec": str(int(until * 1e6))}
    region = vm.zone.rpartition("-")[0]
    query = {"projectId": vm.project, "regions": region}
    answer = cloud.oslogin("POST", f"{who}:importSshPublicKey", deadline, query=query, body=body)
    return Login(oslogin.user_name(answer.get("loginProfile") or {}, wanted), until, added=True)
