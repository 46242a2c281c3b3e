"""How our Jupyter server is told what we need of it.  Pure: values in, texts out.

A configuration file of ours is the first on Jupyter's configuration path, so it wins over the user's own; what the
user passes as Jupyter arguments wins over both.  Nothing is installed into the Python that runs the server.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

CONFIG_FILE = "jupyter_server_config.py"
EXTENSION = "jupyter_http_over_ws"
# What would change the server behind our back, or comes from another Jupyter that we were started from.
DROPPED = ("JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE", "JUPYTER_NO_CONFIG", "JUPYTER_PREFER_ENV_PATH")
DROPPED_PREFIXES = ("JUPYTER_SERVER_", "JPY_")

HEADER = "# Written by remote-runtime whenever it starts its server: changes here are lost.\n"
BODY = """
import hashlib
import os
import sys
import traceback

from jupyter_server.serverapp import ServerApp


def configure(c):
    # The extension is ours; whatever has its name in this environment is left as it is, and not used.
    sys.path[:] = [SETTINGS["extension"]] + [entry for entry in sys.path if entry not in ("", os.getcwd())]
    os.chdir(SETTINGS["home"])
    for section, values in SETTINGS["traits"].items():
        for name, value in values.items():
            setattr(c[section], name, value)
    c.ServerApp.jpserver_extensions.update({SETTINGS["module"]: True})
    with open(SETTINGS["token_file"]) as file:
        # The class's own section too: there a token of the user's would win over the base class's.
        c.IdentityProvider.token = c.PasswordIdentityProvider.token = token = file.read()
    # A new token must end the sessions of browsers that came in by the old one; Jupyter's own secret would outlive it.
    c.ServerApp.cookie_secret = hashlib.sha256(b"remote-runtime cookies " + token.encode()).digest()
    # Both are for programs on this machine, and would leave the token in places that are not ours to clean.
    ServerApp.write_browser_open_files = ServerApp.write_server_info_file = lambda app: None
    # Kernels inherit this process's environment: they get the user's.
    for name, value in SETTINGS["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


try:
    configure(get_config())
except BaseException:
    # Jupyter would only log this, and go on to serve without any of it.
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(78)
"""


def traits(
    options: Mapping[str, Any], *, port: int, root_dir: str, base_url: str, lab: bool, root: bool
) -> dict[str, Any]:
    """The settings of the server, by section: those that the connection depends on, and those the user chose."""
    server = {
        "ip": "127.0.0.1",
        "port": port,
        "port_retries": 0,
        "sock": "",
        "certfile": "",
        "keyfile": "",
        "base_url": base_url,
        "open_browser": False,
        "allow_root": root,
        "allow_origin": options["allow_origin"],
        "allow_origin_pat": "",
        "allow_credentials": True,
        "allow_remote_access": False,
        "disable_check_xsrf": False,
        "root_dir": root_dir,
        "identity_provider_class": "jupyter_server.auth.identity.PasswordIdentityProvider",
    }
    if lab:
        server["default_url"] = "/lab"
    return {"ServerApp": server}


def render(
    settings: Mapping[str, Any], *, extension: str, token_file: str, home: str, restore: Mapping[str, str | None]
) -> bytes:
    """The text of ``jupyter_server_config.py``.

    ``restore`` are the variables that the server gets from us, with the values that its kernels shall see.
    """
    values = {
        "traits": settings,
        "extension": extension,
        "module": EXTENSION,
        "token_file": token_file,
        "home": home,
        "environment": dict(restore),
    }
    return (HEADER + "SETTINGS = %s\n" % ascii(values) + BODY).encode("ascii")


def environment(environ: Mapping[str, str], *, config: str, data: str | None, bin_dir: str) -> dict[str, str]:
    """The environment to start the server in.

    ``bin_dir`` is where its Python has its commands, so that ``!pip`` in a notebook is that environment's own;
    ``data`` is a Jupyter data directory of ours, with the kernelspec of a Python that the user chose.
    """
    kept = {
        name: value for name, value in environ.items() if name not in DROPPED and not name.startswith(DROPPED_PREFIXES)
    }
    path = kept.get("PATH", os.defpath).split(os.pathsep)
    if bin_dir not in path:
        kept["PATH"] = os.pathsep.join([bin_dir, *path])
    kept["JUPYTER_CONFIG_PATH"] = _before(config, kept.get("JUPYTER_CONFIG_PATH"))
    if data:
        kept["JUPYTER_PATH"] = _before(data, kept.get("JUPYTER_PATH"))
    return kept


def _before(first: str, rest: str | None) -> str:
    return first + os.pathsep + rest if rest else first


def command(python: str, arguments: Sequence[str], *, borrowed: bool) -> list[str]:
    """The server's argv.  In a ``borrowed`` environment nothing is written, not even compiled modules."""
    return [python, *(["-B"] if borrowed else []), "-m", "jupyter_server", *arguments]


def kernelspec(python: str, version: str) -> bytes:
    """A kernel.json that runs notebooks in ``python``, under the name that front ends ask for first."""
    spec = {
        "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python %s (%s)" % (version, python),
        "language": "python",
        "metadata": {"debugger": True},
        "env": {"PATH": os.path.dirname(python) + os.pathsep + "${PATH}"},
    }
    return json.dumps(spec, indent=1).encode()
