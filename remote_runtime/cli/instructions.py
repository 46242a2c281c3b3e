"""What to do with the URL, in a few words."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from remote_runtime.cli.signals import Received
from remote_runtime.cli.target import Target
from remote_runtime.cli.terminal import visible
from remote_runtime.model import Forward


def after_ready(target: Target, forwards: Sequence[Forward]) -> list[tuple[str, str]]:
    """What a person needs to know once the URL is printed: a word and its explanation, per row."""
    rows = [
        (
            "Colab",
            "Connect ▾ → Connect to a local runtime, paste the URL. When the browser asks whether the page may "
            '"access other apps and services on this device", click Allow.',
        ),
        ("VS Code", "Select Kernel → Existing Jupyter Server, paste the URL."),
        ("JupyterLab", "Open the URL in a browser."),
    ]
    for forward in forwards:
        where = f"port {forward.remote_port} of {forward.host}, as {target.name} sees it"
        rows.append((f"localhost:{forward.local_port}", visible(where)))
    return [
        *rows,
        ("Ctrl-C", f"Closes the connection; Jupyter on {target.name} keeps running."),
        ("To stop it", target.command("stop")),
    ]


def goodbye(target: Target, end: Received) -> str:
    """What a person needs to know when the connection has been closed by a signal."""
    if end.number != signal.SIGINT:  # it may be our own `stop`, which goes on to stop Jupyter: nothing is sure
        return f"Closed by {end.name}."
    return (
        f"Closed. Jupyter on {target.name} still runs: {target.command('connect')} brings the same URL back, "
        f"{target.command('stop')} stops it."
    )
