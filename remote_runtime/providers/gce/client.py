"""The calls to Google's APIs: plain JSON in and out, our errors, and our own retries.

The only user of google-cloud-compute, which takes seconds to import and is imported at the first call.  Long-running
calls give their operation at once, since the library's own waiting would ask Google's endpoint whatever ours is.
"""

from __future__ import annotations

import gc
import json
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from remote_runtime._threads import Deadline, timed_out
from remote_runtime.providers.gce import credentials, endpoints, failures
from remote_runtime.providers.gce.credentials import Identity
from remote_runtime.providers.gce.failures import Fault, Task
from remote_runtime.providers.gce.gcloud import Properties

ANSWER_SECONDS = 8.0
"""An answer that takes longer is asked for again: shorter than close() waits for the thread that asks."""

LONG_POLL_SECONDS = 5.0
PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds between the attempts at one call that fails for a moment."""

CLIENTS = {
    "accelerator_types": "AcceleratorTypesClient",
    "disk_types": "DiskTypesClient",
    "firewalls": "FirewallsClient",
    "images": "ImagesClient",
    "instances": "InstancesClient",
    "machine_types": "MachineTypesClient",
    "projects": "ProjectsClient",
    "zone_operations": "ZoneOperationsClient",
    "zones": "ZonesClient",
}
_RESOURCES = {
    ("instances", "insert"): ("instance_resource", "Instance"),
    ("instances", "set_metadata"): ("metadata_resource", "Metadata"),
}
"""The field of the request that holds the body, and its type."""

_CHANGES = ("delete", "insert", "reset", "resume", "set_disk_auto_delete", "set_metadata", "start", "stop", "suspend")
_DOING = {
    "aggregated_list": "listing the VMs of",
    "delete": "deleting",
    "get": "looking for",
    "get_from_family": "looking for the image family",
    "get_guest_attributes": "reading the guest attributes of",
    "get_serial_port_output": "reading the console of",
    "insert": "making",
    "reset": "resetting",
    "resume": "resuming",
    "set_disk_auto_delete": "keeping a disk of",
    "set_metadata": "changing the metadata of",
    "start": "starting",
    "stop": "stopping",
    "suspend": "suspending",
}
_PERMISSIONS = {"aggregated_list": "list", "insert": "create", "wait": "get"}


class Cloud:
    """The APIs as seen by one identity in one project.  A context manager; for one thread at a time.

    Every method raises :class:`CloudError`, or :class:`TimedOut` when the deadline passes.
    """

    def __init__(self, project: str, identity: Identity, properties: Properties) -> None:
        self.project = project
        self.account = identity.account or properties.account
        self._identity = identity
        self.login = identity.login
        self._endpoint = endpoints.compute_endpoint(properties.compute_url)
        self._oslogin = endpoints.oslogin_endpoint(properties.oslogin_url)
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    def call(
        self, service: str, method: str, deadline: Deadline, *, body: Mapping[str, Any] | None = None, **where: Any
    ) -> dict[str, Any]:
        """One call, made again while it fails for a moment; the answer as JSON.

        ``where`` are the parameters besides the project, by the library's names.  A call that changes something gets
        one request id for all attempts, so that what was done and not answered is not done twice.
        """
        request = {"project": self.project, **{key: value for key, value in where.items() if value not in ("", None)}}
        if method in _CHANGES:
            request.setdefault("request_id", str(uuid.uuid4()))
        if body is not None:
            field, kind = _RESOURCES[service, method]
            request[field] = getattr(_library(), kind).from_json(json.dumps(body))
        task = self._task(service, method, {**(body or {}), **where})
        return self._persist(task, deadline, lambda seconds: self._once(service, method, seconds, request))

    def pages(self, service: str, method: str, deadline: Deadline, **where: Any) -> Iterator[dict[str, Any]]:
        """The pages of a list, each asked for when it is wanted."""
        token = ""
        while True:
            page = self.call(service, method, deadline, page_token=token, **where)
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                return

    def finish(self, operation: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Wait until an operation in a zone is done; return it.

        Raises :class:`CloudError` for one that failed, :class:`TimedOut` if the deadline passes first.
        """
        zone, name = str(operation.get("zone", "")).rpartition("/")[2], operation["name"]
        doing = f"waiting for the operation {operation.get('operationType', '')} in {zone}"
        task = Task(doing, "compute.zoneOperations.get", self.project, self.account)
        where = {"project": self.project, "zone": zone, "operation": name}

        def poll(seconds: float) -> dict[str, Any]:
            return self._poll(seconds, where)

        done = dict(operation)
        while done.get("status") != "DONE":
            deadline.check(doing)
            done = self._persist(task, deadline, poll) or done
        fault = failures.read_operation(done)
        if fault:
            target = str(done.get("targetLink", "")).rpartition("/")[2]
            raise failures.explained(
                fault, Task(f"the operation {done.get('operationType')} of {target}", "", self.project)
            )
        return done

    def oslogin(
        self, method: str, path: str, deadline: Deadline, *, query: Mapping[str, str], body: Any = None
    ) -> dict[str, Any]:
        """A call of the OS Login API; ``path`` goes below ``v1/``."""
        task = Task("asking OS Login who you are", "compute.oslogin.updateExternalUser", self.project, self.account)

        def once(seconds: float) -> dict[str, Any]:
            session = self._authorized_session()
            url = f"{self._oslogin}v1/{path}"
            answer = session.request(method, url, params=dict(query), json=body, timeout=seconds)
            payload = answer.json() if answer.content else {}
            if answer.status_code >= 400:
                raise _Refused(failures.read_answer(answer.status_code, payload))
            return dict(payload)

        return self._persist(task, deadline, once)

    def token(self) -> str:
        """An access token that is good now, for IAP."""
        task = Task("getting an access token", "iap.tunnelInstances.accessViaIAP", self.project, self.account)
        return str(
            self._persist(task, Deadline(ANSWER_SECONDS), lambda _: {"token": credentials.token(self._identity)})[
                "token"
            ]
        )

    def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            client.transport.close()
        if self._session:
            self._session.close()
        self._clients, self._session = {}, None

    # -- one attempt ------------------------------------------------------------------------------------------------

    def _once(self, service: str, method: str, seconds: float, request: Mapping[str, Any]) -> dict[str, Any]:
        call = getattr(self._client(service), f"{method}_unary" if method in _CHANGES else method)
        answer = call(request=dict(request), retry=None, timeout=seconds)
        if hasattr(answer, "pages"):
            answer = next(iter(answer.pages))
        return _as_json(answer)

    def _poll(self, seconds: float, where: Mapping[str, Any]) -> dict[str, Any]:
        """The operation when it is done, or as it is after a while; empty if no answer came in time."""
        import requests.exceptions

        try:
            return self._once("zone_operations", "wait", min(seconds, LONG_POLL_SECONDS), where)
        except requests.exceptions.ReadTimeout:
            return {}

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            kind = getattr(_library(), CLIENTS[service])
            options = {"api_endpoint": self._endpoint}
            self._clients[service] = kind(credentials=self._identity.credentials, client_options=options)
        return self._clients[service]

    def _authorized_session(self) -> Any:
        if self._session is None:
            from google.auth.transport.requests import AuthorizedSession

            self._session = AuthorizedSession(self._identity.credentials)
        return self._session

    # -- all attempts -------------------------------------------------------------------------------------------------

    def _task(self, service: str, method: str, where: Mapping[str, Any]) -> Task:
        what = where.get("instance") or where.get("family") or where.get("name") or self.project
        doing = _DOING.get(method) or f"in the call {method.replace('_', ' ')} of {service.replace('_', ' ')} for"
        group, _, tail = service.partition("_")
        verb, _, rest = method.partition("_")
        action = _PERMISSIONS.get(method) or verb + "".join(part.capitalize() for part in rest.split("_") if part)
        permission = f"compute.{group}{tail.capitalize()}.{action}"
        return Task(f"{doing} {what}", permission, self.project, self.account)

    def _persist(self, task: Task, deadline: Deadline, once: Any) -> dict[str, Any]:
        for pause in (*PAUSES, None):
            deadline.check(task.doing)
            try:
                return dict(_translated(once, deadline.bounded(ANSWER_SECONDS)))
            except _Refused as refused:
                if deadline.expired:
                    raise timed_out(task.doing, deadline.seconds) from refused
                if pause is None or not refused.fault.transient:
                    task = replace(task, login=self.login)
                    raise failures.explained(refused.fault, task) from refused.__cause__
            deadline.sooner(pause).wait(threading.Event())
        raise AssertionError("unreachable: the last attempt returns or raises")

    def __enter__(self) -> Cloud:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Refused(Exception):
    """One attempt was refused."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reasons)
        self.fault = fault


def _library() -> Any:
    """The library.

    At the first time it makes thousands of classes, all of them to stay: if the collector looked at them again and
    again meanwhile, that would take half as long again.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pythons that the library is going to leave behind
            from google.cloud import compute_v1
    finally:
        if collects:
            gc.enable()
    return compute_v1


