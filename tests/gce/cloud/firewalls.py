"""Which firewall rules let whom in: a little of what the real network does with them.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

ANYBODY = "203.0.113.7"
"""Somebody on the internet; the stand-in's clients count as such when they come to an external address."""

NEIGHBOUR = "10.128.0.7"
"""Somebody in the same network; the stand-in's clients count as such when they come to an internal address."""

IAP = "35.235.240.7"
"""One of the addresses that Identity-Aware Proxy forwards from."""


def default_rules(link: str) -> list[dict[str, Any]]:
    """What a new project's default network has."""
    rules = {
        "default-allow-ssh": (["0.0.0.0/0"], [{"IPProtocol": "tcp", "ports": ["22"]}]),
        "default-allow-icmp": (["0.0.0.0/0"], [{"IPProtocol": "icmp"}]),
        "default-allow-internal": (
            ["10.128.0.0/9"],
            [{"IPProtocol": kind, "ports": ["0-65535"]} for kind in ("tcp", "udp")] + [{"IPProtocol": "icmp"}],
        ),
    }
    return [
        {
            "kind": "compute#firewall",
            "id": str(3000 + index),
            "name": name,
            "network": f"{link}/global/networks/default",
            "selfLink": f"{link}/global/firewalls/{name}",
            "direction": "INGRESS",
            "priority": 65534,
            "disabled": False,
            "sourceRanges": sources,
            "allowed": allowed,
        }
        for index, (name, (sources, allowed)) in enumerate(rules.items())
    ]


def lets_in(rules: Sequence[Mapping[str, Any]], source: str, tags: Sequence[str], port: int = 22) -> bool:
    """Whether a machine with these network tags may be reached from ``source``: the first rule by priority decides."""
    for rule in sorted(rules, key=lambda rule: (rule.get("priority", 1000), "allowed" in rule)):
        if rule.get("disabled") or rule.get("direction", "INGRESS") != "INGRESS":
            continue
        if rule.get("targetTags") and not set(rule["targetTags"]) & set(tags):
            continue
        here = any(ipaddress.ip_address(source) in ipaddress.ip_network(r) for r in rule.get("sourceRanges", ()))
        for verdict in ("denied", "allowed"):
            if here and any(_concerns(protocol, port) for protocol in rule.get(verdict, ())):
                return verdict == "allowed"
    return False


def _concerns(protocol: Mapping[str, Any], port: int) -> bool:
    if protocol.get("IPProtocol") not in ("tcp", "all", "6"):
        return False
    ranges = [text.partition("-") for text in protocol.get("ports", ["0-65535"])]
    return any(int(low) <= port <= int(high or low) for low, _, high in ranges)
