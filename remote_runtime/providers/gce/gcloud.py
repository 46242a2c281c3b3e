"""What gcloud is set to: its properties from the environment and from its active configuration."""

from __future__ import annotations

import configparser
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

PROPERTIES = {
    "project": ("core", "project"),
    "account": ("core", "account"),
    "zone": ("compute", "zone"),
    "token_file": ("auth", "access_token_file"),
    "no_credentials": ("auth", "disable_credentials"),
    "compute_url": ("api_endpoint_overrides", "compute"),
    "oslogin_url": ("api_endpoint_overrides", "oslogin"),
}
"""Our name for each property that matters here, and gcloud's section and name of it."""

LOGIN_FILE = "application_default_credentials.json"


@dataclass(frozen=True)
class Properties:
    """gcloud's properties; empty where it has none.

    ``token_file`` holds an access token.  ``no_credentials``: requests are sent without any.  The URLs are those of
    other endpoints, with their path.  ``key_file`` and ``login_file`` are where the application default credentials are
    looked for: the file that the environment names, and the one that gcloud writes at a login.
    """

    project: str = ""
    account: str = ""
    zone: str = ""
    token_file: str = ""
    no_credentials: bool = False
    compute_url: str = ""
    oslogin_url: str = ""
    key_file: str = ""
    login_file: str = ""


def read_properties(environ: Mapping[str, str], home: Path) -> Properties:
    """The properties as gcloud itself would see them; a file that can't be read counts as absent, as with gcloud."""
    directory = configuration_directory(environ, home)
    name = environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _text(directory / "active_config").strip() or "default"
    found = properties(environ, _text(directory / "configurations" / f"config_{name}"))
    return replace(found, login_file=str(directory / LOGIN_FILE))


def properties(environ: Mapping[str, str], configuration: str) -> Properties:
    """The properties by the environment, which is stronger, and the text of a configuration file.  Pure."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(configuration)
    except configparser.Error:
        parser.clear()

    def find(section: str, name: str) -> str:
        said = environ.get(f"CLOUDSDK_{section}_{name}".upper(), "")
        return said or parser.get(section, name, fallback="")

    values = {ours: find(*theirs) for ours, theirs in PROPERTIES.items()}
    no_credentials = values.pop("no_credentials").lower() in ("1", "true", "on", "yes", "y")
    values["project"] = values["project"] or environ.get("GOOGLE_CLOUD_PROJECT", "")
    key_file = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    return Properties(no_credentials=no_credentials, key_file=key_file, **values)


def configuration_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Where gcloud keeps its configurations and the application default credentials."""
    if environ.get("CLOUDSDK_CONFIG"):
        return Path(environ["CLOUDSDK_CONFIG"])
    if sys.platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "gcloud"
    else:  # noqa: RET505 - so that mypy sees one of the two on each platform
        return home / ".config" / "gcloud"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
