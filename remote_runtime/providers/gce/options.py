"""What the user wants of Google Compute Engine, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remote_runtime.model import Question
from remote_runtime.providers.gce.spec import GceSpec

Reach = Literal["auto", "external", "internal", "iap"]


@dataclass(frozen=True)
class GceOptions:
    """Where the machine is, how to get to it, and what may be done to have it.

    ``project``: None takes gcloud's or the credentials' one.  ``zones``: the zones to look in, and to create in, in
    that order; empty: any.  ``region``: any of its zones, to create in.  ``reach``: over which address; ``auto`` takes
    the external one, else IAP.  ``user``: the account on the machine (None: this computer's user name).
    ``host_key``: the fingerprint (``SHA256:...``) of the one host key to accept.  ``key``: a private key file to use
    in place of our own, whose public part is beside it.  ``jump``: the SSH server by way of which the internal address
    is reached, ``[user@]host[:port]`` or an alias of ssh_config.  ``remove_key``: the key is removed again at the end.

    ``create``: make the machine like this if there is none.  ``restart``: start it again if it stops while it is
    connected.  ``retry_until_up``: when every zone is sold out, begin anew until the deadline.  ``ask`` may be asked
    which of several machines of that name is meant; None: nobody can be asked.  ``confirm`` gets the question
    whether to make a machine that costs, and raises unless the answer is yes; None: that needs no confirmation.
    """

    project: str | None = None
    zones: tuple[str, ...] = ()
    region: str | None = None
    reach: Reach = "auto"
    user: str | None = None
    host_key: str | None = None
    key: Path | None = None
    jump: str = ""
    remove_key: bool = False
    create: GceSpec | None = None
    restart: bool = False
    retry_until_up: bool = False
    ask: Question | None = None
    confirm: Callable[[str], None] | None = None
