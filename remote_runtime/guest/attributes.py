"""The cloud's metadata server, as far as a machine's preparation is concerned: guest attributes, and the named user."""

from __future__ import annotations

import http.client

NAMESPACE = "remote-runtime"
HOST = "metadata.google.internal"
HEADERS = {"Metadata-Flavor": "Google"}
SECONDS = 2.0
ROOT = "/computeMetadata/v1/"
LIMIT = 64 << 10
USER_KEY = "remote-runtime-user"


class Metadata:
    """Asks the metadata server; on a machine without one, which the first request finds out, it stays quiet."""

    def __init__(self) -> None:
        self._absent = False

    def publish(self, key: str, value: str) -> None:
        """Set a guest attribute.  Whoever may read the project can read it, so nothing secret may be in it."""
        self._ask("PUT", "instance/guest-attributes/%s/%s" % (NAMESPACE, key), value)

    def withdraw(self, key: str) -> None:
        """Remove a guest attribute."""
        self._ask("DELETE", "instance/guest-attributes/%s/%s" % (NAMESPACE, key))

    def named_user(self) -> str:
        """The user for whom a server shall run from the boot on, by the metadata; ``""`` if nobody is named."""
        for place in ("instance", "project"):
            found = self._ask("GET", "%s/attributes/%s" % (place, USER_KEY))
            if found:
                return found.strip()
        return ""

    def _ask(self, verb: str, path: str, body: str = "") -> str:
        """The answer to a request that succeeded, else ``""``."""
        if self._absent:
            return ""
        connection = http.client.HTTPConnection(HOST, timeout=SECONDS)
        try:
            connection.request(verb, ROOT + path, body.encode() if body else None, HEADERS)
            answer = connection.getresponse()
            # Another network may answer to any name.
            ours = answer.status == 200 and answer.getheader("Metadata-Flavor") == "Google"
            return answer.read(LIMIT).decode("utf-8", "replace") if ours else ""
        except (OSError, http.client.HTTPException):
            self._absent = True
            return ""
        finally:
            connection.close()
