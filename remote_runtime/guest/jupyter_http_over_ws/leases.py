"""Kernels on a lease: one ends when nobody has been connected to it for as long as its client said.

A program that runs code here has a kernel of its own, which nobody can want once that program is gone.  A program that
is killed says no goodbye, and looks like one whose connection was cut for a while: so time decides.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, Dict, Optional

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import HTTPError, authenticated

LOOK_SECONDS = 1.0
FIRST_SECONDS = 30.0
"""The first client is waited for so long in any case: nobody can connect before the kernel has started."""

LONGEST_SECONDS = 7 * 24 * 3600.0


class Leases:
    """The leased kernels of one server; looks after them while there are any."""

    def __init__(self, kernels: Any, log: Any) -> None:
        self._kernels = kernels
        self._log = log
        self._seconds: Dict[str, float] = {}
        self._alone: Dict[str, float] = {}
        self._task: Optional[asyncio.Task[None]] = None

    async def start(self, seconds: float, name: Optional[str]) -> str:
        """Start a kernel; its id.  It ends ``seconds`` after the last client went, or if none comes for a while."""
        kernel: str = await _result(self._kernels.start_kernel(kernel_name=name))
        self._seconds[kernel] = seconds
        self._alone[kernel] = time.monotonic() + max(0.0, FIRST_SECONDS - seconds)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._look_after())
        return kernel

    async def _look_after(self) -> None:
        while self._seconds:
            await asyncio.sleep(LOOK_SECONDS)
            for kernel in list(self._seconds):
                if kernel not in self._kernels:
                    self._forget(kernel)
                elif self._kernels.kernel_model(kernel)["connections"]:
                    self._alone.pop(kernel, None)
                elif self._left(kernel) <= 0:
                    self._log.info("Nobody has been connected to kernel %s for a while: it ends", kernel)
                    self._forget(kernel)
                    await self._end(kernel)

    async def _end(self, kernel: str) -> None:
        try:
            await _result(self._kernels.shutdown_kernel(kernel))
        except Exception:  # noqa: BLE001 - whatever it is, the other leases run on
            self._log.warning("Kernel %s could not be ended", kernel, exc_info=True)

    def _left(self, kernel: str) -> float:
        """Seconds until it ends, if nobody comes."""
        now = time.monotonic()
        return self._alone.setdefault(kernel, now) + self._seconds[kernel] - now

    def _forget(self, kernel: str) -> None:
        self._seconds.pop(kernel, None)
        self._alone.pop(kernel, None)


async def _result(value: Any) -> Any:
    """What a kernel manager gives: some do at once, some are awaited."""
    return await value if inspect.isawaitable(value) else value


class LeasedKernels(APIHandler):
    """``POST``: start a kernel on a lease, ``{"lease": seconds, "name": kernelspec}``; it answers ``{"id": ...}``.

    Whoever may not start a kernel of the usual kind may not start this one either.
    """

    auth_resource = "kernels"

    def initialize(self, leases: Leases) -> None:
        """Called by tornado for each request."""
        self._leases = leases

    @authenticated
    @authorized
    async def post(self) -> None:
        """Start it; 400 for a lease that is none."""
        wanted = self.get_json_body()
        if not isinstance(wanted, dict):
            raise HTTPError(400, "the body must be a JSON object")
        seconds, name = wanted.get("lease"), wanted.get("name")
        if isinstance(seconds, bool):  # a number to Python, of one second
            seconds = None
        if not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST_SECONDS:
            raise HTTPError(400, "lease must be a number of seconds")
        if not isinstance(name, (str, type(None))):
            raise HTTPError(400, "name must be the name of a kernelspec")
        kernel = await self._leases.start(float(seconds), name)
        self.set_status(201)
        await self.finish({"id": kernel})
