"""What Colab's own runtimes tell their page, in the same form, so that it can show its gauges here too.

    GET <base_url>api/colab/resources     memory, disk, GPUs
    GET <base_url>api/colab/build-info    which of Colab's images this is: usually none

Both are Colab's own paths and need a login.  The forms are those of Colab's public runtime.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping, Optional

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import authenticated

from .gauges import Gpu
from .resources import Reading, Resources, read_resident

PREFIX = ")]}'\n"
"""Goes before the JSON, so that a foreign page that includes it as a script gets nothing but an error."""

RELEASE_VARIABLE = "COLAB_RELEASE_TAG"
"""The variable in which Colab's images say which release they are."""


class ColabHandler(APIHandler):
    """What both have in common."""

    auth_resource = "api"
    _track_activity = False  # a page that asks every few seconds does not mean that anybody works

    def say(self, values: Mapping[str, Any]) -> None:
        """Answer in Colab's form."""
        self.set_header("Cache-Control", "no-store")
        self.finish(PREFIX + json.dumps(values))


class ColabResources(ColabHandler):
    """How much of the machine is in use."""

    def initialize(self, resources: Resources) -> None:
        """Called by tornado with the arguments of the routing rule."""
        self._resources = resources

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the newest reading."""
        self.say(resources_form(await self._resources.read(), memory_by_kernel(self.kernel_manager)))


class ColabBuildInfo(ColabHandler):
    """Which of Colab's images this is."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer with null for none, as it is everywhere but in their images."""
        self.say({"release_tag": os.environ.get(RELEASE_VARIABLE)})


def resources_form(reading: Reading, kernels: Mapping[str, int]) -> Dict[str, Any]:
    """``reading`` and the memory of each kernel as Colab's page wants them; 0 for what is not known."""
    memory, disk = reading.memory, reading.disk
    return {
        "memory": {
            "totalBytes": memory.total if memory else 0,
            "freeBytes": memory.available if memory else 0,
            "kernels": [{"uuid": uuid, "usedBytes": used} for uuid, used in kernels.items()],
        },
        "disks": [
            {
                "filesystem": {
                    "label": "kernel",
                    "totalBytes": disk.total if disk else 0,
                    "usedBytes": disk.used if disk else 0,
                }
            }
        ],
        "gpus": [_gpu_form(gpu) for gpu in reading.gpus],
    }


def memory_by_kernel(manager: Any) -> Dict[str, int]:
    """The bytes of memory that each kernel of ``manager`` has, as far as it runs on this machine."""
    found = {}
    for uuid in manager.list_kernel_ids():
        pid = _pid(manager, uuid)
        used = None if pid is None else read_resident(pid)
        if used is not None:
            found[uuid] = used
    return found


def _gpu_form(gpu: Gpu) -> Dict[str, Any]:
    return {
        "name": gpu.name,
        "memoryUsedBytes": gpu.used,
        "memoryTotalBytes": gpu.total,
        "gpuUtilization": gpu.busy or 0,
        "memoryUtilization": gpu.memory_busy or 0,
        "everUsed": gpu.used > 0,
    }


def _pid(manager: Any, uuid: str) -> Optional[int]:
    """The process of a kernel; None for one that runs elsewhere or is just being started."""
    pid = getattr(getattr(manager.get_kernel(uuid), "provisioner", None), "pid", None)
    return pid if isinstance(pid, int) else None
