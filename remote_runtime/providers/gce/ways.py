"""The way to a VM as it is known: straight to an address, through a jump host, or through IAP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from remote_runtime._threads import Deadline
from remote_runtime.model import (
    Dial,
    Direct,
    Endpoint,
    Fingerprint,
    HostKeyTrust,
    Identity,
    Jump,
    KnownHosts,
    Pinned,
    Via,
)
from remote_runtime.providers.gce import reach
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.memory import Known, Memory
from remote_runtime.providers.gce.options import GceOptions

HASTY_SECONDS = 4.0
"""A remembered address that does not answer within this time is asked about."""


@dataclass(frozen=True)
class Means:
    """What the way to a VM needs.

    ``open`` gives the API; ``find`` the VM in it, made if that was asked for; ``find_made`` only one that is there;
    ``look_up`` how to reach a jump host, by ssh_config; ``iap_endpoint`` is the URL of IAP's relay, empty for Google's.
    """

    options: GceOptions
    memory: Memory
    open: Callable[[], Cloud]
    find: Callable[[Cloud, Deadline], Vm]
    find_made: Callable[[Cloud, Deadline], Vm]
    look_up: Callable[[str, Deadline], Endpoint]
    iap_endpoint: str


def endpoint(name: str, known: Known, means: Means, deadline: Deadline, *, hasty: bool, may_ask: bool) -> Endpoint:
    """How to log in to the VM called ``name``; ``hasty``: its address may have changed, so little time is given to it.

    ``may_ask``: a person may be asked about a host key, since Google was, after the VM had shown it.

    Raises what looking up a jump host raises: :class:`UsageError`, and ``TimedOut``.
    """
    return Endpoint(
        host=known.address,
        user=known.user,
        trust=_trust(known, means, may_ask=may_ask),
        identities=(Identity(Path(known.key)),),
        only_identities=True,
        via=_via(name, known, means, deadline, hasty=hasty),
    )


def _trust(known: Known, means: Means, *, may_ask: bool) -> HostKeyTrust:
    """By Google's word; else by the fingerprint that was named, or by what a person accepted before.

    Behind an internal address there may be another network's machine, so that a person is not even asked whether a
    key that nobody vouches for is the right one; nor, unless ``may_ask``, at any other.
    """
    accepted = KnownHosts(
        name=f"compute.{known.id}",
        files=(),
        accepted=means.memory.accepted_host_keys,
        strict="ask" if may_ask and known.route != "internal" else "yes",
        alias=True,
    )
    if means.options.host_key:
        return Fingerprint(means.options.host_key, accepted)
    return Pinned(known.host_keys, known.source) if known.host_keys else accepted


def _via(name: str, known: Known, means: Means, deadline: Deadline, *, hasty: bool) -> Via:
    if known.route == "iap":
        return Dial(partial(_dial_iap, means, known, name), f"IAP to {name}")
    if known.jump:
        return Jump(means.look_up(known.jump, deadline))
    return Dial(partial(_dial_hastily, known.address), known.address) if hasty else Direct()


def _dial_hastily(address: str, deadline: Deadline) -> socket.socket:
    from remote_runtime.ssh.dial import tcp

    return tcp(address, reach.SSH_PORT, deadline.sooner(HASTY_SECONDS))


def _dial_iap(means: Means, known: Known, name: str, deadline: Deadline) -> socket.socket:
    """A socket through IAP's relay."""
    from remote_runtime.providers.gce.iap import dial

    def token() -> str:
        with means.open() as cloud:
            return cloud.token()

    with means.open() as cloud:
        login = cloud.login
    return dial(
        project=known.project,
        zone=known.zone,
        instance=name,
        port=reach.SSH_PORT,
        token=token,
        deadline=deadline,
        endpoint=means.iap_endpoint,
        login=login,
    )
