"""What an installation's failure means: which way to try next, and what to tell the person.  Pure."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Sequence

# Another way could only hide these: a file that is not the locked one, a full disk, no time left.
FINAL = ("hash", "disk", "timeout")

# What uv and pip say, since their exit status says no more than that they failed.  The first match counts.
SIGNS = (
    ("hash", r"hash mismatch|do not match the hashes"),
    ("disk", r"no space left|\(os error 28\)|\[errno 28\]|quota exceeded"),
    ("certificate", r"certificate_verify_failed|invalid peer certificate|unknownissuer|certificate verify failed"),
    ("refused", r"\b(401|402|403|407|429|50[0234])\b.*(client|server) error|(client|server) error.*\b[45]\d\d\b"),
    (
        "unreachable",
        r"dns error|failed to lookup|name resolution|tcp connect error|connection refused|connection reset"
        r"|network is unreachable|no route to host|timed out|error sending request|newconnectionerror",
    ),
    ("missing", r"no matching distribution|not found in the package registry|no solution found|no version of"),
)

CODES = {
    "hash": "install_hash_mismatch",
    "disk": "install_disk_full",
    "timeout": "install_timeout",
    "certificate": "install_certificate",
    "refused": "install_index_refused",
    "missing": "install_package_missing",
    "unreachable": "install_no_egress",
    "failed": "install_failed",
}

# Codes of what may pass by itself.
PASSING = ("install_timeout", "install_no_egress", "install_index_refused")

HINTS = {
    "hash": "What the package index served is not what was published: find out who changes downloads on the way, "
    "or name another index in pip's configuration on the VM.",
    "disk": "Free some space in the home directory on the VM (about 400 MB are needed), then connect again.",
    "timeout": "Connect again with a longer --timeout: what was downloaded is kept.",
    "certificate": "Put the certificate authority of your network into the VM's trust store, or name its file as "
    "`cert` in /etc/pip.conf there.",
    "refused": "See whether `pip download pip` works on the VM, and correct the index in pip's configuration there.",
    "missing": "The index in pip's configuration on the VM lacks packages: name a complete one, or install "
    "jupyter_server, ipykernel and jupyterlab there yourself.",
    "unreachable": "Give the VM a way to a package index (Cloud NAT, a proxy, or a mirror named in /etc/pip.conf), or "
    "let the machine that you connect from reach one.",
    "failed": "Install jupyter_server, ipykernel and jupyterlab on the VM yourself; they are then used as they are.",
}

NAMES = {"uv": "with uv", "pip": "with pip", "sent": "from wheels sent to the VM"}


class Failure(Exception):
    """One way of installing did not work: ``kind`` is a key of :data:`CODES`, ``text`` says why in one line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def next_way(way: str, kind: str) -> str | None:
    """The way to try after ``way`` failed with ``kind``; None if there is none.

    Where the index can't be reached pip would only wait longer for it, so the wheels are sent at once.
    """
    if kind in FINAL or way == "sent":
        return None
    return "pip" if way == "uv" and kind != "unreachable" else "sent"


def kind_of(lines: Iterable[str]) -> str:
    """What the output of an installer that failed says about the reason."""
    text = "\n".join(lines).lower()
    return next((kind for kind, pattern in SIGNS if re.search(pattern, text)), "failed")


def last_words(lines: Sequence[str]) -> str:
    """What an installer's output says about why it failed, in one line: the last error and its innermost cause."""
    error, cause = "", ""
    for line in (line.strip() for line in lines):
        if re.match(r"error\b|×", line, re.IGNORECASE):
            error, cause = line, ""
        elif re.match(r"cause:|[├╰]─▶", line):
            cause = ": " + line.split(None, 1)[-1]
    return error + cause if error else lines[-1].strip() if lines else "it said nothing"


def explain(failures: Sequence[tuple[str, Failure]]) -> tuple[str, str, str]:
    """Code, message and hint for all the ways that failed, each with its failure, in the order of their trial."""
    final = [failure for _, failure in failures if failure.kind in FINAL]
    telling = [failure for _, failure in failures if failure.kind != "failed"]
    kind = (final or telling or [failures[-1][1]])[0].kind
    tried = "; ".join("{}: {}".format(NAMES[way], failure.text) for way, failure in failures)
    return CODES[kind], "Jupyter could not be installed on the VM ({})".format(tried), HINTS[kind]
