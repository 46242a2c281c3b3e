"""Jupyter on a machine that has none: an environment of our own, made in the quickest way that works there.

uv first, since it takes seconds where pip takes a minute; then venv and pip; then wheels that the host sends, for a
machine without a way to a package index.  Everything is locked by sha256, so it does not matter who serves it.
"""

from __future__ import annotations

import json
import os
import pkgutil
import platform
import re
import shutil
import subprocess
import time
from collections import deque

from . import child, installers, pins, pipconf
from .diagnosis import PASSING, Failure, explain, kind_of, last_words, next_way
from .index import Index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Sequence

LOCKS = {"none": ("requirements.txt",), "lab": ("requirements.txt", "requirements-lab.txt")}
LOG_LINES = 40
DESCRIBE_SECONDS = 30.0
# Lines of the installers that tell a person nothing.
DULL = re.compile(
    r"\s*[+~-] |Using |Ignoring .* markers |Requirement already|  (Using cached|Downloading) "
    r"|Looking in|Creating|Activate|\[notice\]"
)


class InstallError(Exception):
    """Jupyter could not be installed: a stable ``code``, a ``message``, a ``hint``, and the installers' last lines.

    ``retryable`` tells whether the same may work later.
    """

    def __init__(self, code: str, message: str, hint: str, log: Sequence[str]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.log = tuple(log)
        self.retryable = code in PASSING


def build_environment(
    directory: str,
    *,
    python: str,
    ui: str,
    say: Callable[[str], None],
    need: Callable[[dict[str, Any]], list[str] | None],
    deadline_seconds: float,
) -> str:
    """Make an environment with Jupyter at ``directory`` and return its Python.

    It is built beside and renamed when it is whole, so ``directory`` never holds half of one; whatever was there is
    replaced.  The installers and their cache are kept in ``tools`` beside it.  ``python`` is the interpreter to build
    on, ``ui`` is ``lab`` or ``none``; ``say`` gets lines of progress; ``need({"target": ..., "ui": ...})`` asks the
    host for wheels and returns their paths, all in one directory, or None.  Raises :class:`InstallError`.
    """
    deadline = time.monotonic() + deadline_seconds
    work = _Work(directory, python, ui, say, need, deadline)
    failures: list[tuple[str, Failure]] = []
    way: str | None = "uv"
    try:
        while way is not None:
            try:
                work.attempt(way)
                return work.publish()
            except Failure as reason:
                late = time.monotonic() >= deadline
                failure = Failure("timeout", "the time given for it has passed") if late else reason
                failures.append((way, failure))
                way = next_way(way, failure.kind)
                if way is not None:
                    say("{}; trying it {}".format(failure.text, "with pip" if way == "pip" else "with wheels sent"))
    finally:
        work.discard()
    raise InstallError(*explain(failures), work.log)


def beside(directory: str) -> str:
    """A path next to ``directory`` for what is not finished: if this attempt is killed, the next one removes it."""
    return _waste(directory) + os.urandom(4).hex()


def _waste(directory: str) -> str:
    # Homes may be shared between machines: only what a killed attempt on this one left is taken for waste.
    return "{}.new-{}-".format(directory, re.sub(r"\W", "_", platform.node()))


def describe_target(python: str) -> dict[str, str]:
    """What decides which wheels ``python`` can use (see :func:`remote_runtime.guest.target.describe`).

    Raises :class:`Failure` if it can't be run.
    """
    code = _resource("target.py").decode("utf-8")
    try:
        answer = subprocess.run(
            [python, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=DESCRIBE_SECONDS,
            check=True,
        )
        described: dict[str, str] = json.loads(answer.stdout.decode("utf-8"))
        return described
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise Failure("failed", "{} does not run: {}".format(python, error)) from error


class _Work:
    """One call of :func:`build_environment`: its directories, its log, and the three ways."""

    def __init__(
        self,
        directory: str,
        python: str,
        ui: str,
        say: Callable[[str], None],
        need: Callable[[dict[str, Any]], list[str] | None],
        deadline: float,
    ) -> None:
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._directory = os.path.abspath(directory)
        self._python = python
        self._locks = LOCKS[ui]
        self._ui = ui
        self._say = say
        self._need = need
        self._deadline = deadline
        parent = os.path.dirname(self._directory)
        for name in os.listdir(parent):
            if os.path.join(parent, name).startswith(_waste(self._directory)):
                _remove(os.path.join(parent, name))
        self._beside = beside(self._directory)
        self._tools = os.path.join(parent, "tools")
        os.makedirs(self._tools, mode=0o700, exist_ok=True)
        self._cache = os.path.join(self._tools, "cache")
        self._described: dict[str, str] = {}
        self._settings: tuple[pipconf.PipConfig, Index] | None = None

    def attempt(self, way: str) -> None:
        """Build the environment beside its place in one ``way``.  Raises :class:`Failure`."""
        _remove(self._beside)
        try:
            {"uv": self._by_uv, "pip": self._by_pip, "sent": self._by_sent_wheels}[way]()
        except child.ChildTimeout as error:
            raise Failure("timeout", "the time given for it has passed") from error
        except OSError as error:
            raise Failure(kind_of([str(error)]), str(error)) from error

    def publish(self) -> str:
        """Move the environment to its place; its Python."""
        _retarget(self._beside, self._directory)
        if os.path.lexists(self._directory):
            aside = self._beside + ".old"
            os.rename(self._directory, aside)
            os.rename(self._beside, self._directory)
            _remove(aside)
        else:
            os.rename(self._beside, self._directory)
        return _python_in(self._directory)

    def discard(self) -> None:
        """Remove what was built beside, if it was not published."""
        _remove(self._beside)

    def _by_uv(self) -> None:
        wheel = installers.uv_wheel(self._target())
        if wheel is None:
            raise Failure("failed", "there is no uv for {system} on {machine}".format(**self._target()))
        config, index = self._places()
        uv = self._uv_program()
        if not os.path.exists(uv):
            self._say("Fetching uv {}".format(pins.UV_VERSION))
            path = installers.fetched("uv", wheel, index, self._tools)
            uv = installers.unpacked_uv(path, os.path.dirname(uv))
            os.unlink(path)
        self._with_uv(uv, config, no_index=not config.indexes)

    def _with_uv(self, uv: str, config: pipconf.PipConfig, *, offline: str = "", no_index: bool = False) -> None:
        environ = installers.uv_environment(os.environ, config, self._cache)
        self._run([uv, "venv", "--no-project", "--python", self._python, self._beside], environ)
        argv = installers.uv_install(
            uv, _python_in(self._beside), self._requirements(), offline=offline, no_index=no_index
        )
        self._run(argv, environ)

    def _by_pip(self) -> None:
        environ = installers.base_environment(os.environ)
        self._say("Making an environment with venv and pip, which takes a minute")
        self._run([self._python, "-m", "venv", "--without-pip", self._beside], environ)
        try:
            path = installers.fetched("pip", installers.pip_wheel(self._target()), self._places()[1], self._tools)
            pip = [_python_in(self._beside), "-I", os.path.join(path, "pip")]
        except Failure as failure:
            if failure.kind in ("hash", "timeout"):
                raise
            # The pip that Python brings may know a way to the index that we don't (a keyring, a client certificate).
            self._say("{}; using the pip that Python brings".format(failure.text))
            pip = [_python_in(self._beside), "-I", "-m", "pip"]
            self._run([*pip[:2], "-m", "ensurepip"], environ, "; without ensurepip (on Debian: python3-venv)")
        cache = os.path.join(self._tools, "pip-cache")
        self._run(installers.pip_install(pip, self._requirements(), cache=cache), environ)
        shutil.rmtree(cache, ignore_errors=True)

    def _by_sent_wheels(self) -> None:
        self._say("Asking for wheels to be sent")
        paths = self._need({"target": self._target(), "ui": self._ui})
        if not paths:
            raise Failure("unreachable", "none could be sent")
        directory = os.path.dirname(paths[0])
        received = {os.path.basename(path): path for path in paths}
        wheel = installers.uv_wheel(self._target())
        try:
            uv = self._uv_program()
            if not os.path.exists(uv):
                if wheel is None or wheel[0] not in received:
                    raise Failure("failed", "no uv was sent")
                uv = installers.unpacked_uv(received[wheel[0]], os.path.dirname(uv))
            self._with_uv(uv, pipconf.PipConfig(indexes=()), offline=directory)
        except (Failure, OSError) as error:
            if isinstance(error, Failure) and error.kind == "hash":
                raise
            self._say("{}; using pip".format(error))
            _remove(self._beside)
            self._with_sent_pip(received, directory)

    def _with_sent_pip(self, received: Mapping[str, str], directory: str) -> None:
        name, _ = installers.pip_wheel(self._target())
        if name not in received:
            raise Failure("failed", "no pip was sent")
        environ = installers.base_environment(os.environ)
        self._run([self._python, "-m", "venv", "--without-pip", self._beside], environ)
        pip = [_python_in(self._beside), "-I", os.path.join(received[name], "pip")]
        self._run(installers.pip_install(pip, self._requirements(), cache=self._cache, offline=directory), environ)

    def _target(self) -> dict[str, str]:
        if not self._described:
            self._described = describe_target(self._python)
        return self._described

    def _places(self) -> tuple[pipconf.PipConfig, Index]:
        if self._settings is None:
            config = pipconf.read(prefix=self._target()["prefix"])
            for problem in config.problems:
                self._say("Ignored in pip's configuration: " + child.clean(problem))
            self._settings = config, Index(config, self._deadline)
        return self._settings

    def _uv_program(self) -> str:
        directory = os.path.join(self._tools, "uv-" + pins.UV_VERSION)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.path.join(directory, "uv")

    def _requirements(self) -> list[str]:
        """The lock, written into the environment: the installers read files, and it says what is there."""
        paths = []
        for name in self._locks:
            paths.append(os.path.join(self._beside, name))
            with open(paths[-1], "wb") as out:
                out.write(_resource(name))
        return paths

    def _run(self, argv: Sequence[str], environ: Mapping[str, str], remark: str = "") -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            self.log.append(line)
            if not DULL.match(line):
                self._say(line.strip().partition(" (from ")[0])

        status = child.run(argv, environ=environ, deadline=self._deadline, on_line=on_line)
        if status:
            name = os.path.basename(argv[0])
            text = "{} ended with status {}: {}{}".format(name, status, last_words(lines), remark)
            raise Failure(kind_of(lines), text)


def _resource(name: str) -> bytes:
    content = pkgutil.get_data(__package__ or "", name)
    if content is None:
        raise FileNotFoundError(name)
    return content


def _python_in(environment: str) -> str:
    return os.path.join(environment, "bin", "python")


def _retarget(environment: str, place: str) -> None:
    """Make the scripts of ``environment``, which name it by its full path, right for ``place``.

    The path that they hold is unique, so replacing it can hit nothing else.
    """
    directory = os.path.join(environment, "bin")
    old, new = os.fsencode(environment), os.fsencode(place)
    for entry in os.scandir(directory):
        if entry.is_symlink() or not entry.is_file():
            continue
        with open(entry.path, "r+b") as script:
            content = script.read()
            if old in content:
                script.seek(0)
                script.truncate()
                script.write(content.replace(old, new))


def _remove(path: str) -> None:
    """Remove a tree; a link is removed, not followed.  What can't be removed is left."""
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path, ignore_errors=True)
