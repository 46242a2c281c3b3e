"""What some versions of jupyter_server that we run on do not have yet."""

from __future__ import annotations

try:
    from jupyter_server.auth.decorator import allow_unauthenticated
except ImportError:  # before 2.13, where there was nothing to be exempt from
    from typing import Any, Callable, TypeVar

    _Method = TypeVar("_Method", bound=Callable[..., Any])

    def allow_unauthenticated(method: _Method) -> _Method:
        """Mark ``method`` as one that needs no login."""
        return method


__all__ = ["allow_unauthenticated"]
