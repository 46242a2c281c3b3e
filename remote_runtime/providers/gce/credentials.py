"""Who we are to Google: found as Google's own tools find it.  Imports google.auth when it is called."""

from __future__ import annotations

import json
import shlex
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from remote_runtime.errors import InstanceError
from remote_runtime.providers.gce.failures import LOG_IN_AGAIN, LOGIN
from remote_runtime.providers.gce.gcloud import Properties
from remote_runtime.text import printable

UNKNOWN_MINUTES = 10
NO_VM = "If it is not a VM of Google's: user@host, --provider ssh ALIAS, or --sandbox."
OF_MACHINE = f"Give this machine a service account with the access scope cloud-platform, or log in: {LOGIN}"
SENDS_NONE = (
    "gcloud is set to send none: gcloud config unset auth/disable_credentials (or CLOUDSDK_AUTH_DISABLE_CREDENTIALS)."
)
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass(frozen=True)
class Identity:
    """Credentials of google.auth, with the project and the account that they name; empty if they name none.

    ``login`` says how they are renewed.
    """

    credentials: Any = field(repr=False)
    project: str = ""
    account: str = ""
    login: str = LOG_IN_AGAIN


def load(properties: Properties, *, with_project: bool) -> Identity:
    """The credentials: none, or an access token from a file, if gcloud is set so; else the application default ones.

    ``with_project``: their project is wanted too, since nothing else names one; gcloud may be asked for it, which takes
    most of a second.  Raises :class:`InstanceError` with code ``credentials_missing`` or ``credentials_unreadable``.
    """
    if properties.no_credentials:
        from google.auth.credentials import AnonymousCredentials

        return Identity(AnonymousCredentials(), login=SENDS_NONE)
    if properties.token_file:
        path = Path(properties.token_file)
        return Identity(_token_from(path), account=properties.account, login=f"Log in again: {_writes_token(path)}")
    file = properties.key_file or _present(properties.login_file)
    login = _renewal(properties, file)
    if file:
        _check(file, login)
    found, project = _found(file, login, with_project=with_project)
    if getattr(found, "service_account_email", "") == "default":
        _ask_who(found)
    return Identity(_plain(found), project or "", _account(found) or properties.account, login)


def token(identity: Identity) -> str:
    """An access token that is good now.

    Raises what google.auth raises.
    """
    if not identity.credentials.valid:
        _refresh(identity.credentials)
    return str(identity.credentials.token or "")


def _found(file: str, login: str, *, with_project: bool) -> tuple[Any, str | None]:
    """What google.auth makes of ``file``, or finds elsewhere if that is empty."""
    import google.auth
    import google.auth.exceptions
    from google.auth.credentials import with_scopes_if_required

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing quota project, which compute does not need
            if with_project or not file:
                found, project = google.auth.default(scopes=SCOPES)
            else:
                found, project = google.auth.load_credentials_from_file(file)
                found = with_scopes_if_required(found, SCOPES)
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        if not file and isinstance(error, google.auth.exceptions.DefaultCredentialsError):
            raise InstanceError(
                "There are no credentials for Google Cloud on this computer",
                hint=f"Log in: {LOGIN}\nOr name a key file in GOOGLE_APPLICATION_CREDENTIALS.\n{NO_VM}",
                code="credentials_missing",
            ) from error
        why = error.args[0] if isinstance(error, google.auth.exceptions.GoogleAuthError) and error.args else error
        raise _unreadable(file, str(why), login) from error
    return found, project


def _ask_who(machine: Any) -> None:
    """Have the machine's own credentials fetched, which do not know before whose they are."""
    import google.auth.exceptions

    try:
        _refresh(machine)
    except google.auth.exceptions.GoogleAuthError as error:
        raise InstanceError(
            "This machine's metadata server gives no credentials for Google Cloud",
            hint=f"{OF_MACHINE}\n{NO_VM}",
            code="credentials_missing",
        ) from error


def _refresh(credentials: Any) -> None:
    import google.auth.transport.requests
    import requests

    with requests.Session() as session:
        credentials.refresh(google.auth.transport.requests.Request(session))


def _present(file: str) -> str:
    """The file if it is there; one in a directory that may not be entered is not."""
    with suppress(OSError):
        return file if Path(file).is_file() else ""
    return ""


def _renewal(properties: Properties, file: str) -> str:
    if not file:
        return OF_MACHINE
    if Path(file) == Path(properties.login_file):
        return LOG_IN_AGAIN
    return f"GOOGLE_APPLICATION_CREDENTIALS names {file}: put good credentials there, or unset it and log in: {LOGIN}"


def _check(file: str, login: str) -> None:
    """Refuse a file that is not JSON: of one that it can't decode google.auth would quote all, perhaps a private key.

    It is read as google.auth reads it.
    """
    try:
        content = json.loads(Path(file).read_text())
    except OSError as error:
        raise _unreadable(file, error.strerror or "it can't be opened", login) from error
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _unreadable(file, "that is not a JSON object", login)


def _unreadable(file: str, why: str, login: str) -> InstanceError:
    where = f" in {file}" if file else ""
    return InstanceError(
        f"The credentials for Google Cloud{where} can't be read: {printable(why)}",
        hint=login,
        code="credentials_unreadable",
    )


def _account(credentials: Any) -> str:
    email = getattr(credentials, "service_account_email", "") or getattr(credentials, "account", "")
    return email if isinstance(email, str) and "@" in email else ""


def _plain(source: Any) -> Any:
    """Credentials that ask ``source`` for its tokens and do nothing else.

    Those of a service account also look up, in a thread of their own that nobody can end, in which regions they may be
    used, and sign tokens of another kind for the compute API.
    """
    from google.oauth2.credentials import Credentials

    def refresh(request: Any, scopes: Any) -> tuple[str, datetime]:  # noqa: ARG001
        source.refresh(request)
        return source.token, source.expiry or _soon()

    quota = getattr(source, "quota_project_id", None)
    return Credentials(source.token, expiry=source.expiry, refresh_handler=refresh, quota_project_id=quota)


def _token_from(path: Path) -> Any:
    """The token in a file that somebody else keeps fresh: it is read again when it is refused, and now and then."""
    from google.oauth2.credentials import Credentials

    def read_again(request: Any, scopes: Any) -> tuple[str, datetime]:  # noqa: ARG001
        return _read(path), _soon()

    _read(path)
    return Credentials(None, refresh_handler=read_again)


def _writes_token(path: Path) -> str:
    return f"gcloud auth print-access-token >{shlex.quote(str(path))}"


def _soon() -> datetime:
    """When a token of which nothing is known is asked for again; google.auth computes in UTC without saying so."""
    return datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(minutes=UNKNOWN_MINUTES)


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise InstanceError(
            f"The access token in {path} can't be read: {error}",
            hint="Check CLOUDSDK_AUTH_ACCESS_TOKEN_FILE, or gcloud's property auth/access_token_file.",
            code="credentials_unreadable",
        ) from error
    if not text or not text.isprintable() or " " in text:
        raise InstanceError(
            f"There is no access token in {path}",
            hint=f"Write one there: {_writes_token(path)}",
            code="credentials_unreadable",
        )
    return text
