"""Which machine is meant: decided from what was written, without looking at any machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

from remote_runtime.errors import UsageError
from remote_runtime.providers import USUAL_PROVIDER

DEFAULT_SANDBOX = "sandbox"

_PLACE = re.compile(r"(?:\[[^\[\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,9}))?|[^\[\]:]*(?::[^\[\]:]*){2,}")
"""A host or an address in brackets, each with or without a port; or a bare IPv6 address."""


@dataclass(frozen=True)
class Target:
    """One machine: who provides it, and its name there."""

    provider: str
    name: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """What to write on the command line to mean this machine, whatever else is known."""
        if self.provider == "sandbox":
            return ("--sandbox",) if self.name == DEFAULT_SANDBOX else ("--sandbox", "--instance", self.name)
        if self.provider == "ssh":
            return (self.name,) if is_address(self.name) else ("--provider", "ssh", self.name)
        return (self.name,)

    def command(self, verb: str) -> str:
        """The whole command line of ``verb`` for this machine, ready to be pasted into a shell."""
        return shlex.join(["remote-runtime", verb, *self.arguments])


@dataclass(frozen=True)
class Written:
    """What the user wrote to name a machine.

    ``targets``, ``instance``, ``sandbox`` and ``provider`` come from the command line.  The rest are weaker:
    ``default_instance`` from the environment or the profile, ``environment_provider`` and ``profile_provider`` from
    where their names say.
    """

    targets: tuple[str, ...] = ()
    instance: str | None = None
    sandbox: bool = False
    provider: str | None = None
    default_instance: str | None = None
    environment_provider: str | None = None
    profile_provider: str | None = None


def choose(written: Written, known: Collection[Target], *, verb: str, new: bool = False) -> Target:
    """The machine that is meant.

    ``known`` are the machines that we remember: a name that only one provider has needs no ``--provider``.
    ``new``: the machine is yet to be made, so what is known does not matter.
    Raises :class:`UsageError` if no machine is meant, or more than one.
    """
    name, provider = _name(written, verb), written.provider
    if written.sandbox:
        if provider not in (None, "sandbox"):
            raise UsageError(
                f"--sandbox and --provider {provider} contradict each other", hint="Leave one of them out."
            )
        provider = "sandbox"
    check_name(name)
    if is_address(name):
        check_address(name)
        if provider not in (None, "ssh"):
            raise UsageError(
                f"{name!r} is an SSH address, not the name of a machine of the provider {provider}",
                hint=f"Leave out --{'sandbox' if written.sandbox else 'provider'}, or give the machine's name.",
            )
        return Target("ssh", name)
    provider = provider or written.environment_provider
    if provider:
        return Target(provider, name)
    owners = [] if new else sorted({target.provider for target in known if target.name == name})
    if len(owners) > 1:
        choices = "\n".join(f"  {Target(owner, name).command(verb)}" for owner in owners if owner != USUAL_PROVIDER)
        if USUAL_PROVIDER in owners:
            choices += f"\n  remote-runtime {verb} --provider {USUAL_PROVIDER} {name}"
        raise UsageError(
            f"{name!r} is the name of more than one machine: {' and '.join(owners)} each have one",
            hint=f"Say which you mean:\n{choices}",
            code="ambiguous_name",
        )
    return Target(owners[0] if owners else written.profile_provider or USUAL_PROVIDER, name)


def is_address(name: str) -> bool:
    """Whether this can only be an SSH address (``user@host``, ``host:port``), as no name of a machine has these."""
    return "@" in name or ":" in name


def check_address(name: str) -> None:
    """Refuse what is not ``[user@]host[:port]``, with an IPv6 address in brackets or without a port.

    That can be seen before anything is done; what ssh makes of the names in it is seen when it is looked up.
    Raises :class:`UsageError`.
    """
    user, at, place = name.removeprefix("ssh://").rstrip("/").rpartition("@")
    found = _PLACE.fullmatch(place)
    if at and not user:
        problem = "there is no user before the @"
    elif not place or (place.startswith(":") and not found):
        problem = "there is no host in it"
    elif not found:
        problem = "it is not [user@]host[:port]"
    elif found["port"] and not 0 < int(found["port"]) < 65536:
        problem = "the port is not between 1 and 65535"
    else:
        return
    raise UsageError(
        f"Not an SSH address: {name!a}: {problem}",
        hint="Write user@host, user@host:port or [v6]:port.",
        code="bad_target",
    )


def check_name(name: str) -> None:
    """Refuse what can be no machine's name or address anywhere.

    Raises :class:`UsageError`.
    """
    if not name:
        problem = "it is empty"
    elif len(name) > 300:
        problem = "it is too long"
    elif not name.isprintable() or any(char.isspace() for char in name):
        problem = "it has white space or control characters in it"
    elif name.startswith("-") or "@-" in name:
        problem = "it looks like an option"
    else:
        return
    shown = ascii(name if len(name) < 60 else name[:60] + "...")
    raise UsageError(f"{shown} can't be the name of a machine: {problem}", hint="Check the name for typing errors.")


def _name(written: Written, verb: str) -> str:
    names = [*written.targets, *([] if written.instance is None else [written.instance])]
    if len(names) > 1:
        raise UsageError(f"{len(names)} machines were named: {', '.join(map(ascii, names))}", hint=_three_ways(verb))
    if written.sandbox and written.targets:
        raise UsageError(
            f"Two machines were named: {names[0]!a} and --sandbox",
            hint=f"{_three_ways(verb)}\nA sandbox gets another name by --sandbox --instance NAME.",
        )
    if names:
        return names[0]
    if written.default_instance is not None:
        return written.default_instance
    provider = written.provider or written.environment_provider or written.profile_provider
    if written.sandbox or provider == "sandbox":
        return DEFAULT_SANDBOX
    raise UsageError("No machine was named", hint=_three_ways(verb))


def _three_ways(verb: str) -> str:
    ways = (
        (f"remote-runtime {verb} NAME", "a machine known here, or a Google Compute Engine VM"),
        (f"remote-runtime {verb} user@host[:port]", "a machine that you reach by SSH"),
        (f"remote-runtime {verb} --sandbox", "a scratch machine on this computer"),
    )
    width = max(len(way) for way, _ in ways)
    return "\n".join(["Name one machine, in one of three ways:", *(f"  {way:<{width}}  {what}" for way, what in ways)])
