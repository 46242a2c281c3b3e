"""Where the APIs are: Google's, or those that gcloud's overrides name.  Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from remote_runtime.errors import UsageError

COMPUTE, OSLOGIN = "https://compute.googleapis.com/compute/v1/", "https://oslogin.googleapis.com/"


def compute_endpoint(override: str) -> str:
    """The part before the API's own path, as the client library wants it; ``override`` as gcloud has it, or empty.

    Raises :class:`UsageError` (``bad_endpoint``, ``insecure_endpoint``).
    """
    url = checked(override or COMPUTE)
    base, path, rest = url.rstrip("/").rpartition("/compute/v1")
    if not path or rest:
        raise UsageError(
            f"The override of the compute endpoint must end in /compute/v1/, not {override!a}",
            hint="Set CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE as gcloud wants it, or unset it.",
            code="bad_endpoint",
        )
    return base


def oslogin_endpoint(override: str) -> str:
    """The URL before ``v1/``.

    Raises :class:`UsageError` (``bad_endpoint``, ``insecure_endpoint``).
    """
    return checked(override or OSLOGIN).rstrip("/") + "/"


def checked(url: str) -> str:
    """``url``, if credentials may be sent there: by https, or by http within this computer.

    Raises :class:`UsageError` (``bad_endpoint``, ``insecure_endpoint``).
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"Not the URL of an API: {url!a}", hint="Correct the override.", code="bad_endpoint")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise UsageError(
            f"Credentials are not sent without encryption to {parts.hostname}",
            hint="Use https; http is for this computer's own addresses alone.",
            code="insecure_endpoint",
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
