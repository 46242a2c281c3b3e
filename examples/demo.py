"""A notebook server in a sandbox on this machine, and a cell that runs through its URL.

What ``make demo`` runs; needs ``pip install 'remote-runtime[demo]'``::

    python examples/demo.py           connect, run a cell, print the URL, leave it running
    python examples/demo.py --stop    end all of it

It shows how a program uses the command line: ``remote-runtime connect --json`` is started in the background, each line
that it writes is one JSON object, and the line with ``"event": "ready"`` has the URL.  Then it does what Colab, VS Code
and JupyterLab do with that URL: it starts a kernel by the REST API and talks to it over a WebSocket, where the output
of a cell arrives while the cell still runs.

All state is in the directory ``.demo`` beside this one's parent, so your own machines and settings are not touched.
The sandbox is a directory with an SSH server of its own: it isolates nothing, what runs in it has your rights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websocket

DEMO = Path(__file__).resolve().parent.parent / ".demo"
LOG = DEMO / "connect.log"
MACHINE = ["--sandbox", "--instance", "demo"]
CONNECT_SECONDS = 600  # the first time, Jupyter is downloaded
ANSWER_SECONDS = 60

CELL = """\
import os, platform, time
print("Hello from", platform.node(), "on Python", platform.python_version())
for number in range(1, 6):
    time.sleep(0.4)
    print(f"{number} squared is {number ** 2}", flush=True)
print("files are served from", os.getcwd())
"""


class Failed(Exception):
    """The demo can't go on; the text says why."""


def main() -> int:
    """Run or stop the demo; the result is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stop", action="store_true", help="end the server, the sandbox and the connection")
    if parser.parse_args().stop:
        return stop()
    started: subprocess.Popen[bytes] | None = None
    try:
        url = url_that_answers()
        if url:
            print("The demo is running already.")
        else:
            started = connect_in_background()
            url = follow(started)
        print("\nA cell, run by a kernel behind the URL; its output as it comes:\n")
        run_cell(url, CELL)
    except (Failed, KeyboardInterrupt) as error:
        print(f"\nThe demo failed: {str(error) or 'interrupted'}", file=sys.stderr)
        if started:
            end(started)
        return 1
    print(f"\n{url}\n")
    print("Paste this URL into Colab (Connect to a local runtime) or VS Code (Existing Jupyter Server),")
    print("or open it in a browser for JupyterLab.  It keeps running; to end it: make demo-stop")
    return 0


# -- the command line, as a program uses it ------------------------------------------------------------------------


def remote_runtime(*arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of ``remote-runtime`` with the demo's own state."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REMOTE_RUNTIME_")}
    environment["REMOTE_RUNTIME_HOME"] = str(DEMO / "home")
    return [sys.executable, "-m", "remote_runtime", *arguments], environment


def url_that_answers() -> str:
    """The URL of the demo that runs already, or an empty string."""
    argv, environment = remote_runtime("url", *MACHINE, "--json")
    known = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if known.returncode != 0:
        return ""
    url: str = json.loads(known.stdout)["url"]
    try:
        call(url, "GET", "api/status")
    except Failed:
        return ""
    return url


def connect_in_background() -> subprocess.Popen[bytes]:
    """Start ``remote-runtime connect`` so that it outlives this program and its terminal."""
    DEMO.mkdir(mode=0o700, exist_ok=True)
    argv, environment = remote_runtime("connect", *MACHINE, "--json", "--timeout", str(CONNECT_SECONDS))
    LOG.unlink(missing_ok=True)
    LOG.touch(mode=0o600)  # the line "ready" in it has the token
    with LOG.open("wb") as log:
        return subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def follow(process: subprocess.Popen[bytes]) -> str:
    """Show what happens until the URL is there, and return it."""
    for event in events(process):
        name = event.get("event")
        if name == "step_started":
            print(f"{event['title']} ...", flush=True)
        elif name == "step_progress":
            print(f"    {event['text']}", flush=True)
        elif name == "step_done":
            print(f"    done in {event['seconds']:.1f} s", flush=True)
        elif name == "notice":
            print(f"  note: {event['text']}", flush=True)
        elif name == "error":
            raise Failed("\n".join(filter(None, (event["message"], event["hint"]))))
        elif name == "ready":
            return str(event["url"])
    raise Failed(f"remote-runtime ended with status {process.wait()}; see {LOG}")


def events(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What ``process`` says, line by line, until it has ended."""
    end_by = time.monotonic() + CONNECT_SECONDS + 30  # it keeps its own time limit, and tells when that has passed
    with LOG.open("rb") as log:
        pending = b""
        while True:
            ended = process.poll() is not None
            *lines, pending = (pending + log.read()).split(b"\n")
            yield from (json.loads(line) for line in lines if line.startswith(b"{"))
            if ended:
                return
            if time.monotonic() > end_by:
                raise Failed("remote-runtime did not become ready in time")
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue


