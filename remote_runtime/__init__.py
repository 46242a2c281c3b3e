"""A notebook backend on a remote VM, at a localhost URL that keeps working.

>>> from remote_runtime import connect
>>> with connect("trainer", provider="ssh") as runtime:  # doctest: +SKIP
...     print(runtime.url)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remote_runtime.api import connect
    from remote_runtime.cells import CellResult
    from remote_runtime.errors import (
        CellError,
        GuestError,
        KernelError,
        NetworkError,
        PortInUse,
        RemoteRuntimeError,
        TimedOut,
        TransferError,
    )
    from remote_runtime.events import Event
    from remote_runtime.model import Forward, Instance, ServerInfo, ServerOptions
    from remote_runtime.providers.gce.gpus import Gpu
    from remote_runtime.providers.gce.options import GceOptions
    from remote_runtime.providers.gce.spec import GceSpec
    from remote_runtime.runtime import Runtime
    from remote_runtime.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "connect": "api",
    "CellError": "errors",
    "CellResult": "cells",
    "GuestError": "errors",
    "KernelError": "errors",
    "NetworkError": "errors",
    "PortInUse": "errors",
    "RemoteRuntimeError": "errors",
    "TimedOut": "errors",
    "TransferError": "errors",
    "Event": "events",
    "Forward": "model",
    "Instance": "model",
    "ServerInfo": "model",
    "ServerOptions": "model",
    "GceOptions": "providers.gce.options",
    "GceSpec": "providers.gce.spec",
    "Gpu": "providers.gce.gpus",
    "Runtime": "runtime",
    "Settings": "settings",
}

__all__ = [
    "CellError",
    "CellResult",
    "Event",
    "Forward",
    "GceOptions",
    "GceSpec",
    "Gpu",
    "GuestError",
    "Instance",
    "KernelError",
    "NetworkError",
    "PortInUse",
    "RemoteRuntimeError",
    "Runtime",
    "ServerInfo",
    "ServerOptions",
    "Settings",
    "TimedOut",
    "TransferError",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``remote-runtime --help`` must not wait for paramiko."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
