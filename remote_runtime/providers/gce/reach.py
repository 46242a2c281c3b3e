"""Over which address a VM is reached, and which firewall rule is missing when nothing gets through.  Pure."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from remote_runtime.errors import InstanceError
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.options import Reach

Route = Literal["external", "internal", "iap"]
IAP_RANGE = "35.235.240.0/20"
SSH_PORT = 22

_PRIVATE = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]


def choose_route(vm: Vm, reach: Reach) -> Route | None:
    """How to get to it; None: its external address has yet to be allocated.

    Raises :class:`InstanceError` (``no_external_address``, ``no_internal_address``).
    """
    if reach == "internal":
        if not vm.internal:
            raise InstanceError(
                f"The VM {vm.name} has no internal address", hint="Is it running?", code="no_internal_address"
            )
        return "internal"
    if reach == "iap":
        return "iap"
    if vm.external:
        return "external"
    if any(nic.get("accessConfigs") or nic.get("ipv6AccessConfigs") for nic in vm.raw.get("networkInterfaces") or []):
        return None
    if reach == "external":
        raise InstanceError(
            f"The VM {vm.name} has no external address",
            hint="Reach it through IAP, or by its internal address from inside its network.",
            code="no_external_address",
        )
    return "iap"


def lets_in(rules: Iterable[Mapping[str, Any]], vm: Vm, route: Route) -> bool | None:
    """Whether the rules of the VM's network let the route's packets to its port 22; None if they can't tell.

    From outside, a rule for some public addresses may or may not be for ours: it counts as letting us in.
    """
    mine = sorted(
        (rule for rule in rules if _applies(rule, vm)),
        key=lambda rule: (int(rule.get("priority", 1000)), "denied" not in rule),
    )
    for rule in mine:
        if not _concerns_port(rule):
            continue
        ranges = rule.get("sourceRanges") or []
        if not ranges and (rule.get("sourceTags") or rule.get("sourceServiceAccounts")):
            if route == "internal":
                return None
            continue
        if "denied" in rule:
            if any(_covers_all(source, route) for source in ranges):
                return False
        elif any(_may_cover(source, route) for source in ranges):
            return True
    return False  # what no rule allows is denied


def missing_rule(vm: Vm, route: Route) -> str:
    """The gcloud command that adds the narrowest rule for this route, for this VM as far as that can be said."""
    source = {"external": "YOUR_ADDRESS/32", "iap": IAP_RANGE, "internal": "YOUR_NETWORK"}[route]
    network = str(vm.nic.get("network", "default")).rpartition("/")[2]
    argv = ["gcloud", "compute", "firewall-rules", "create", f"ssh-to-{vm.name}"[:63].rstrip("-")]
    argv += [f"--project={vm.project}", f"--network={network}", "--direction=INGRESS"]
    argv += [f"--allow=tcp:{SSH_PORT}", f"--source-ranges={source}"]
    tags = (vm.raw.get("tags") or {}).get("items") or []
    accounts = [account["email"] for account in vm.raw.get("serviceAccounts") or [] if account.get("email")]
    if tags:
        argv.append(f"--target-tags={tags[0]}")
    elif accounts:
        argv.append(f"--target-service-accounts={accounts[0]}")
    return shlex.join(argv)


def diagnosed(vm: Vm, route: Route, rules: Sequence[Mapping[str, Any]] | None) -> tuple[str, str]:
    """What to add to the message and to the hint of an error that says the VM does not answer.

    ``rules``: those of the project; None: they could not be read, so nothing is known.
    """
    inside = "" if route != "internal" else " An internal address answers only inside the VM's network."
    other = "" if route == "iap" else " Or go through IAP: --tunnel-through-iap."
    verdict = None if rules is None else lets_in(rules, vm, route)
    if verdict is False:
        what = "IAP's addresses" if route == "iap" else "you"
        return (
            f"no firewall rule of its network lets {what} to port {SSH_PORT}",
            f"Add a narrow rule: {missing_rule(vm, route)}\n{(inside + other).strip()}".strip(),
        )
    if verdict:
        hint = "The firewall lets SSH in: is the machine still booting, or its SSH server not running?"
        return "", f"{hint}{inside}{other}"
    hint = f"Does a firewall rule let you in? If not: {missing_rule(vm, route)}"
    return "", f"{hint}\n{(inside + other).strip()}".strip()


def _applies(rule: Mapping[str, Any], vm: Vm) -> bool:
    if rule.get("disabled") or rule.get("direction", "INGRESS") != "INGRESS":
        return False
    if str(rule.get("network", "")).rpartition("/")[2] != str(vm.nic.get("network", "")).rpartition("/")[2]:
        return False
    tags, accounts = rule.get("targetTags"), rule.get("targetServiceAccounts")
    if tags:
        return bool(set(tags) & set((vm.raw.get("tags") or {}).get("items") or []))
    if accounts:
        return bool(set(accounts) & {account.get("email") for account in vm.raw.get("serviceAccounts") or []})
    return True


def _concerns_port(rule: Mapping[str, Any]) -> bool:
    for entry in [*(rule.get("allowed") or []), *(rule.get("denied") or [])]:
        if str(entry.get("IPProtocol", "")).lower() not in ("tcp", "6", "all"):
            continue
        ports = entry.get("ports")
        if not ports or any(_has_port(str(port)) for port in ports):
            return True
    return False


def _has_port(text: str) -> bool:
    low, _, high = text.partition("-")
    try:
        return int(low) <= SSH_PORT <= int(high or low)
    except ValueError:
        return False


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _may_cover(source: str, route: Route) -> bool:
    network = _network(source)
    if network is None:
        return False
    if route == "iap":
        return _holds(network, ipaddress.ip_network(IAP_RANGE))
    if route == "internal":
        return not network.prefixlen or any(network.version == 4 and network.overlaps(p) for p in _PRIVATE)
    return not any(_holds(private, network) for private in _PRIVATE) and str(network) != IAP_RANGE


def _covers_all(source: str, route: Route) -> bool:
    network = _network(source)
    if network is None:
        return False
    return _holds(network, ipaddress.ip_network(IAP_RANGE)) if route == "iap" else not network.prefixlen


def _holds(
    outer: ipaddress.IPv4Network | ipaddress.IPv6Network, inner: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    if isinstance(outer, ipaddress.IPv4Network) and isinstance(inner, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(outer, ipaddress.IPv6Network) and isinstance(inner, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False
