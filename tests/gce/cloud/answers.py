"""What the answering functions have in common: the request as a value, their register, and lists by pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.gce.cloud import filters
from tests.gce.cloud.refusals import invalid

if TYPE_CHECKING:
    from tests.gce.cloud.world import World

DEFAULT_PAGE = 500


@dataclass(frozen=True)
class Request:
    """A request that the schema allows: its method ("instances.insert"), parameters and body."""

    method: str
    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""

    @property
    def zone(self) -> str | None:
        return self.path.get("zone")

    @property
    def request_id(self) -> str:
        return self.query.get("requestId", "")


Answer = Callable[["World", Request], dict[str, Any]]
REGISTER: dict[str, Answer] = {}


def answers(*methods: str) -> Callable[[Answer], Answer]:
    """Let the function answer these methods; it runs with the world's lock held."""

    def register(function: Answer) -> Answer:
        REGISTER.update(dict.fromkeys(methods, function))
        return function

    return register


def page(
    world: World, request: Request, kind: str, path: str, resources: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One page of a list, filtered."""
    some, token = cut(request, resources)
    answer: dict[str, Any] = {"kind": kind, "id": path, "selfLink": world.link(path)}
    if some:
        answer["items"] = some
    if token:
        answer["nextPageToken"] = token
    return answer


def cut(request: Request, resources: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str]:
    """The resources of the page that is asked for, and the token of the next one, "" at the end."""
    wanted = filters.parse(request.query.get("filter", ""))
    found = [resource for resource in resources if wanted(resource)]
    start = _offset(request.query.get("pageToken", ""))
    end = start + (int(request.query.get("maxResults", DEFAULT_PAGE)) or DEFAULT_PAGE)
    token = base64.urlsafe_b64encode(f"offset={end}".encode()).decode() if end < len(found) else ""
    return found[start:end], token


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        name, _, number = base64.urlsafe_b64decode(token).decode().partition("=")
        if name == "offset":
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise invalid("pageToken", token, "Invalid page token.")
