"""The options, each declared once, and where their values come from: command line, environment, profile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.layout import Context
from remote_runtime.cli.precedence import outvoted, said_here
from remote_runtime.cli.target import Target, Written, choose
from remote_runtime.cli.values import SECONDS, TEXT
from remote_runtime.errors import RemoteRuntimeError, UsageError
from remote_runtime.providers import PROVIDERS
from remote_runtime.settings import PREFIX, Settings

GCE, NEW_VM = "Google Compute Engine", "A new VM there"
"""The headings of what means something for one provider only."""

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option with a heading of ``--help`` and with a variable and a profile entry of its own name.

    ``per_call``: it has neither, since it must be said each time.
    """

    def __init__(self, *args: Any, section: str = "Options", per_call: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section
        self.per_call = per_call
        if not per_call:
            self.envvar = PREFIX + str(self.name).upper()

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """See click: a single value in the profile does for a repeatable option."""
        value, source = super().consume_value(ctx, opts)
        if source == ParameterSource.DEFAULT_MAP:
            if self.multiple and not isinstance(value, (list, tuple)):
                value = [value]
            value = [_as_text(one) for one in value] if self.multiple else _as_text(value)
        return value, source

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """See click; the profile may hold a list or a table where one value is wanted."""
        for one in value if self.multiple and value else [value]:
            if isinstance(one, (list, dict)):
                raise click.BadParameter(f"{one!a} is not one value", ctx, self)
        return super().type_cast_value(ctx, value)


def _as_text(value: Any) -> Any:
    """A value of the profile as it would be written on the command line; lists and tables stay what they are."""
    return value if isinstance(value, (str, list, dict)) else str(value).lower()


class Command(click.Command):
    """A command whose ``--help`` shows the options below their headings."""

    context_class = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Output"), []).append(record)
        for title in sorted(sections, key="Output".__eq__):  # last what every command has
            with formatter.section(title):
                formatter.write_dl(sections[title])


def verb(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command of ours; ``cls`` is a subclass of :class:`Command` if it needs more."""
    return click.command(name, **{"cls": Command, **attributes})


def option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option of ours; see :class:`Option`."""
    return click.option(*declarations, cls=Option, **attributes)


# -- the options that several commands share ------------------------------------------------------------------------


def output_options(function: Callable[..., None]) -> Callable[..., None]:
    """``--json -q -v``, and the :class:`Invocation` as the function's first argument."""

    @option("--json", is_flag=True, section="Output", help="Write JSON to standard output, for programs.")
    @option("-q", "--quiet", is_flag=True, section="Output", help="Show nothing but results and errors.")
    @option("-v", "--verbose", is_flag=True, section="Output", help="Show every detail, and tracebacks of errors.")
    @functools.wraps(function)
    def wrapped(json: bool, quiet: bool, verbose: bool, **values: Any) -> None:
        call: Invocation = click.get_current_context().obj
        dropped = outvoted({"quiet": quiet, "verbose": verbose}, ("quiet", "verbose"))
        call.json = json
        call.quiet, call.verbose = quiet and "quiet" not in dropped, verbose and "verbose" not in dropped
        call.begin()
        function(call, **values)

    return wrapped


def machine_options(
    *, timeout: int, new: bool = False, unless: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """All that names a machine, with ``--timeout`` (``timeout`` seconds if it is not said) and ``--yes``.

    The function gets the :class:`Invocation` and the :class:`Chosen` machine.  ``new``: it is yet to be made.
    ``unless`` names a flag that takes the place of a machine: with it the function gets None.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @click.argument("targets", nargs=-1, metavar="[NAME|TARGET]", shell_complete=_complete_names)
        @option("--instance", type=TEXT, metavar="NAME", section="Machine", help="The machine's name; NAME alone does.")
        @option("--sandbox", is_flag=True, section="Machine", help="A scratch machine on this computer.")
        @option(
            "--provider",
            type=click.Choice(PROVIDERS),
            section="Machine",
            help="Who has the machine: Google Compute Engine, your ssh_config, or this computer. "
            + ("[default: gce]" if new else "[default: the one that is known to have it, else gce]"),
        )
        @option(
            "--zone",
            type=TEXT,
            multiple=True,
            metavar="ZONE",
            section=GCE,
            help="Where to make it; repeatable: the first that has such a machine left. [default: gcloud's]"
            if new
            else "Its zone; repeatable. [default: wherever it is]",
        )
        @option("--project", type=TEXT, section=GCE, help="Its project. [default: gcloud's]")
        @option(
            "--ssh-key",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            section=GCE,
            help="Log in by this key, such as gcloud's. [default: one of our own]",
        )
        @option("--remove-key", is_flag=True, section=GCE, help="Remove that key from it again at the end.")
        @(_nothing_more if new else _ways)
        @option("--user", type=TEXT, metavar="USER", section="Machine", help="Account to log in as.")
        @option("-y", "--yes", is_flag=True, section="Machine", help="Answer every confirmation with yes.")
        @option(
            "--timeout",
            type=SECONDS,
            metavar="SECONDS",
            default=timeout,
            show_default=True,
            section="Machine",
            help="Give up after that long.",
        )
        @output_options
        @functools.wraps(function)
        def wrapped(
            call: Invocation,
            user: str | None,
            yes: bool,
            timeout: float,
            targets: tuple[str, ...],
            instance: str | None,
            sandbox: bool,
            provider: str | None,
            zone: tuple[str, ...],
            project: str | None,
            ssh_key: Path | None,
            remove_key: bool,
            **values: Any,
        ) -> None:
            way = _chosen_way({name: values.pop(name, None) for name in _WAYS})
            call.yes, call.timeout = yes, timeout
            written = _written(targets, instance=instance, sandbox=sandbox, provider=provider)
            if unless and values.pop(unless):
                if written.targets or written.instance or written.sandbox or written.provider:
                    raise UsageError(f"--{unless} and one machine contradict each other", hint="Leave one of them out.")
                function(call, None, **values)
                return
            name = str(click.get_current_context().info_name)
            target = choose(written, [] if new else _known(call.settings), verb=name, new=new)
            _check_fit(target, user=user)
            places = {"project": project, "zones": zone, "key": ssh_key, "remove_key": remove_key, **way}
            function(call, Chosen(target, user, places), **values)

        return wrapped

    return decorate


_WAYS: dict[str, dict[str, Any]] = {
    "internal_ip": {"is_flag": True, "help": "Reach it by its internal address."},
    "jump": {
        "type": TEXT,
        "metavar": "HOST",
        "help": "Reach its internal address by way of this SSH server: [user@]host[:port] or a name of ssh_config.",
    },
    "tunnel_through_iap": {"is_flag": True, "help": "Reach it through Identity-Aware Proxy."},
}
"""The options that say how a VM is reached."""


def _ways(function: Callable[..., None]) -> Callable[..., None]:
    for name, attributes in reversed(_WAYS.items()):
        function = option(f"--{name.replace('_', '-')}", section=GCE, **attributes)(function)
    return function


def _nothing_more(function: Callable[..., None]) -> Callable[..., None]:
    return function


def _chosen_way(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of :class:`GceOptions` for them."""
    iap = "tunnel_through_iap"
    dropped = outvoted(said, ("internal_ip", iap), ("jump", iap), problem="are two ways")
    kept = {name: value for name, value in said.items() if name not in dropped}
    reach = "internal" if kept.get("internal_ip") else "iap" if kept.get(iap) else "auto"
    return {"reach": reach, "jump": kept.get("jump") or ""}


def _written(targets: tuple[str, ...], *, instance: str | None, sandbox: bool, provider: str | None) -> Written:
    """Sort the values by where they come from: what is on the command line beats what is always set."""
    context = click.get_current_context()

    def source(name: str) -> ParameterSource | None:
        return context.get_parameter_source(name)

    line, environment, profile = ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP

    def provider_from(place: ParameterSource) -> str | None:
        if source("provider") == place:
            return provider
        return "sandbox" if sandbox and source("sandbox") == place else None

    return Written(
        targets=targets,
        instance=instance if source("instance") == line else None,
        sandbox=sandbox and source("sandbox") == line,
        provider=provider if source("provider") == line else None,
        default_instance=instance if source("instance") != line else None,
        environment_provider=provider_from(environment),
        profile_provider=provider_from(profile),
    )


def _check_fit(target: Target, *, user: str | None) -> None:
    """Refuse what was said on the command line for this call and means nothing for this machine."""
    context = click.get_current_context()
    said = {str(one.name) for one in context.command.params if said_here(str(one.name))}
    for name, providers in [*((name, ("gce",)) for name in _gce_only(context)), ("user", ("gce", "ssh"))]:
        if name in said and target.provider not in providers:
            raise UsageError(
                f"--{name.replace('_', '-')} means nothing for a machine of the provider {target.provider}",
                hint=f"Leave it out; it is for {' and '.join(providers)}.",
            )
    in_address = target.name.rpartition("@")[0] if target.provider == "ssh" else ""
    if "user" in said and in_address and in_address != user:
        raise UsageError(f"Two users were named: {in_address!a} and {user!a}", hint="Leave one of them out.")


def _gce_only(context: click.Context) -> list[str]:
    return [str(one.name) for one in context.command.params if getattr(one, "section", "") in (GCE, NEW_VM)]


def _known(settings: Settings) -> list[Target]:
    from remote_runtime.machines import known_machines

    return [Target(provider, name) for provider, name in known_machines(settings)]


def _complete_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from remote_runtime.store import Store

    try:
        names = {name for _, name in Store(Settings.load().state_dir).names()}
    except RemoteRuntimeError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
