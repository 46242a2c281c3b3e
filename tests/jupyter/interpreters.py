"""Pythons with a Jupyter of a certain age, made by uv from the package index: once per run, and only if asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import pythons
from tests.jupyter.environments import uv


@dataclass(frozen=True)
class Recipe:
    """A release of Python, and what to install for it."""

    python: str
    packages: tuple[str, ...]

    def __str__(self) -> str:
        return f"Python {self.python} with {self.packages[0]}"


OLDEST_JUPYTER = ("jupyter_server==2.0.*", "tornado==6.4.*", "ipykernel")
NEWEST_JUPYTER = ("jupyter_server", "tornado", "ipykernel")
MATRIX = {
    f"{python}-{age}": Recipe(python, packages)
    for python in ("3.8", "3.10", "3.12", "3.13")
    for age, packages in (("oldest", OLDEST_JUPYTER), ("newest", NEWEST_JUPYTER))
}
"""What we promise to run on; as far as an index has it: for Python 3.8 the newest are of 2024."""

UPSTREAM = Recipe(
    "3.11", ("jupyter_http_over_ws==0.0.8", "notebook==6.5.7", "tornado==6.4.2", "jupyter_server", "ipykernel")
)
"""One of the last combinations in which upstream's own package works."""

NOTEBOOK_6 = Recipe(
    "3.8", ("notebook==6.4.13", "tornado==6.1", "jinja2<3.1", "jupyter_client<8", "traitlets<5.10", "ipykernel")
)
"""The Notebook before there was a jupyter_server in it."""

Environments = Callable[[Recipe], Path]


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """Makes the environment of a recipe, and gives its Python; a test that needs an absent Python is skipped."""
    made: dict[Recipe, Path] = {}

    def make(recipe: Recipe) -> Path:
        if recipe not in made:
            made[recipe] = make_environment(tmp_path_factory.mktemp("environment") / "venv", recipe)
        return made[recipe]

    return make


def make_environment(directory: Path, recipe: Recipe) -> Path:
    """A virtual environment by ``recipe`` in ``directory``; its Python."""
    uv("venv", "--python", str(pythons.python(recipe.python)), str(directory))
    python = directory / "bin" / "python"
    uv("pip", "install", "--python", str(python), *recipe.packages)
    return python
