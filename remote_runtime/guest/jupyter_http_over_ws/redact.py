"""Keeps the server's token out of its log, whoever writes there.

The server scrubs its access log, but tornado writes the whole URL where a handler refuses or fails, so a request
with ``?token=`` for a file that is not there would put the token into the log.

There is one exception: a server that made its token up itself shows the URL when it starts, and nobody would know the
token otherwise.  These lines stay as they are.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any, Callable, Iterable, Iterator, Pattern

REPLACEMENT = "[secret]"

Shown = Callable[[], Iterable[str]]


class Redact(logging.Filter):
    """Takes the secret out of every record, however it is quoted; ``secret`` is asked anew for each one.

    So is ``shown``, which gives the texts that are to be read by people, secret and all.
    """

    def __init__(self, secret: Callable[[], str], shown: Shown = tuple) -> None:
        super().__init__()
        self._secret = secret
        self._shown = shown

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without the secret."""
        secret = self._secret()
        if secret:
            _redact(record, secret, self._shown)
        return True


def redact_log(logger: Any, secret: Callable[[], str], shown: Shown = tuple) -> None:
    """Filter everything that reaches the handlers of ``logger``, its own records and those of the loggers below it.

    So is what reaches no handler of anybody's, which Python itself shows: complaints of asyncio, for instance.
    A line that is one of a text that ``shown`` gives, and nothing else, stays.
    """
    redact = Redact(secret, shown)
    for handler in _handlers(logger):
        handler.addFilter(redact)


def _handlers(logger: Any) -> Iterator[logging.Handler]:
    logger = getattr(logger, "logger", logger)  # a LoggerAdapter has its logger inside
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
    yield from logging.root.handlers
    if logging.lastResort is not None:
        yield logging.lastResort


def _redact(record: logging.LogRecord, secret: str, shown: Shown) -> None:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        return  # its arguments don't fit; logging says so itself
    clean = _without(message, secret)
    if clean != message:
        kept = {line.strip() for text in shown() for line in text.splitlines()}
        if kept:
            lines = message.splitlines(keepends=True)
            clean = "".join(line if line.strip() in kept else _without(line, secret) for line in lines)
        record.msg, record.args = clean, ()
    trace = record.exc_text
    if record.exc_info and not trace:
        trace = logging.Formatter().formatException(record.exc_info)
    if trace and _without(trace, secret) != trace:
        record.exc_text = _without(trace, secret)  # what a formatter finds here it does not format again


def _without(text: str, secret: str) -> str:
    return _spellings(secret).sub(REPLACEMENT, text)


@lru_cache(maxsize=1)
def _spellings(secret: str) -> Pattern[str]:
    """Matches ``secret``, each character plain or quoted as in a URL, also in one that is itself quoted in another."""
    return re.compile("".join(f"(?:{re.escape(character)}|{_quoted(character)})" for character in secret))


def _quoted(character: str) -> str:
    return "".join(f"(?i:%(?:25)*{byte:02x})" for byte in character.encode("utf-8", "surrogateescape"))
