"""What to do, given what is there.  Pure: facts in, decisions out; nothing here reads, writes or waits."""

from __future__ import annotations

import re
from collections import namedtuple

from .loader import GuestFailure
from .paths import TOKEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, Sequence

DEFAULTS = {
    "python": None,
    "notebook_dir": None,
    "remote_port": None,
    "allow_origin": "https://colab.research.google.com",
    "jupyter_args": (),
    "ui": "lab",
}
FIRST_PORT = 8888
OLDEST_SERVER = 2  # of jupyter_server, the major version
OLDEST_PYTHON = (3, 8)


# -- options --------------------------------------------------------------------------------------------------------


def merge_options(asked: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The options to start a server with: what is asked now, else what was asked before, else the default.

    So a server that has to be started again is the one that would have been adopted had it lived.
    """
    known = {name: value for name, value in kept.items() if name in DEFAULTS}
    return {**DEFAULTS, **known, **{name: value for name, value in asked.items() if name in DEFAULTS}}


def differing(asked: dict[str, Any], running: dict[str, Any]) -> list[str]:
    """The names of the options that are asked for and that the running server does not have."""
    have = merge_options({}, running)
    return sorted(name for name, value in asked.items() if name in DEFAULTS and _plain(value) != _plain(have[name]))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


# Set by us, since the connection depends on it; the second word says what to do instead.
OURS = {
    "port": "use --remote-port",
    "ip": "the server listens on 127.0.0.1 alone",
    "port_retries": "the port is chosen by us",
    "sock": "the server listens on 127.0.0.1 alone",
    "token": "the token is in a file that only you can read",
    "config": "use JUPYTER_CONFIG_DIR, or ~/.jupyter",
    "config_file": "use JUPYTER_CONFIG_DIR, or ~/.jupyter",
    "root_dir": "use --notebook-dir",
    "notebook_dir": "use --notebook-dir",
    "allow_origin": "use --allow-origin",
    "identity_provider_class": "the server is locked by its token",
    "open_browser": "the browser is not on the VM",
    "certfile": "the connection to the VM is encrypted by SSH",
    "keyfile": "the connection to the VM is encrypted by SSH",
}
OWNERS = {"", "ServerApp", "NotebookApp", "LabApp", "JupyterApp", "IdentityProvider", "PasswordIdentityProvider"}
NO_SERVER = {"help", "help_all", "version", "generate_config", "show_config", "show_config_json", "h", "V"}


def check_arguments(arguments: Sequence[str]) -> None:
    """GuestFailure ``jupyter_arg_refused`` if an argument would take from us what the connection depends on."""
    for number, argument in enumerate(arguments):
        owner, _, name = argument.lstrip("-").partition("=")[0].replace("-", "_").rpartition(".")
        if argument.startswith("-") and owner in OWNERS and (name in OURS or name in NO_SERVER):
            raise _refused(argument.partition("=")[0], OURS.get(name, "the server would not run with it"))
        if number == 0 and not argument.startswith("-"):
            raise _refused(argument, "an option starts with --")


def _refused(argument: str, instead: str) -> GuestFailure:
    return GuestFailure(
        "jupyter_arg_refused", "The Jupyter argument %s can't be passed on" % argument, "Leave it out: %s." % instead
    )


def base_url(arguments: Sequence[str]) -> str:
    """The server's base URL with a slash at both ends, from the arguments that set it; GuestFailure if it is unfit."""
    value = "/"
    for number, argument in enumerate(arguments):
        name, given, inline = argument.partition("=")
        if name in ("--ServerApp.base_url", "--base-url", "--base_url"):
            value = inline if given else next(iter(arguments[number + 1 : number + 2]), "/")
    value = "/" + value.strip("/") + "/" if value.strip("/") else "/"
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/", value):
        raise GuestFailure("jupyter_arg_refused", "The base URL %s can't be used" % value, "Use letters and digits.")
    return value


# -- the server that may be running -----------------------------------------------------------------------------------

Running = namedtuple("Running", "alive answers proves")
"""What is known of the recorded server: the process lives, something of this user answers on its port, and proves
that it knows the token."""


def decide(
    running: Running, *, stopped: bool, restart: bool, new_token: bool, outdated: bool
) -> Literal["adopt", "wait", "replace", "start", "stay"]:
    """What to do about the server.

    ``adopt`` the running one; ``wait`` for one that lives and does not answer (another connect may have been cut while
    it started it); ``replace`` it; ``start`` one; ``stay``: it was stopped on purpose, and nobody asks for a new one.
    ``outdated`` says that an upgrade was asked for, and that the running server has something older.
    """
    if not running.alive:
        return "stay" if stopped and not restart else "start"
    if new_token or outdated:
        return "replace"
    if not running.answers:
        return "wait"
    return "adopt" if running.proves else "replace"


DEATHS = 3
DEATH_WINDOW_SECONDS = 600.0


def of_one_boot(one: str, other: str) -> bool:
    """Whether processes that started at these moments (see ``processes.started``) ran in the same boot.

    Where the system does not tell boots apart, they did.
    """
    return one.rpartition("/")[0] == other.rpartition("/")[0]


def recent_deaths(before: Sequence[float], now: float, *, died: bool, forgiven: bool) -> list[float]:
    """When the server died unexpectedly of late, in unix seconds; ``died``: it is dead now, and neither was it stopped
    nor did it go with the whole machine.

    A user who connects anew (``forgiven``) starts the count again: something may have been mended.
    """
    kept = [] if forgiven else [moment for moment in before if now - DEATH_WINDOW_SECONDS < moment <= now]
    return [*kept, now] if died else kept


def keeps_dying(deaths: Sequence[float]) -> bool:
    """Whether starting it once more would only be a loop."""
    return len(deaths) >= DEATHS


def choose_token(*, vm: str, host: str, new: bool, fresh: str) -> str:
    """The VM's own token, else the one that the host remembers, else a new one."""
    if new:
        return fresh
    return vm or (host if TOKEN.fullmatch(host) else "") or fresh


def port_candidates(*, wanted: int | None, kept: int) -> list[int]:
    """The ports to try in order; 0 stands for any free one."""
    if wanted:
        return [wanted]
    return list(dict.fromkeys(port for port in (kept, FIRST_PORT) if port)) + [0] * 3


# -- which Jupyter ----------------------------------------------------------------------------------------------------

Found = namedtuple("Found", "python executable python_version server lab ipykernel")
"""A Python that was asked what it has: its path as it was called and as it calls itself, its version, the versions of
jupyter_server and jupyterlab and ipykernel (``""``: not there)."""

Choice = namedtuple("Choice", "server kernel")
"""``server``: the Found to run the server with, None for an environment of ours.  ``kernel``: the Found for the
kernels, None if it is the server's own."""


def usable(found: Found | None) -> bool:
    """Whether a server that we can work with runs there."""
    if found is None or version(found.python_version)[:2] < OLDEST_PYTHON:
        return False
    return version(found.server)[:1] >= (OLDEST_SERVER,)


def choose_jupyter(*, asked: str | None, asked_found: Found | None, found: Found | None) -> Choice:
    """Which Python serves and which one computes.

    ``asked`` is the kernels' Python that the user wants, ``asked_found`` what it has, ``found`` what the search found.
    GuestFailure if the wanted one is not there or has no ipykernel.
    """
    if not asked:
        return Choice(found if usable(found) else None, None)
    if asked_found is None:
        raise GuestFailure(
            "python_not_found", "%s on the VM is not a Python that runs" % asked, "Give --python the path of one there."
        )
    if not asked_found.ipykernel:
        raise GuestFailure(
            "python_without_ipykernel",
            "%s on the VM has no ipykernel, so no notebook can run in it" % asked,
            "Install ipykernel there, or give --python the path of one that has it. To install it: "
            "%s -m pip install ipykernel" % asked_found.executable,
        )
    return Choice(asked_found, None) if usable(asked_found) else Choice(None, asked_found)


def version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare by."""
    leading = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()
