"""The options that say what a new VM of Google Compute Engine shall be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import GCE, NEW_VM, option
from remote_runtime.cli.precedence import outvoted, said_here
from remote_runtime.cli.values import DURATION, GPU, PAIR, SIZE_GB, TEXT
from remote_runtime.errors import UsageError

if TYPE_CHECKING:
    from remote_runtime.providers.gce.spec import GceSpec

_OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("--region",), {"type": TEXT, "metavar": "NAME", "help": "Make it in any zone of this region that has one left."}),
    (
        ("--machine-type",),
        {
            "type": TEXT,
            "metavar": "TYPE",
            "help": "Its processors and memory. [default: e2-standard-4, or one for the GPU]",
        },
    ),
    (("--gpu",), {"type": GPU, "metavar": "TYPE[:N]", "help": "GPUs, such as l4, t4:2 or nvidia-tesla-v100."}),
    (("--image",), {"type": TEXT, "metavar": "NAME", "help": "Boot this image."}),
    (("--image-family",), {"type": TEXT, "metavar": "NAME", "help": "Boot the newest image of a family."}),
    (("--image-project",), {"type": TEXT, "metavar": "PROJECT", "help": "Where that image is."}),
    (
        ("--disk-size",),
        {"type": SIZE_GB, "metavar": "GB", "default": 50, "show_default": True, "help": "Size of its boot disk."},
    ),
    (
        ("--disk-type",),
        {
            "type": TEXT,
            "metavar": "TYPE",
            "default": "pd-balanced",
            "show_default": True,
            "help": "Kind of that disk, such as pd-ssd.",
        },
    ),
    (("--spot",), {"is_flag": True, "help": "Cheaper, but Google may stop it at any time."}),
    (
        ("--max-run-duration",),
        {
            "type": DURATION,
            "metavar": "TIME|none",
            "default": "24h",
            "show_default": True,
            "help": "How long Google lets it run after a start: 90m, 24h, 7d.",
        },
    ),
    (
        ("--at-end",),
        {
            "type": click.Choice(["stop", "delete"]),
            "default": "stop",
            "show_default": True,
            "help": "What Google does to it when that time is over, or when it takes back a --spot machine.",
        },
    ),
    (
        ("--network",),
        {
            "type": TEXT,
            "metavar": "NAME",
            "help": "The project's network that it joins. [default: the one named default]",
        },
    ),
    (
        ("--subnet",),
        {"type": TEXT, "metavar": "NAME", "help": "The part of that network that it joins, in its region."},
    ),
    (
        ("--no-external-ip",),
        {"is_flag": True, "help": "No address on the internet: it is then reached through Identity-Aware Proxy."},
    ),
    (
        ("--service-account",),
        {
            "type": TEXT,
            "metavar": "EMAIL",
            "help": "Let what runs on it use Google Cloud as this account. [default: none]",
        },
    ),
    (
        ("--scope", "scopes"),
        {
            "type": TEXT,
            "multiple": True,
            "metavar": "SCOPE",
            "help": "What it may use that account for; repeatable. [default: cloud-platform, which is all]",
        },
    ),
    (
        ("--label", "labels"),
        {"type": PAIR, "multiple": True, "metavar": "KEY=VALUE", "help": "Label of it, as for the bill; repeatable."},
    ),
    (
        ("--tag", "tags"),
        {"type": TEXT, "multiple": True, "metavar": "TAG", "help": "Tag that firewall rules go by; repeatable."},
    ),
    (
        ("--metadata",),
        {
            "type": PAIR,
            "multiple": True,
            "metavar": "KEY=VALUE",
            "help": "Entry that programs on it can read, such as install-nvidia-driver=True; repeatable.",
        },
    ),
    (
        ("--startup-script",),
        {"type": click.Path(exists=True, dir_okay=False), "metavar": "FILE", "help": "Run as root at every boot."},
    ),
    (("--prepare",), {"is_flag": True, "help": "Have Jupyter put on it and started at its boot, by a startup script."}),
    (("--secure-boot",), {"is_flag": True, "help": "Boot signed software only; NVIDIA's drivers may not be."}),
]


retry_option = option(
    "--retry-until-up", is_flag=True, section=GCE, help="While Google has no such machine left, go on trying."
)


def new_vm_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say what a new VM shall be.

    The function gets ``spec``, a :class:`GceSpec` for the chosen machine, and the :class:`Chosen` with the region and
    whether to go on trying.
    """

    @functools.wraps(function)
    def wrapped(call: Invocation, machine: Chosen, retry_until_up: bool, **values: Any) -> None:
        mine = {name: values.pop(name) for name in _NAMES}
        region = mine.pop("region")
        if values.get("create", True):  # else nothing is made, and the zone is where to look
            dropped = outvoted({"zone": machine.zones, "region": region}, ("zone", "region"))
            region = None if "region" in dropped else region
            machine = machine.with_gce(zones=()) if "zone" in dropped else machine
        for name in outvoted(mine, ("image", "image_family")):
            mine[name] = None
        if mine["scopes"] and not mine["service_account"] and said_here("scopes"):
            raise UsageError(
                "--scope is for a service account, and none was named", hint="Add --service-account EMAIL."
            )
        if machine.target.provider == "gce":
            machine = machine.with_gce(region=region, retry_until_up=retry_until_up, confirm=call.confirm)
        spec = _spec(machine.target.name, mine) if machine.target.provider == "gce" else None
        function(call, machine, spec=spec, **values)

    for names, attributes in reversed(_OPTIONS):
        wrapped = option(*names, section=NEW_VM, **attributes)(wrapped)
    return retry_option(wrapped)


_NAMES = tuple((names[-1] if len(names) > 1 else names[0].lstrip("-")).replace("-", "_") for names, _ in _OPTIONS)


def _spec(name: str, values: dict[str, Any]) -> GceSpec:
    from remote_runtime.providers.gce.gpus import Gpu
    from remote_runtime.providers.gce.spec import GceSpec, check

    script = values["startup_script"]
    spec = GceSpec(
        name,
        machine_type=values["machine_type"],
        gpu=Gpu.parse(values["gpu"]) if values["gpu"] else None,
        image=values["image"],
        image_family=values["image_family"],
        image_project=values["image_project"],
        disk_gb=values["disk_size"],
        disk_type=values["disk_type"],
        spot=values["spot"],
        max_run_seconds=values["max_run_duration"] or None,
        at_end=values["at_end"],
        network=values["network"],
        subnet=values["subnet"],
        external_ip=not values["no_external_ip"],
        service_account=values["service_account"],
        scopes=values["scopes"] or GceSpec.scopes,
        labels=dict(values["labels"]),
        tags=values["tags"],
        metadata=dict(values["metadata"]),
        startup_script=_text(script) if script else None,
        prepare=values["prepare"],
        secure_boot=values["secure_boot"],
    )
    check(spec)
    return spec


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"Can't read {path}: {error}", hint="Give another file to --startup-script.") from error
