"""Over which address, and which firewall rule is missing."""

from __future__ import annotations

from typing import Any

import pytest

from remote_runtime.errors import InstanceError
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.reach import Route, choose_route, diagnosed, lets_in, missing_rule

NET = "https://x/projects/p/global/networks/default"


def vm(*, external: str | None = "34.1.2.3", internal: str = "10.0.0.2", **fields: Any) -> Vm:
    nic: dict[str, Any] = {"network": NET, "networkIP": internal}
    if external is not None:
        nic["accessConfigs"] = [{"natIP": external} if external else {}]
    return Vm("p", {"name": "trainer", "networkInterfaces": [nic], **fields})


def rule(*ranges: str, allow: bool = True, ports: tuple[str, ...] = ("22",), **fields: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"IPProtocol": "tcp", "ports": list(ports)}
    return {
        "network": NET,
        "direction": "INGRESS",
        "sourceRanges": list(ranges),
        "allowed" if allow else "denied": [entry],
        **fields,
    }


def test_automatic_choice() -> None:
    assert choose_route(vm(), "auto") == "external"
    assert choose_route(vm(external=None), "auto") == "iap"
    assert choose_route(vm(external=""), "auto") is None
    assert choose_route(vm(), "internal") == "internal"
    assert choose_route(vm(), "iap") == "iap"


def test_impossible_choices_say_what_to_do() -> None:
    with pytest.raises(InstanceError) as caught:
        choose_route(vm(external=None), "external")
    assert caught.value.code == "no_external_address"
    with pytest.raises(InstanceError) as caught:
        choose_route(vm(internal=""), "internal")
    assert caught.value.code == "no_internal_address"


@pytest.mark.parametrize(
    ("rules", "route", "verdict"),
    [
        ([], "external", False),
        ([rule("0.0.0.0/0")], "external", True),
        ([rule("0.0.0.0/0")], "iap", True),
        ([rule("35.235.240.0/20")], "iap", True),
        ([rule("35.235.240.0/20")], "external", False),
        ([rule("35.235.240.0/24")], "iap", False),
        ([rule("10.128.0.0/9")], "external", False),
        ([rule("10.128.0.0/9")], "internal", True),
        ([rule("203.0.113.7/32")], "external", True),  # it may be ours
        ([rule("0.0.0.0/0", ports=("80", "443"))], "external", False),
        ([rule("0.0.0.0/0", ports=("20-30",))], "external", True),
        ([rule("0.0.0.0/0", disabled=True)], "external", False),
        ([rule("0.0.0.0/0", direction="EGRESS")], "external", False),
        ([rule("0.0.0.0/0", network="x/other")], "external", False),
        ([rule("0.0.0.0/0", targetTags=["web"])], "external", False),
        ([rule("0.0.0.0/0", targetTags=["lab"])], "external", True),
        ([rule("0.0.0.0/0", targetServiceAccounts=["bot@p"])], "external", True),
        ([rule("0.0.0.0/0"), rule("0.0.0.0/0", allow=False, priority=900)], "external", False),
        ([rule("0.0.0.0/0"), rule("0.0.0.0/0", allow=False, priority=1100)], "external", True),
        ([rule("0.0.0.0/0"), rule("0.0.0.0/0", allow=False)], "external", False),  # of equals the denying one wins
        ([rule("0.0.0.0/0"), rule("203.0.113.7/32", allow=False, priority=1)], "external", True),
        ([rule(sourceTags=["lab"])], "external", False),
        ([rule(sourceTags=["lab"])], "internal", None),
        (
            [{"network": NET, "sourceRanges": ["nonsense", "0.0.0.0/0"], "allowed": [{"IPProtocol": "all"}]}],
            "external",
            True,
        ),
    ],
)
def test_firewall(rules: list[dict[str, Any]], route: Route, verdict: bool | None) -> None:
    machine = vm(tags={"items": ["lab"]}, serviceAccounts=[{"email": "bot@p"}])
    assert lets_in(rules, machine, route) is verdict


def test_missing_rule_is_as_narrow_as_can_be_said() -> None:
    command = missing_rule(vm(tags={"items": ["lab"]}), "iap")
    assert "--source-ranges=35.235.240.0/20" in command
    assert "--target-tags=lab" in command
    assert "--allow=tcp:22" in command
    assert "--target-service-accounts=bot@p" in missing_rule(vm(serviceAccounts=[{"email": "bot@p"}]), "external")
    assert "0.0.0.0/0" not in missing_rule(vm(), "external")


def test_diagnosis_says_only_what_is_known() -> None:
    assert "no firewall rule" in diagnosed(vm(), "external", [])[0]
    assert "gcloud compute firewall-rules create" in diagnosed(vm(), "external", [])[1]
    assert diagnosed(vm(), "external", None)[0] == ""
    message, hint = diagnosed(vm(), "iap", [rule("0.0.0.0/0")])
    assert message == ""
    assert "booting" in hint
    assert "--tunnel-through-iap" not in hint
