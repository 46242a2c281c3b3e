"""The stand-in's pure parts: what it takes for valid, and what the guest agent makes of metadata."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gce.cloud import agent, catalog, filters, firewalls, judging, schema
from tests.gce.cloud.refusals import Refused

KEY = "ssh-ed25519 AAAAC3Nza me"
ZONE = "us-central1-a"


class TestSchema:
    def test_finds_the_method_and_what_is_in_its_path(self) -> None:
        method, path = schema.load("compute.v1").find("GET", f"projects/p/zones/{ZONE}/instances/trainer")

        assert method.name == "instances.get"
        assert path == {"project": "p", "zone": ZONE, "instance": "trainer"}

    def test_finds_a_method_with_a_verb_of_its_own(self) -> None:
        method, path = schema.load("oslogin.v1").find("POST", "v1/users/ada@example.com:importSshPublicKey")

        assert (method.name, path) == ("users.importSshPublicKey", {"parent": "users/ada@example.com"})

    @pytest.mark.parametrize(
        ("path", "status"), [("projects/p/nothing", 404), (f"projects/p/zones/{ZONE}/instances/Trainer", 400)]
    )
    def test_refuses_other_paths(self, path: str, status: int) -> None:
        with pytest.raises(Refused) as refused:
            schema.load("compute.v1").find("GET", path)

        assert refused.value.status == status

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "x", "nmae": "x"},
            {"name": "x", "labels": {"a": 1}},
            {"name": "x", "disks": {}},
            {"name": "x", "disks": [{"boot": "yes"}]},
            {"name": "x", "scheduling": {"provisioningModel": "CHEAP"}},
            {"name": "x", "scheduling": {"maxRunDuration": {"seconds": "a day"}}},
            {"name": "x", "guestAccelerators": [{"acceleratorCount": 2**31}]},
            {"machineType": "without a name"},
            [],
            None,
        ],
    )
    def test_refuses_bodies_that_the_schema_does_not_allow(self, body: Any) -> None:
        api = schema.load("compute.v1")
        insert, _ = api.find("POST", f"projects/p/zones/{ZONE}/instances")

        with pytest.raises(Refused) as refused:
            api.check_body(insert, body)

        assert refused.value.status == 400

    def test_allows_what_is_right(self) -> None:
        api = schema.load("compute.v1")
        insert, _ = api.find("POST", f"projects/p/zones/{ZONE}/instances")

        api.check_body(
            insert, {"name": "x", "scheduling": {"maxRunDuration": {"seconds": "7200"}}, "labels": {"a": "b"}}
        )
        api.check_query(insert, {"requestId": ["1"], "$alt": ["json"]})

    @pytest.mark.parametrize(
        "query", [{"requestID": ["1"]}, {"zone": ["z"]}, {"requestId": ["1", "2"]}, {"prettyPrint": ["perhaps"]}]
    )
    def test_refuses_query_parameters_that_the_method_does_not_have(self, query: dict[str, list[str]]) -> None:
        api = schema.load("compute.v1")
        insert, _ = api.find("POST", f"projects/p/zones/{ZONE}/instances")

        with pytest.raises(Refused):
            api.check_query(insert, query)


VM = {"name": "trainer", "status": "RUNNING", "labels": {"owner": "ada"}, "scheduling": {"preemptible": False}}


class TestFilters:
    @pytest.mark.parametrize(
        ("text", "holds"),
        [
            ("", True),
            ('name = "trainer"', True),
            ("name=trainer", True),
            ('name = "train"', False),
            ("name eq train.*", True),
            ("name eq train", False),
            ("name ne train", True),
            ("labels.owner:*", True),
            ("labels.team:*", False),
            ("scheduling.preemptible = false", True),
            ("(status != RUNNING) OR (labels.owner = ada)", True),
            ("(status != RUNNING) AND (labels.owner = ada)", False),
            ("(status = RUNNING) (name = other)", False),
        ],
    )
    def test_tells_who_is_meant(self, text: str, holds: bool) -> None:
        assert filters.parse(text)(VM) is holds

    @pytest.mark.parametrize("text", ["name", "name = ", "(name = x", "name ~ x", "= x", "name = x)"])
    def test_refuses_what_it_does_not_understand(self, text: str) -> None:
        with pytest.raises(Refused):
            filters.parse(text)

    @given(st.text())
    def test_any_text_is_understood_or_refused(self, text: str) -> None:
        try:
            assert filters.parse(text)(VM) in (True, False)
        except Refused as refused:
            assert refused.status == 400


class TestAgent:
    def test_an_expired_key_and_a_broken_line_do_not_count(self) -> None:
        now = datetime(2026, 11, 21, 22, 0, tzinfo=timezone.utc).timestamp()
        found = agent.keys(
            {
                "ssh-keys": f"ada:{KEY}\nbroken\n"
                'bob:ssh-rsa AAA google-ssh {"userName":"bob","expireOn":"2026-11-21T21:59:59+0000"}\n'
                'eve:ssh-rsa AAA google-ssh {"userName":"eve","expireOn":"2026-11-21T22:00:07+0000"}'
            },
            {},
        )

        assert agent.per_user(found, now) == {"ada": (KEY,), "eve": ("ssh-rsa AAA",)}
        assert agent.next_expiry(found, now) == 7

    @pytest.mark.parametrize(("blocks", "users"), [("", {"ada", "bob"}), ("TRUE", {"ada"})])
    def test_the_instance_can_block_the_projects_keys(self, blocks: str, users: set[str]) -> None:
        instance = {"ssh-keys": f"ada:{KEY}", "block-project-ssh-keys": blocks}

        assert set(agent.per_user(agent.keys(instance, {"ssh-keys": f"bob:{KEY}"}), 0)) == users

    def test_managed_keys_are_replaced_and_others_stay(self) -> None:
        first = agent.authorized_keys("ssh-rsa MINE\n", ["ssh-rsa ONE", "ssh-rsa TWO"])
        second = agent.authorized_keys(first, ["ssh-rsa THREE"])

        assert second == "ssh-rsa MINE\n# Added by Google\nssh-rsa THREE\n"


SSH = {"allowed": [{"IPProtocol": "tcp", "ports": ["20-30"]}], "sourceRanges": ["0.0.0.0/0"], "priority": 1000}


class TestFirewalls:
    @pytest.mark.parametrize(
        ("rules", "open_"),
        [
            ([], False),
            ([SSH], True),
            ([{**SSH, "disabled": True}], False),
            ([{**SSH, "direction": "EGRESS"}], False),
            ([{**SSH, "targetTags": ["web"]}], False),
            ([{**SSH, "targetTags": ["lab"]}], True),
            ([{**SSH, "sourceRanges": ["35.235.240.0/20"]}], False),
            ([{**SSH, "allowed": [{"IPProtocol": "tcp", "ports": ["443"]}]}], False),
            ([SSH, {"denied": [{"IPProtocol": "all"}], "sourceRanges": ["0.0.0.0/0"], "priority": 900}], False),
            ([SSH, {"denied": [{"IPProtocol": "all"}], "sourceRanges": ["0.0.0.0/0"], "priority": 1100}], True),
        ],
    )
    def test_the_first_rule_that_concerns_it_decides(self, rules: list[dict[str, Any]], open_: bool) -> None:
        assert firewalls.lets_in(rules, firewalls.ANYBODY, ["lab"]) is open_


BODY: dict[str, Any] = {
    "name": "trainer",
    "machineType": f"zones/{ZONE}/machineTypes/n1-standard-4",
    "disks": [{"initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"}}],
    "networkInterfaces": [{}],
}
GPU = [{"acceleratorType": f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", "acceleratorCount": 1}]
STAYS = {"onHostMaintenance": "TERMINATE"}


class TestJudging:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"guestAccelerators": GPU, "scheduling": STAYS},
            {"machineType": f"zones/{ZONE}/machineTypes/g2-standard-4", "scheduling": STAYS},
            {"scheduling": {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}},
            {"scheduling": {"maxRunDuration": {"seconds": "86400"}, "instanceTerminationAction": "STOP"}},
        ],
    )
    def test_takes_what_can_be_made(self, changes: dict[str, Any]) -> None:
        judging.check_instance({**BODY, **changes}, ZONE)

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "Trainer"},
            {"machineType": "n1-standard-4"},
            {"machineType": "zones/us-west1-b/machineTypes/n1-standard-4"},
            {"machineType": f"zones/{ZONE}/machineTypes/n1-standard-5"},
            {"disks": []},
            {"disks": [{"initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-99"}}]},
            {"networkInterfaces": []},
            {"guestAccelerators": GPU},
            {"guestAccelerators": GPU, "scheduling": STAYS, "machineType": f"zones/{ZONE}/machineTypes/e2-standard-4"},
            {"machineType": f"zones/{ZONE}/machineTypes/g2-standard-4"},
            {"scheduling": {"provisioningModel": "SPOT", "automaticRestart": True}},
            {"scheduling": {"maxRunDuration": {"seconds": "86400"}}},
            {"scheduling": {"maxRunDuration": {"seconds": "10"}, "instanceTerminationAction": "STOP"}},
            {"scheduling": {"instanceTerminationAction": "STOP"}},
            {"labels": {"Owner": "ada"}},
            {"labels": {"owner": "ada@example.com"}},
            {"metadata": {"items": [{"key": "a", "value": ""}, {"key": "a", "value": ""}]}},
            {"metadata": {"items": [{"key": "a", "value": "x" * 262145}]}},
        ],
    )
    def test_refuses_what_can_not(self, changes: dict[str, Any]) -> None:
        with pytest.raises(Refused):
            judging.check_instance({**BODY, **changes}, ZONE)

    def test_a_family_stands_for_its_newest_image_that_is_not_deprecated(self) -> None:
        image = catalog.newest("debian-cloud", "debian-12")

        assert image is not None
        assert image.name == "debian-12-bookworm-v20261111"