def _translated(once: Any, seconds: float) -> Any:
    """``once(seconds)``, with what it raises of google's and requests' turned into :class:`_Refused`."""
    import google.api_core.exceptions
    import google.auth.exceptions
    import google.protobuf.json_format
    import requests.exceptions

    try:
        return once(seconds)
    except google.api_core.exceptions.GoogleAPICallError as error:
        raise _Refused(failures.read_answer(int(error.code or 0), _payload(error))) from error
    except google.auth.exceptions.TransportError as error:
        raise _Refused(_unanswered(error)) from error
    except google.auth.exceptions.GoogleAuthError as error:  # expired, revoked, or none where some are wanted
        raise _Refused(Fault(401)) from error
    except (
        requests.exceptions.RequestException,
        google.protobuf.json_format.ParseError,
    ) as error:  # no answer, or none that can be read
        raise _Refused(_unanswered(error)) from error


def _unanswered(error: BaseException) -> Fault:
    """The fault when no answer came; what google.auth raises has its cause among its arguments."""
    import requests.exceptions

    untrusted = any(isinstance(one, requests.exceptions.SSLError) for one in (error, *error.args))
    return Fault(0, (failures.UNTRUSTED,) if untrusted else ())


def _as_json(message: Any) -> dict[str, Any]:
    """A message of the library as the API sent it."""
    from google.protobuf import json_format

    return dict(json_format.MessageToDict(type(message).pb(message)))


def _payload(error: Any) -> Any:
    try:
        return error.response.json()
    except (AttributeError, ValueError):
        return None
