"""The published discovery document of an API as a judge: which method a request calls, and what is wrong with it.

The documents come with PyPI's google-api-python-client; nothing is fetched.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.gce.cloud.refusals import Refused, invalid

_BOUNDS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_SYSTEM_PARAMETERS = {"$alt": "string", "$apiVersion": "string", "returnPartialSuccess": "boolean"}
"""What is taken although the document does not list it; the last is named in its prose, and gcloud sends it."""


@dataclass(frozen=True)
class Method:
    """One method of the API, by its name ("instances.insert") without the API's."""

    name: str
    verb: str
    path: re.Pattern[str]
    document: Mapping[str, Any]

    @property
    def request(self) -> str | None:
        """The name of the body's schema, if it takes a body."""
        name: str | None = self.document.get("request", {}).get("$ref")
        return name

    @property
    def response(self) -> str | None:
        """The name of its answer's schema."""
        name: str | None = self.document.get("response", {}).get("$ref")
        return name


class Api:
    """One discovery document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._name = document["name"]
        self._schemas = document["schemas"]
        self._common = {**document["parameters"], **{name: {"type": kind} for name, kind in _SYSTEM_PARAMETERS.items()}}
        self.methods = list(self._collect(document["resources"], ""))

    def _collect(self, resources: Mapping[str, Any], prefix: str) -> Iterator[Method]:
        for name, resource in resources.items():
            for short, document in resource.get("methods", {}).items():
                yield Method(f"{prefix}{name}.{short}", document["httpMethod"], _pattern(document), document)
            yield from self._collect(resource.get("resources", {}), f"{prefix}{name}.")

    def find(self, verb: str, path: str) -> tuple[Method, dict[str, str]]:
        """The method that a request calls, and the parameters in its path, which is relative to the service's.

        Raises :class:`Refused`: 404 for a path that no method has, 400 for a name in it that can be nobody's.
        """
        for method in self.methods:
            match = method.path.fullmatch(path) if method.verb == verb else None
            if match:
                return method, {name: unquote(value) for name, value in match.groupdict().items()}
        for method in self.methods:
            match = _pattern(method.document, strict=False).fullmatch(path) if method.verb == verb else None
            for name, value in match.groupdict().items() if match else ():
                regex = method.document["parameters"][name].get("pattern", "[^/]+")
                if not re.fullmatch(regex, value):
                    raise invalid(name, value, f"Must be a match of regex '{regex}'")
        raise Refused(404, f"The requested URL /{path} was not found on this server.")

    def check_query(self, method: Method, query: Mapping[str, list[str]]) -> None:
        """Raise :class:`Refused` (400) for unknown, repeated, missing or ill-typed query parameters."""
        known = {**self._common, **method.document.get("parameters", {})}
        for name, values in query.items():
            spec = known.get(name)
            if spec is None or spec.get("location") == "path":
                raise Refused(
                    400, f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                )
            if len(values) > 1 and not spec.get("repeated"):
                raise Refused(400, f"Invalid value at '{name}': it is given more than once.")
            for value in values:
                if not _reads_as(spec, value):
                    raise Refused(400, f"Invalid value at '{name}' ({spec['type']}), \"{value}\"")
        for name, spec in known.items():
            if spec.get("required") and spec.get("location") == "query" and name not in query:
                raise Refused(400, f"Required parameter: {name}", reason="required")

    def check_body(self, method: Method, body: object) -> None:
        """Raise :class:`Refused` (400) for a body that its schema does not allow."""
        if method.request is None:
            if body is not None:
                raise Refused(400, f"Request body is not allowed for {method.name}.")
            return
        if body is None:
            raise Refused(400, "Required object is missing from the request: 'resource'.", reason="required")
        for problem in self.problems({"$ref": method.request}, body, "resource", f"{self._name}.{method.name}"):
            raise Refused(400, f"Invalid JSON payload received. {problem}")

    def problems(self, schema: Mapping[str, Any], value: object, at: str, method: str = "") -> Iterator[str]:
        """Say what in ``value`` its schema does not allow; ``method`` is the one whose required fields count."""
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "object":
            yield from self._object_problems(schema, value, at, method)
        elif kind == "array":
            if not isinstance(value, list):
                yield f"Invalid value at '{at}': not a list"
                return
            for index, item in enumerate(value):
                yield from self.problems(schema["items"], item, f"{at}[{index}]", method)
        elif kind != "any" and not _is(kind, schema, value):
            yield f"Invalid value at '{at}' ({schema.get('format', kind)}), {json.dumps(value)}"

    def _object_problems(self, schema: Mapping[str, Any], value: object, at: str, method: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"Invalid value at '{at}': not an object"
            return
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            if name in properties or rest is not None:
                yield from self.problems(properties.get(name, rest), item, f"{at}.{name}", method)
            else:
                yield f"Unknown name \"{name}\" at '{at}': Cannot find field."
        for name, spec in properties.items():
            if method in spec.get("annotations", {}).get("required", ()) and name not in value:
                yield f"Required field '{at}.{name}' not specified"


@functools.cache
def load(name: str) -> Api:
    """The API whose document is called ``name`` ("compute.v1")."""
    import googleapiclient

    directory = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    return Api(json.loads((directory / f"{name}.json").read_bytes()))


def _pattern(document: Mapping[str, Any], *, strict: bool = True) -> re.Pattern[str]:
    """``projects/{project}`` and ``v1/{+name}:verb`` as expressions whose groups are the parameters.

    Not ``strict``: whatever is in a parameter's place matches.
    """
    parts = re.split(r"\{(\+?\w+)\}", document["path"])
    parameters = document.get("parameters", {})
    text = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            text += re.escape(part)
        else:
            name = part.removeprefix("+")
            allowed = parameters[name].get("pattern", "[^/]+") if strict or "+" in part else "[^/]+"
            allowed = allowed.removeprefix("^").removesuffix("$")
            text += f"(?P<{name}>{allowed})"
    return re.compile(text)


def _reads_as(spec: Mapping[str, Any], text: str) -> bool:
    """Whether the text of a query parameter is of its type."""
    kind = spec["type"]
    if kind == "boolean":
        return text.lower() in ("true", "false")
    if kind == "integer" or spec.get("format") in _BOUNDS:
        low, high = _BOUNDS[spec.get("format", "int64")]
        if not re.fullmatch(r"-?\d{1,20}", text):
            return False
        return max(low, int(spec.get("minimum", low))) <= int(text) <= min(high, int(spec.get("maximum", high)))
    return "enum" not in spec or text in spec["enum"]


def _is(kind: str, schema: Mapping[str, Any], value: object) -> bool:
    """Whether a JSON scalar is of a schema's type; 64-bit integers travel as strings."""
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        low, high = _BOUNDS[schema.get("format", "int32")]
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    if schema.get("format") in _BOUNDS:
        return _reads_as(schema, value)
    return "enum" not in schema or value in schema["enum"]
