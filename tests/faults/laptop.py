"""A Link and a LocalForward in a process of their own, which can be put to sleep as a laptop is: by stopping it.

    python -m tests.faults.laptop HOST PORT USER KEY_FILE HOST_KEY WEB_PORT

prints the local port that leads to the web server, then each state of the link, one a line, until its stdin ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from remote_runtime._threads import Deadline
from remote_runtime.events import Event, LinkChanged
from remote_runtime.forward import LocalForward, listen
from remote_runtime.link import Link
from remote_runtime.model import Endpoint, Identity, Pinned, ServerInfo

PATIENCE_SECONDS = 30.0


def main() -> None:
    host, port, user, key, host_key, web_port = sys.argv[1:]
    trust = Pinned((host_key,), "the test")
    endpoint = Endpoint(host, user, trust, port=int(port), identities=(Identity(Path(key)),))

    def hear(event: Event) -> None:
        if isinstance(event, LinkChanged):
            print(event.state, event.reason, flush=True)

    with Link(
        "machine",
        resolve=lambda deadline: endpoint,
        prepare=lambda connection, deadline: ServerInfo(pid=1, port=int(web_port), token="secret"),
        ask=None,
        on_event=hear,
        deadline=Deadline(PATIENCE_SECONDS),
    ) as link:
        opener = lambda sink: link.open_stream("127.0.0.1", int(web_port), sink)  # noqa: E731
        with LocalForward(listen(0), opener) as forward:
            link.on_settled(forward.retry)
            print(forward.port, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
