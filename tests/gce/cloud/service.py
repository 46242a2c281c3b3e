"""From an HTTP request to an answer: routes, credentials, the schema's judgement, ordered faults, request ids."""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.gce.cloud import instances, operations, oslogin, places, schema  # they register their methods
from tests.gce.cloud.answers import REGISTER, Request
from tests.gce.cloud.faults import DoneLate, Drop, Late, Meanwhile, Refuse
from tests.gce.cloud.refusals import Refused, invalid, not_found, unauthenticated
from tests.gce.cloud.world import World

_ = (instances, operations, oslogin, places)

_APIS = {"/compute/v1/": "compute.v1", "/oslogin/": "oslogin.v1"}


@dataclass(frozen=True)
class Call:
    """A request that was understood, and its answer's status (0: the connection was dropped)."""

    method: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any] | None
    headers: Mapping[str, str] = field(repr=False)
    status: int


@dataclass(frozen=True)
class Answered:
    """``dropped``: the connection is to be closed without it."""

    status: int
    body: Any
    dropped: bool = False


class Service:
    """Answers the requests of all APIs, one after the other but for those that wait."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.calls: list[Call] = []

    def answer(self, verb: str, target: str, headers: Mapping[str, str], body: bytes) -> Answered:
        """Answer one request; ``headers`` have names in lower case."""
        parts = urlsplit(target)
        for prefix, name in _APIS.items():
            if parts.path.startswith(prefix):
                query = parse_qs(parts.query, keep_blank_values=True)
                return self._answer(schema.load(name), verb, parts.path.removeprefix(prefix), query, headers, body)
        if parts.path == "/token":
            return self._token()
        return Answered(404, not_found(parts.path).body())

    def _answer(
        self,
        api: schema.Api,
        verb: str,
        path: str,
        query: dict[str, list[str]],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answered:
        try:
            method, in_path = api.find(verb, path)
        except Refused as refused:
            return Answered(refused.status, refused.body())
        in_query = {name: values[-1] for name, values in query.items()}
        value = None
        try:
            value = _json(body)
            user = self._user(headers)
            api.check_query(method, query)
            api.check_body(method, value)
            request = Request(method.name, in_path, in_query, value or {}, user)
            answered = self._serve(api, method, request)
        except Refused as refused:
            answered = Answered(refused.status, refused.body())
        except Exception:  # noqa: BLE001 a test must see it, whatever it is
            self._world.problems.append(traceback.format_exc())
            answered = Answered(500, Refused(500, "Internal error of the stand-in.").body())
        status = 0 if answered.dropped else answered.status
        self.calls.append(Call(method.name, in_path, in_query, value, dict(headers), status))
        return answered

    def _serve(self, api: schema.Api, method: schema.Method, request: Request) -> Answered:
        """Do what a valid request asks, unless a test ordered otherwise."""
        world = self._world
        refuse = world.faults.take(request.method, request.zone, Refuse)
        if refuse:
            raise refuse.error
        drop = world.faults.take(request.method, request.zone, Drop)
        if drop and not drop.done:
            return Answered(0, None, dropped=True)
        late = world.faults.take(request.method, request.zone, Late)
        done_late = world.faults.take(request.method, request.zone, DoneLate)
        if done_late:
            time.sleep(done_late.seconds)
        with world.lock:
            project = request.path.get("project", world.project)
            if project not in (world.project, world.project_number) and not method.name.startswith("image"):
                raise not_found(f"projects/{project}")
            if request.zone not in (None, *world.zones) and method.name != "zones.get":
                raise invalid("zone", request.zone, "Unknown zone.")
            result = self._once(request)
            found = list(api.problems({"$ref": method.response}, result, "answer")) if method.response else []
            world.problems += [f"{method.name}: {problem}" for problem in found]
            text = json.dumps(result)
            meanwhile = world.faults.take(request.method, request.zone, Meanwhile)
            if meanwhile:
                meanwhile.happen()
        if late:
            time.sleep(late.seconds)
        return Answered(200, json.loads(text), dropped=drop is not None)

    def _once(self, request: Request) -> dict[str, Any]:
        """A request id that was seen before names its operation, and nothing is done again."""
        world = self._world
        if request.request_id and not _is_uuid(request.request_id):
            raise Refused(400, f"Invalid value for field 'requestId': '{request.request_id}'. Must be a UUID.")
        seen = world.by_request_id.get(request.request_id)
        if seen:
            return dict(world.operations[seen].resource)
        if request.method not in REGISTER:
            raise Refused(501, f"The stand-in does not do {request.method}.")
        result = REGISTER[request.method](world, request)
        if request.request_id:
            world.by_request_id[request.request_id] = result["name"]
        return result

    def _user(self, headers: Mapping[str, str]) -> str:
        """Whose token it is; "" for nobody's, where that is allowed."""
        given = headers.get("authorization", "")
        if not given and not self._world.token_required:
            return ""
        email = self._world.tokens.get(given.removeprefix("Bearer ").strip())
        if email is None:
            raise unauthenticated()
        return email

    def _token(self) -> Answered:
        """What OAuth's token endpoint gives for a service account's key, or not."""
        if self._world.grants_refused:
            text = "Token has been expired or revoked."
            return Answered(400, {"error": "invalid_grant", "error_description": text})
        token = {"access_token": self._world.service_account_token, "expires_in": 3599, "token_type": "Bearer"}
        return Answered(200, token)


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, "Invalid JSON payload received. Unexpected token.") from None


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0
    except ValueError:
        return False
