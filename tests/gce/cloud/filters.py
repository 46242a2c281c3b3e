"""Filter expressions of list requests, as far as gcloud and this project send them.

``name = "x"``, ``name eq "regular.*expression"``, ``labels.owner:*``, ``status != TERMINATED``, in parentheses or not,
joined by AND, OR or nothing (which is AND).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.gce.cloud.refusals import Refused

Test = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<paren>[()])|(?P<text>"(?:[^"\\]|\\.)*"|'[^']*')|(?P<op>!=|<=|>=|[=:<>])|(?P<word>[^\s()=:<>!"']+))"""
)
_OPERATORS = {"=", "!=", ":", "eq", "ne"}


def parse(text: str) -> Test:
    """What an expression asks of a resource.

    Raises :class:`Refused` (400) for what it does not understand: a test must not pass because a filter was ignored.
    """
    if not text.strip():
        return lambda resource: True
    parser = _Parser(text)
    test = parser.any_of()
    if parser.tokens:
        raise parser.refused()
    return test


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if not match:
                raise self.refused()
            kind = str(match.lastgroup)
            self.tokens.append((kind, match[kind]))
            position = match.end()

    def refused(self) -> Refused:
        return Refused(400, f"Invalid value for field 'filter': '{self._text}'. Invalid list filter expression.")

    def any_of(self) -> Test:
        tests = [self._all_of()]
        while self._next() == "OR":
            self._take()
            tests.append(self._all_of())
        return lambda resource: any(test(resource) for test in tests)

    def _all_of(self) -> Test:
        tests = [self._one()]
        while self._next() not in ("", "OR", ")"):
            if self._next() == "AND":
                self._take()
            tests.append(self._one())
        return lambda resource: all(test(resource) for test in tests)

    def _one(self) -> Test:
        kind, token = self._take()
        if token == "(":
            test = self.any_of()
            if self._take()[1] != ")":
                raise self.refused()
            return test
        if kind != "word":
            raise self.refused()
        operator = self._take()[1]
        if operator not in _OPERATORS:
            raise self.refused()
        kind, value = self._take()
        if kind not in ("word", "text"):
            raise self.refused()
        return _comparison(token, operator, value[1:-1] if kind == "text" else value)

    def _next(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def _take(self) -> tuple[str, str]:
        if not self.tokens:
            raise self.refused()
        return self.tokens.pop(0)


def _comparison(field: str, operator: str, value: str) -> Test:
    def holds(resource: Mapping[str, Any]) -> bool:
        found = _value(resource, field)
        if operator == ":" and value == "*":
            return found is not None
        text = str(found).lower() if isinstance(found, bool) else "" if found is None else str(found)
        if operator in ("eq", "ne"):
            return bool(re.fullmatch(value, text)) is (operator == "eq")
        if operator == ":":
            return value.lower() in text.lower()
        return (text == value) is (operator == "=")

    return holds


def _value(resource: Any, field: str) -> Any:
    for name in field.split("."):
        resource = resource.get(name) if isinstance(resource, Mapping) else None
    return resource
