"""One call of the command line: what was asked for in general, and how its results are shown."""

from __future__ import annotations

import functools
import json
import logging
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from remote_runtime.cli.failure import as_event, explain
from remote_runtime.cli.render import Narrator, PlainScreen, Screen
from remote_runtime.cli.target import Target
from remote_runtime.cli.terminal import OutputClosed, Terminal, visible
from remote_runtime.errors import RemoteRuntimeError, UsageError
from remote_runtime.events import Event, Notice, to_dict
from remote_runtime.model import Question
from remote_runtime.settings import Settings

if TYPE_CHECKING:
    from remote_runtime.machine import Machine
    from remote_runtime.providers.gce.options import GceOptions


@dataclass(frozen=True)
class Chosen:
    """The machine that the shared options name, and the account on it (None: the usual one).

    ``places`` are the fields of :class:`GceOptions` that were said, for a machine of that provider.
    """

    target: Target
    user: str | None = None
    places: Mapping[str, Any] = field(default_factory=dict)

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones that were named."""
        return tuple(self.places.get("zones", ()))

    def with_gce(self, **more: Any) -> Chosen:
        """The same with more of these fields."""
        return replace(self, places={**self.places, **more})

    @property
    def gce(self) -> GceOptions | None:
        """The options for the provider, if the machine is one of Google's."""
        from remote_runtime.providers.gce.options import GceOptions

        return GceOptions(**self.places) if self.target.provider == "gce" else None


@dataclass
class Invocation:
    """Made before the command line is read, since wrong usage has to be reported too; filled while it is read.

    ``ready`` becomes true when the work is done and only waiting is left: a signal is then the normal end.
    ``reporting`` commands give one JSON document and no events.  ``remarks`` on the profile are told with the first
    words of the command.
    """

    terminal: Terminal
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    yes: bool = False
    timeout: float = 60.0
    reporting: bool = False
    remarks: tuple[str, ...] = ()
    ready: bool = False
    settings: Settings = field(init=False)
    _handler: logging.Handler = field(default_factory=logging.NullHandler)

    def machine(self, chosen: Chosen) -> Machine:
        """The machine, to do something with it."""
        from remote_runtime.machine import Machine

        target = chosen.target
        return Machine(
            target.name,
            provider=target.provider,
            gce=chosen.gce,
            user=chosen.user,
            settings=self.settings,
            ask=self.ask,
            on_event=self.on_event,
        )

    # -- what happens -----------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """The event sink of this call."""
        if self.json:
            if not self.reporting:
                with suppress(OutputClosed):  # whoever waits for the work to end looks at terminal.closed
                    self._json_line(to_dict(event))
        elif not self.quiet:
            self.narrator(event)

    @functools.cached_property
    def screen(self) -> Screen:
        """Where people look; rich is imported only if there is a terminal that it can draw on."""
        if self.terminal.living:
            from remote_runtime.cli.live import LiveScreen

            return LiveScreen(self.terminal)
        return PlainScreen(self.terminal)

    @functools.cached_property
    def narrator(self) -> Narrator:
        """Tells people what happens."""
        return Narrator(self.screen, wordy=self.verbose, brief=self.reporting and not self.verbose)

    def say(self, text: str) -> None:
        """A line for people, on stderr."""
        if not self.quiet and not self.json:
            self.narrator.close()
            self.screen.line(text, "plain")

    def rows(self, rows: list[tuple[str, str]]) -> None:
        """Rows of a short name and a text, for people, on stderr."""
        if not self.quiet and not self.json:
            self.narrator.close()
            self.screen.rows(rows)

    def begin(self) -> None:
        """Say what there is to remark.

        What our library logs goes to stderr if every detail is wanted, and nowhere else: events say the rest.
        """
        for remark in self.remarks:
            self.on_event(Notice("profile_entry_unknown", remark, "warning"))
        self._handler = _LogLines(self.terminal) if self.verbose else logging.NullHandler()
        logging.getLogger().addHandler(self._handler)
        if self.verbose:
            logging.getLogger("remote_runtime").setLevel(logging.INFO)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if "narrator" in self.__dict__:  # a cached property that was used
            self.narrator.close()
        logging.getLogger().removeHandler(self._handler)

    # -- results ----------------------------------------------------------------------------------------------------

    def result(self, event: str, text: str, **values: Any) -> None:
        """What a command that does something ends with: a result line of ``--json``, or ``text`` on stderr."""
        if self.json:
            self._json_line({"event": event, **values})
        else:
            self.say(f"✓ {text}")

    def document(self, values: Mapping[str, Any], lines: list[str]) -> None:
        """What a reporting command says: one JSON document, or ``lines``, on stdout."""
        if self.json:
            self._json_line(values)
        else:
            self.close()
            for line in lines:
                self.terminal.out(line)

    def failed(self, error: RemoteRuntimeError) -> None:
        """Report an error: to people in any case, and as the last JSON line."""
        self.close()
        if self.verbose:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self.terminal.err(visible(line), "faint")
        for text, style in explain(error):
            self.terminal.err(text, style)
        if self.json and not self.terminal.closed:
            self._json_line(as_event(error))

    def _json_line(self, values: Mapping[str, Any]) -> None:
        self.terminal.out(json.dumps(_clean(values)))

    # -- questions --------------------------------------------------------------------------------------------------

    @property
    def ask(self) -> Question | None:
        """How to ask the person, None if there is nobody to be asked."""
        return self._ask if self.terminal.interactive else None

    def _ask(self, prompt: str, echo: bool) -> str:
        if self.json or self.quiet:
            return self.terminal.ask(prompt, echo)
        with self.narrator.paused():
            return self.terminal.ask(prompt, echo)

    def confirm(self, question: str) -> None:
        """Go on only if the person agrees (or did so by ``--yes``).

        Raises :class:`UsageError` (``confirmation_needed``) if nobody can be asked, and
        :class:`RemoteRuntimeError` (``declined``) for a no.
        """
        self.check_agreement(question)
        if not self.yes and self.ask and self.ask(f"{question} [y/N]", True).strip().lower() not in ("y", "yes"):
            raise RemoteRuntimeError("Nothing was done", hint="Answer y to go on.", code="declined")

    def check_agreement(self, question: str) -> None:
        """Raise :class:`UsageError` (``confirmation_needed``) if there will be nobody to agree to that."""
        if not self.yes and self.ask is None:
            raise UsageError(
                f"This needs a confirmation: {question}",
                hint="Add --yes if you are sure: there is no terminal to ask on.",
                code="confirmation_needed",
            )


class _LogLines(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("remote_runtime"):
            for line in self.format(record).splitlines():
                self._terminal.err(visible(line), "faint")


def _clean(value: Any) -> Any:
    """``value`` with every string made safe to be shown."""
    if isinstance(value, str):
        return "\n".join(map(visible, value.split("\n")))
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, (list, tuple)) else value