def end(process: subprocess.Popen[bytes]) -> None:
    """End what ``process`` was to keep connected, and the process."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    stop(quiet=True)


def stop(*, quiet: bool = False) -> int:
    """Stop the Jupyter server, the sandbox and the process that keeps it connected; the result is the exit status."""
    argv, environment = remote_runtime("stop", *MACHINE, "--json")
    stopped = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    *_, result = [json.loads(line) for line in stopped.stdout.splitlines()] or [{}]
    nothing_there = result.get("code") == "instance_not_found"
    if stopped.returncode == 0 or nothing_there:
        if not quiet:
            print("There is no demo." if nothing_there else "The demo is stopped.")
        return 0
    if not quiet:
        print(f"The demo could not be stopped: {result.get('message', stopped.stderr.decode())}", file=sys.stderr)
    return 1


# -- Jupyter, as a notebook front end uses it -----------------------------------------------------------------------


def call(url: str, method: str, path: str) -> Any:
    """One request to the Jupyter server of ``url``; the JSON of the answer, if there is any."""
    base, token = address(url)
    request = urllib.request.Request(f"http{base}{path}", method=method, headers={"Authorization": f"token {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy can't know our localhost
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            return json.loads(answer.read() or b"null")
    except (OSError, ValueError) as error:
        raise Failed(f"{method} {path} got no good answer: {error}") from error


def address(url: str) -> tuple[str, str]:
    """The part of ``url`` from ``://`` to the end of its path, and its token."""
    parts = urlsplit(url)
    return f"://{parts.netloc}{parts.path}", parse_qs(parts.query)["token"][0]


def run_cell(url: str, code: str) -> None:
    """Run ``code`` in a kernel of its own and print what it prints, while it runs."""
    kernel = call(url, "POST", "api/kernels")["id"]
    try:
        base, token = address(url)
        channels = websocket.create_connection(
            f"ws{base}api/kernels/{kernel}/channels",
            header=[f"Authorization: token {token}"],
            timeout=ANSWER_SECONDS,
            http_no_proxy=["*"],
        )
        try:
            execute(channels, code)
        finally:
            channels.close()
    except (OSError, websocket.WebSocketException) as error:
        raise Failed(f"The connection to the kernel broke: {error}") from error
    finally:
        call(url, "DELETE", f"api/kernels/{kernel}")


def execute(channels: websocket.WebSocket, code: str) -> None:
    """Send ``code`` and print its output until the kernel is idle again (Jupyter's messaging protocol)."""
    request = uuid.uuid4().hex
    header = {"msg_id": request, "msg_type": "execute_request", "session": uuid.uuid4().hex, "username": "demo"}
    message = {
        "header": {**header, "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
        "channel": "shell",
    }
    channels.send(json.dumps(message))
    while True:
        answer = json.loads(channels.recv())
        if answer.get("parent_header", {}).get("msg_id") != request:
            continue
        kind, content = answer["msg_type"], answer["content"]
        if kind == "stream":
            print(content["text"], end="", flush=True)
        elif kind == "error":
            raise Failed(f"The cell raised {content['ename']}: {content['evalue']}")
        elif kind == "status" and content["execution_state"] == "idle":
            return


if __name__ == "__main__":
    sys.exit(main())
