"""The fault table: what can go wrong, and what its user is told about it.

Each row is a test, declared by :func:`fails` or :func:`works`; the test provokes the situation for real and returns the
:class:`~tests.faults.person.Outcome` of the command that a person then runs.  What every row has to hold is checked
here.  README's troubleshooting section is made from the same rows::

    python -m tests.faults.table            write it
    python -m tests.faults.table --check    tell by the exit status whether it is up to date
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.person import Outcome

README = Path(__file__).parents[2] / "README.md"
BEGIN = "<!-- made by `python -m tests.faults.table` -->"
END = "<!-- end of what it made -->"

GROUPS = {
    "Reaching the machine": "reaching",
    "Logging in": "logging_in",
    "The machine's shell and files": "shell",
    "Python and Jupyter": "jupyter",
    "Installing Jupyter": "installing",
    "This computer": "host",
    "Options": "options",
}
"""The groups in the order of README, and the test module of each: ``tests/faults/test_rows_<it>.py``."""

GRACE_SECONDS = 20.0
"""What a command may take beyond its --timeout, to start and to end on a busy machine."""

_quoted_log = re.compile(r"(?m)^  \| .*\n")
_NO_NAMES = {"A", "An", "Another", "It", "Its", "Nothing", "Other", "The", "Your"}

_COMMAND = re.compile(r"^  (\S+(?: \S+)*) *")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Row:
    """One situation; ``code`` is empty where everything works all the same."""

    group: str
    situation: str
    says: str
    code: str = ""
    status: int = 0


_rows: list[Row] = []

Provoke = Callable[..., Outcome]


def fails(situation: str, *, code: str, says: str, status: int = 1) -> Callable[[Provoke], Callable[..., None]]:
    """A row that ends with the error ``code`` and the exit status; ``says`` are words of its message or hint: the cure,
    as README shows it too."""
    return _row(situation, says=says, code=code, status=status)


def works(situation: str, *, says: str = "") -> Callable[[Provoke], Callable[..., None]]:
    """A row that ends with a URL that answers; ``says`` are words of what is told on the way, if anything is."""
    return _row(situation, says=says)


def _row(situation: str, **rest: Any) -> Callable[[Provoke], Callable[..., None]]:
    def declare(provoke: Provoke) -> Callable[..., None]:
        row = Row(_group(provoke.__module__), situation, **rest)
        _rows.append(row)

        @functools.wraps(provoke)
        def test(*args: Any, **kwargs: Any) -> None:
            check(row, provoke(*args, **kwargs))

        return test

    return declare


def _group(module: str) -> str:
    for group, name in GROUPS.items():
        if module.endswith(f"test_rows_{name}"):
            return group
    raise ValueError(f"{module} is the module of no group")


def check(row: Row, outcome: Outcome) -> None:
    """Fail unless the outcome is the row's, in time, and fit to be read by a person."""
    told = f"{outcome.message}\n{outcome.hint}"
    if row.code:
        assert outcome.code == row.code, outcome
        assert row.says in told, f"{row.says!r} is not in:\n{told}"
    else:
        assert outcome.ready, outcome
        assert row.says in outcome.told, f"{row.says!r} is not in:\n{outcome.told}"
    assert outcome.status == row.status, outcome
    assert outcome.seconds < outcome.timeout + GRACE_SECONDS, f"it took {outcome.seconds:.1f} s"
    assert not outcome.left, "left behind:\n" + "\n".join(outcome.left)
    for text in (_quoted_log.sub("", outcome.told), told):
        assert "Traceback" not in text, text
        assert not _CONTROL.search(text), repr(text)
        assert not outcome.token or outcome.token not in text, "the token was shown"


def rows() -> list[Row]:
    """All rows, in the order of README."""
    for name in GROUPS.values():
        importlib.import_module(f"tests.faults.test_rows_{name}")
    order = list(GROUPS)
    return sorted(_rows, key=lambda row: order.index(row.group))


def markdown() -> str:
    """The troubleshooting section's tables."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    known = rows()
    for group in GROUPS:
        failing = [row for row in known if row.group == group and row.code]
        working = [row.situation for row in known if row.group == group and not row.code]
        yield f"\n**{group}**\n"
        yield "| when | what is said | code |"
        yield "| --- | --- | --- |"
        for row in failing:
            status = f", exit {row.status}" if row.status != 1 else ""
            yield f"| {_cell(row.situation)} | {_cell(row.says)} | `{row.code}`{status} |"
        if working:
            yield f"\nIt works all the same when: {'; '.join(map(_uncapitalised, working))}."
    yield ""


def _uncapitalised(text: str) -> str:
    """The text as it goes on in a sentence; names stay as they are."""
    return text[0].lower() + text[1:] if text.split()[0] in _NO_NAMES else text


def _cell(text: str) -> str:
    """The text in a cell; an indented line of it begins with a command, and what is said of that is two spaces off."""
    lines = [_COMMAND.sub(r"`\1` ", line).rstrip() for line in text.replace("<", "\\<").split("\n")]
    return "<br>".join(lines).replace("|", "\\|")


def updated(readme: str) -> str:
    """README with the tables of now between the marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


def main() -> int:
    """Write README's tables, or say whether they are up to date."""
    readme = README.read_text(encoding="utf-8")
    wanted = updated(readme)
    if sys.argv[1:] == ["--check"]:
        return int(readme != wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    from tests.faults import table  # the rows register themselves there, not in __main__

    sys.exit(table.main())
