"""Options that exclude each other: what comes from a stronger source goes before what comes from a weaker one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from remote_runtime.errors import UsageError

STRENGTH = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
"""Where values are said, the strongest first; the default map is the profile."""


def said_here(name: str) -> bool:
    """Whether this parameter of the current command was said on the command line, for this call alone."""
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE


def outvoted(values: Mapping[str, Any], *pairs: tuple[str, str], problem: str = "contradict each other") -> set[str]:
    """The names among ``values`` that a stronger source has said the opposite of, so that they don't count.

    ``values`` are parameters of the current command; those that are empty or false were not said.  Each pair names two
    that exclude each other.  Raises :class:`UsageError` if both were said in the same place.
    """
    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name, value in values.items() if value}
    return weaker(sources, pairs, problem=problem)


def weaker(
    sources: Mapping[str, ParameterSource | None], pairs: tuple[tuple[str, str], ...], *, problem: str
) -> set[str]:
    """The decision of :func:`outvoted`, from where each name was said."""
    ranks = {name: STRENGTH.index(source) for name, source in sources.items() if source in STRENGTH}
    dropped: set[str] = set()
    for pair in pairs:
        first, second = pair
        if first in ranks and second in ranks and not dropped & {*pair}:
            if ranks[first] == ranks[second]:
                raise UsageError(f"{_flag(first)} and {_flag(second)} {problem}", hint="Leave one of them out.")
            dropped.add(max(pair, key=ranks.__getitem__))
    return dropped


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
