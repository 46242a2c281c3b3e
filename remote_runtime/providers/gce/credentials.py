"""Who we are to Google: found as Google's own tools find it.  Imports google.auth when it is called."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from remote_runtime.errors import InstanceError
from remote_runtime.providers.gce.failures import LOGIN
from remote_runtime.providers.gce.gcloud import Properties
from remote_runtime.text import printable

UNKNOWN_MINUTES = 10
NO_VM = "If it is not a VM of Google's: user@host, --provider ssh ALIAS, or --sandbox."
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass(frozen=True)
class Identity:
    """Credentials of google.auth, with the project and the account that they name; empty if they name none.

    ``login`` is the command that renews them.
    """

    credentials: Any = field(repr=False)
    project: str = ""
    account: str = ""
    login: str = LOGIN


def load(properties: Properties) -> Identity:
    """The credentials: none, or an access token from a file, if gcloud is set so; else the application default ones.

    Raises :class:`InstanceError` with code ``credentials_missing`` or ``credentials_unreadable``.
    """
    if properties.no_credentials:
        from google.auth.credentials import AnonymousCredentials

        return Identity(AnonymousCredentials())
    if properties.token_file:
        path = Path(properties.token_file)
        return Identity(_token_from(path), account=properties.account, login=_writes_token(path))
    import google.auth
    import google.auth.exceptions

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing quota project, which compute does not need
            found, project = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise InstanceError(
            "There are no credentials for Google Cloud on this computer",
            hint=f"Log in: {LOGIN}\nOr name a key file in GOOGLE_APPLICATION_CREDENTIALS.\n{NO_VM}",
            code="credentials_missing",
        ) from error
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        raise InstanceError(
            f"The credentials for Google Cloud can't be read: {printable(str(error))}",
            hint=f"Log in anew: {LOGIN}",
            code="credentials_unreadable",
        ) from error
    return Identity(_plain(found), project or "", _account(found) or properties.account)


def token(identity: Identity) -> str:
    """An access token that is good now.

    Raises what google.auth raises.
    """
    if not identity.credentials.valid:
        import google.auth.transport.requests
        import requests

        with requests.Session() as session:
            identity.credentials.refresh(google.auth.transport.requests.Request(session))
    return str(identity.credentials.token or "")


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

    return Credentials(None, refresh_handler=refresh, quota_project_id=getattr(source, "quota_project_id", None))


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
