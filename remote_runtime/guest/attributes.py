"""The cloud's metadata server, as far as a machine's preparation is concerned: guest attributes, and the named user."""

from __future__ import annotations

import http.client
import time

NAMESPACE = "remote-runtime"
HOST = "metadata.google.internal"
HEADERS = {"Metadata-Flavor": "Google"}
SECONDS = 2.0
TRIES = 3  # for what is worth it
PAUSE_SECONDS = 1.0
ABSENT_AFTER = 2  # failures, of which the first may be chance
ROOT = "/computeMetadata/v1/"
LIMIT = 64 << 10
USER_KEY = "remote-runtime-user"


class Metadata:
    """Asks the metadata server; on a machine without one, which the first requests find out, it stays quiet."""

    def __init__(self) -> None:
        self._answered = False
        self._failures = 0

    def publish(self, key: str, value: str, *, lasting: bool = False) -> None:
        """Set a guest attribute.  Whoever may read the project can read it, so nothing secret may be in it.

        ``lasting``: nothing replaces it soon, so that a failure is worth another try.
        """
        path = "instance/guest-attributes/%s/%s" % (NAMESPACE, key)
        self._ask("PUT", path, value, tries=TRIES if lasting else 1)

    def withdraw(self, key: str) -> None:
        """Remove a guest attribute."""
        self._ask("DELETE", "instance/guest-attributes/%s/%s" % (NAMESPACE, key))

    def named_user(self) -> str:
        """The user for whom a server shall run from the boot on, by the metadata; ``""`` if nobody is named."""
        for place in ("instance", "project"):
            found = self._ask("GET", "%s/attributes/%s" % (place, USER_KEY), tries=TRIES)
            if found:
                return found.strip()
        return ""

    def _ask(self, verb: str, path: str, body: str = "", *, tries: int = 1) -> str:
        """The answer to a request that succeeded, else ``""``."""
        for left in reversed(range(tries)):
            if not self._answered and self._failures >= ABSENT_AFTER:
                return ""
            answer = self._ask_once(verb, path, body)
            if answer is not None:
                return answer
            self._failures += 1
            if left:
                time.sleep(PAUSE_SECONDS)
        return ""

    def _ask_once(self, verb: str, path: str, body: str) -> str | None:
        """The answer, ``""`` for one that says no, None if there was none that counts."""
        connection = http.client.HTTPConnection(HOST, timeout=SECONDS)
        try:
            connection.request(verb, ROOT + path, body.encode() if body else None, HEADERS)
            answer = connection.getresponse()
            if answer.getheader("Metadata-Flavor") != "Google":  # another network may answer to any name
                return None
            self._answered = True
            if answer.status == 429 or answer.status >= 500:
                return None
            return answer.read(LIMIT).decode("utf-8", "replace") if answer.status == 200 else ""
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
