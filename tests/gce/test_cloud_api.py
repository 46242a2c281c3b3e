"""The stand-in against Google's own client library: what a client sees of it, and what it sees of a client."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import google.auth
import google.auth.transport.requests
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import compute_v1
from google.oauth2.credentials import Credentials as TokenCredentials

from tests.gce.cloud import (
    Cloud,
    Drop,
    Late,
    Slow,
    api_disabled,
    billing_off,
    forbidden,
    quota_exceeded,
    stock_out,
)

ZONE = "us-central1-a"
Client = TypeVar("Client")


class Clients:
    """Clients of one cloud; closed together."""

    def __init__(self, cloud: Cloud, opened: ExitStack, credentials: Credentials | None = None) -> None:
        self._cloud = cloud
        self._opened = opened
        self._credentials = credentials or AnonymousCredentials()
        self.instances = self.of(compute_v1.InstancesClient)
        self.operations = self.of(compute_v1.ZoneOperationsClient)

    def of(self, kind: type[Client]) -> Client:
        client: Any = kind(credentials=self._credentials, client_options={"api_endpoint": self._cloud.world.root_url})
        self._opened.callback(client.transport.close)
        return client  # type: ignore[no-any-return]

    def at(self, name: str, **more: Any) -> dict[str, Any]:
        return {"project": self._cloud.project, "zone": ZONE, "instance": name, **more}

    def insert(self, name: str, *, request_id: str = "", zone: str = ZONE, **fields: Any) -> compute_v1.Operation:
        source = "projects/debian-cloud/global/images/family/debian-12"
        disk = compute_v1.AttachedDisk(boot=True, auto_delete=True, initialize_params={"source_image": source})
        access = compute_v1.AccessConfig(name="external-nat", type_="ONE_TO_ONE_NAT")
        network = compute_v1.NetworkInterface(network="global/networks/default", access_configs=[access])
        body = compute_v1.Instance(
            name=name,
            machine_type=f"zones/{zone}/machineTypes/e2-standard-4",
            disks=[disk],
            network_interfaces=[network],
            **fields,
        )
        request: dict[str, Any] = {"project": self._cloud.project, "zone": zone, "instance_resource": body}
        if request_id:
            request["request_id"] = request_id
        return self.instances.insert_unary(request=request)

    def wait(self, operation: compute_v1.Operation, *, zone: str = ZONE) -> compute_v1.Operation:
        return self.operations.wait(project=self._cloud.project, zone=zone, operation=operation.name)


@pytest.fixture
def clients(api: Cloud) -> Iterator[Clients]:
    with ExitStack() as opened:
        yield Clients(api, opened)


def test_an_insert_makes_a_running_instance(api: Cloud, clients: Clients) -> None:
    scheduling = {"max_run_duration": {"seconds": 86400}, "instance_termination_action": "STOP"}
    begun = clients.insert("trainer", labels={"owner": "ada"}, scheduling=scheduling)
    ended = clients.wait(begun)
    found = clients.instances.get(**clients.at("trainer"))

    assert begun.status == compute_v1.Operation.Status.PENDING
    assert ended.status == compute_v1.Operation.Status.DONE
    assert not ended.error.errors
    assert ended.target_id == found.id
    assert found.status == "RUNNING"
    assert found.labels == {"owner": "ada"}
    assert found.network_interfaces[0].access_configs[0].nat_i_p.startswith("127.")
    assert found.scheduling.max_run_duration.seconds == 86400
    assert found.resource_status.scheduling.termination_timestamp
    assert api.methods == ["instances.insert", "zoneOperations.wait", "instances.get"]


def test_an_instance_can_be_named_by_its_number(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer")

    assert clients.instances.get(**clients.at(vm.id)).name == "trainer"


@pytest.mark.parametrize(
    ("verbs", "status"),
    [
        (["stop"], "TERMINATED"),
        (["stop", "start"], "RUNNING"),
        (["suspend"], "SUSPENDED"),
        (["suspend", "resume"], "RUNNING"),
        (["reset"], "RUNNING"),
        (["start"], "RUNNING"),
    ],
)
def test_the_life_cycle(api: Cloud, clients: Clients, verbs: list[str], status: str) -> None:
    vm = api.vm("trainer")
    before = vm.address
    for verb in verbs:
        operation = getattr(clients.instances, f"{verb}_unary")(**clients.at("trainer"))
        assert not clients.wait(operation).error.errors

    assert vm.status == status
    assert (vm.address == before) is (len(verbs) == 1 and status == "RUNNING"), "a start gives a new address"
    assert bool(vm.address) is (status == "RUNNING")


def test_a_change_in_the_middle_of_another_is_refused(api: Cloud, clients: Clients) -> None:
    api.vm("trainer")
    api.inject("instances.stop", Slow(30))
    clients.instances.stop_unary(**clients.at("trainer"))

    assert clients.instances.get(**clients.at("trainer")).status == "STOPPING"
    with pytest.raises(exceptions.BadRequest, match="is not ready"):
        clients.instances.start_unary(**clients.at("trainer"))


def test_a_delete_takes_the_disks_that_go_with_it_and_leaves_others(api: Cloud, clients: Clients) -> None:
    api.vm("one")
    api.vm("two")
    operation = clients.instances.set_disk_auto_delete_unary(
        **clients.at("two", device_name="persistent-disk-0", auto_delete=False)
    )
    clients.wait(operation)
    for name in ("one", "two"):
        clients.wait(clients.instances.delete_unary(**clients.at(name)))

    assert api.vms == []
    assert [disk["name"] for disk in api.disks] == ["two"]
    with pytest.raises(exceptions.NotFound, match="was not found"):
        clients.instances.get(**clients.at("one"))


def test_the_same_request_id_names_the_same_operation(api: Cloud, clients: Clients) -> None:
    request_id = str(uuid.uuid4())
    first = clients.insert("trainer", request_id=request_id)

    assert clients.insert("trainer", request_id=request_id).name == first.name
    with pytest.raises(exceptions.Conflict, match="already exists"):
        clients.insert("trainer", request_id=str(uuid.uuid4()))
    with pytest.raises(exceptions.Conflict):
        clients.insert("trainer")
    with pytest.raises(exceptions.BadRequest, match="UUID"):
        clients.insert("other", request_id="0")


def test_metadata_is_replaced_only_by_who_saw_the_newest(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer", metadata={"a": "1"})
    seen = clients.instances.get(**clients.at("trainer")).metadata
    item = compute_v1.Items(key="b", value="2")
    new = compute_v1.Metadata(fingerprint=seen.fingerprint, items=[*seen.items, item])
    clients.wait(clients.instances.set_metadata_unary(**clients.at("trainer", metadata_resource=new)))

    assert vm.metadata == {"a": "1", "b": "2"}
    with pytest.raises(exceptions.PreconditionFailed, match="fingerprint"):
        clients.instances.set_metadata_unary(**clients.at("trainer", metadata_resource=new))


def test_labels_have_a_fingerprint_too(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer")
    wanted: dict[str, Any] = {"labels": {"owner": "ada"}, "label_fingerprint": "abcd"}
    with pytest.raises(exceptions.PreconditionFailed):
        clients.instances.set_labels_unary(**clients.at("trainer", instances_set_labels_request_resource=wanted))
    wanted["label_fingerprint"] = clients.instances.get(**clients.at("trainer")).label_fingerprint
    clients.instances.set_labels_unary(**clients.at("trainer", instances_set_labels_request_resource=wanted))

    assert vm.labels == {"owner": "ada"}


def test_two_hundred_instances_come_in_pages(api: Cloud, clients: Clients) -> None:
    zones = api.world.zones
    for number in range(200):
        api.vm(f"vm-{number:03}", zone=zones[number % len(zones)], status="TERMINATED")
    pager = clients.instances.aggregated_list(request={"project": api.project, "max_results": 30})
    found = [instance.name for page in pager.pages for scope in page.items.values() for instance in scope.instances]

    assert sorted(found) == [f"vm-{number:03}" for number in range(200)]
    assert api.methods.count("instances.aggregatedList") == 7


def test_a_list_tells_empty_zones_from_those_that_can_not_be_asked(api: Cloud, clients: Clients) -> None:
    api.vm("trainer")
    api.vm("hidden", zone="us-west1-b")
    api.world.unreachable_zones.add("us-west1-b")
    request = {"project": api.project, "filter": '(name = "trainer") OR (name = "hidden")'}
    found = dict(clients.instances.aggregated_list(request=request))

    assert [instance.name for instance in found[f"zones/{ZONE}"].instances] == ["trainer"]
    assert found["zones/us-central1-b"].warning.code == "NO_RESULTS_ON_PAGE"
    assert found["zones/us-west1-b"].warning.code == "UNREACHABLE"


def test_guest_attributes(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer", metadata={"enable-guest-attributes": "true"})
    api.vm("silent")
    request = {**clients.at("trainer"), "query_path": "hostkeys/"}
    with pytest.raises(exceptions.NotFound, match="of type 'Guest Attribute' was not found"):
        clients.instances.get_guest_attributes(request=request)
    vm.guest_attributes["hostkeys", "ssh-ed25519"] = "AAAA"
    items = clients.instances.get_guest_attributes(request=request).query_value.items

    assert [(item.namespace, item.key, item.value) for item in items] == [("hostkeys", "ssh-ed25519", "AAAA")]
    with pytest.raises(exceptions.Forbidden):
        clients.instances.get_guest_attributes(request={**request, "instance": "silent"})


def test_the_console_goes_on_where_one_stopped_reading(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer")
    vm.serial = "one\n"
    first = clients.instances.get_serial_port_output(**clients.at("trainer"))
    vm.serial += "two\n"
    second = clients.instances.get_serial_port_output(request={**clients.at("trainer"), "start": first.next_})

    assert (first.contents, second.contents) == ("one\n", "two\n")


def test_images_zones_and_types(api: Cloud, clients: Clients) -> None:
    images = clients.of(compute_v1.ImagesClient)
    newest = images.get_from_family(project="debian-cloud", family="debian-12")
    learning = images.list(project="deeplearning-platform-release")
    types = clients.of(compute_v1.MachineTypesClient)
    accelerators = types.get(project=api.project, zone=ZONE, machine_type="g2-standard-4").accelerators

    assert newest.name == "debian-12-bookworm-v20261111"
    assert any(image.family.startswith("common-cu") for image in learning)
    assert ZONE in [zone.name for zone in clients.of(compute_v1.ZonesClient).list(project=api.project)]
    assert [gpu.guest_accelerator_type for gpu in accelerators] == ["nvidia-l4"]
    assert clients.of(compute_v1.ProjectsClient).get(project=api.project).name == api.project


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_stock_out_is_told_by_the_operation_and_the_instance_disappears(api: Cloud, clients: Clients) -> None:
    api.inject("instances.insert", stock_out(api.project, ZONE), zone=ZONE)
    begun = clients.insert("trainer")
    assert clients.instances.get(**clients.at("trainer")).status in ("PROVISIONING", "STAGING")
    ended = clients.wait(begun)

    assert ended.error.errors[0].code == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert ended.error.errors[0].error_details[2].error_info.reason == "resource_availability"
    assert ended.http_error_status_code == 503
    assert (api.vms, api.disks) == ([], [])
    elsewhere = clients.insert("trainer", zone="us-central1-b")
    assert not clients.wait(elsewhere, zone="us-central1-b").error.errors


def test_a_stock_out_at_a_start_leaves_it_stopped(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer", status="TERMINATED")
    api.inject("instances.start", stock_out(api.project, ZONE))

    assert clients.wait(clients.instances.start_unary(**clients.at("trainer"))).error.errors
    assert vm.status == "TERMINATED"


def test_a_quota_is_told_with_its_numbers(api: Cloud, clients: Clients) -> None:
    api.inject("instances.insert", quota_exceeded("NVIDIA_T4_GPUS", "us-central1"))
    error = clients.wait(clients.insert("trainer")).error.errors[0]

    assert error.code == "QUOTA_EXCEEDED"
    assert error.error_details[0].quota_info.metric_name == "compute.googleapis.com/nvidia_t4_gpus"
    assert error.error_details[0].quota_info.dimensions == {"region": "us-central1"}


def test_a_dropped_answer_leaves_the_work_done(api: Cloud, clients: Clients) -> None:
    api.inject("instances.insert", Drop(done=True))
    api.inject("instances.insert", Drop(done=False))
    request_id = str(uuid.uuid4())
    with pytest.raises(Exception, match="Connection"):
        clients.insert("done", request_id=request_id)
    with pytest.raises(Exception, match="Connection"):
        clients.insert("not-done")

    assert [vm.name for vm in api.vms] == ["done"]
    assert not clients.wait(clients.insert("done", request_id=request_id)).error.errors
    assert api.unused_faults == []


def test_refusals_have_their_status_and_reason(api: Cloud, clients: Clients) -> None:
    number = api.world.project_number
    api.refuse("instances.get", forbidden("compute.instances.get", "projects/p/zones/z/instances/i"))
    api.refuse("instances.get", api_disabled("compute.googleapis.com", number))
    api.refuse("instances.get", billing_off(number))
    api.fail("instances.get", status=429)
    reasons = []
    for kind in (exceptions.Forbidden, exceptions.Forbidden, exceptions.Forbidden, exceptions.TooManyRequests):
        with pytest.raises(kind) as refused:
            clients.instances.get(**clients.at("trainer"))
        reasons.append((refused.value.reason, refused.value.errors[0]["reason"]))

    assert reasons == [
        ("IAM_PERMISSION_DENIED", "forbidden"),
        ("SERVICE_DISABLED", "accessNotConfigured"),
        ("BILLING_DISABLED", "forbidden"),
        (None, "rateLimitExceeded"),
    ]
    with pytest.raises(exceptions.NotFound, match=r"projects/other"):
        clients.instances.get(project="other", zone=ZONE, instance="trainer")


def test_what_the_schema_does_not_know_is_refused_and_nothing_done(api: Cloud, clients: Clients) -> None:
    with pytest.raises(exceptions.BadRequest, match="provisioningModel"):
        clients.insert("trainer", scheduling={"provisioning_model": "CHEAP"})
    with pytest.raises(exceptions.BadRequest, match="does not exist in zone"):
        clients.instances.insert_unary(
            project=api.project,
            zone=ZONE,
            instance_resource={
                "name": "trainer",
                "machine_type": f"zones/{ZONE}/machineTypes/n1-giant",
                "disks": [{"boot": True}],
            },
        )

    assert api.vms == []


def test_a_late_answer_is_late(api: Cloud, clients: Clients) -> None:
    api.vm("trainer")
    api.inject("instances.get", Late(0.5))
    begun = time.monotonic()
    clients.instances.get(**clients.at("trainer"))

    assert time.monotonic() - begun >= 0.5


def test_a_preempted_instance_stops_and_the_operations_say_why(api: Cloud, clients: Clients) -> None:
    vm = api.vm("trainer", scheduling={"provisioningModel": "SPOT"})
    api.preempt(vm, seconds=0.05)
    assert vm.status == "STOPPING"
    api.wait_until(lambda: vm.status == "TERMINATED")
    kinds = [operation.operation_type for operation in clients.operations.list(project=api.project, zone=ZONE)]

    assert kinds == ["compute.instances.preempted"]


# -- credentials -----------------------------------------------------------------------------------------------------


def test_tokens(api: Cloud) -> None:
    api.vm("trainer")
    token = Path(api.environment()["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text()
    with ExitStack() as opened:
        good = Clients(api, opened, TokenCredentials(token))
        assert good.instances.get(**good.at("trainer")).name == "trainer"
        api.world.token_required = True
        assert good.instances.get(**good.at("trainer")).name == "trainer"
        anonymous = Clients(api, opened)
        with pytest.raises(Exception, match=r"Anonymous credentials"):
            anonymous.instances.get(**anonymous.at("trainer"))


def test_a_service_account_gets_its_token_here(api: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api.vm("trainer")
    api.world.token_required = True
    api.write_service_account(tmp_path / "key.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    with google.auth.transport.requests.requests.Session() as session:
        credentials.refresh(google.auth.transport.requests.Request(session))
        with ExitStack() as opened:
            clients = Clients(api, opened, TokenCredentials(credentials.token))
            assert clients.instances.get(**clients.at("trainer")).name == "trainer"
        api.world.grants_refused = True
        with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
            credentials.refresh(google.auth.transport.requests.Request(session))

    assert project == api.project


def test_os_login_makes_an_account_with_the_key(api: Cloud) -> None:
    import requests

    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID8oBHhPaa/UB1xGfwb51wpNRxQu9QdeqcrtYXJ2cM9Y me"
    body = {"key": key, "expirationTimeUsec": str(int((time.time() + 60) * 1e6))}
    url = f"{api.oslogin_url}v1/users/{api.user}"
    with requests.Session() as session:
        before = session.get(f"{url}/loginProfile", params={"projectId": api.project}).json()
        after = session.post(f"{url}:importSshPublicKey", params={"projectId": api.project}, json=body).json()
        expired = session.post(f"{url}:importSshPublicKey", json={**body, "expirationTimeUsec": "1"})
        stranger = session.get(f"{api.oslogin_url}v1/users/eve@example.com/loginProfile", params={"projectId": "x"})

    assert before == {"name": api.user}
    (fingerprint,) = after["loginProfile"]["sshPublicKeys"]
    assert after["loginProfile"]["sshPublicKeys"][fingerprint]["key"] == key
    assert after["loginProfile"]["posixAccounts"][0]["username"] == "ada_example_com"
    assert (expired.status_code, stranger.status_code) == (400, 404)
    assert json.loads(expired.text)["error"]["code"] == 400
