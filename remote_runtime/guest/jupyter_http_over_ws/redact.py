"""Keeps the server's token out of its log, whoever writes there.

The server scrubs its access log, but tornado writes the whole URL where a handler refuses or fails, so a request
with ``?token=`` for a file that is not there would put the token into the log.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Iterator
from urllib.parse import quote

REPLACEMENT = "[secret]"


class Redact(logging.Filter):
    """Takes the secret, plain or quoted as in a URL, out of every record; ``secret`` is asked anew for each one."""

    def __init__(self, secret: Callable[[], str]) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without the secret."""
        secret = self._secret()
        if secret:
            _redact(record, secret)
        return True


def redact_log(logger: Any, secret: Callable[[], str]) -> None:
    """Filter everything that reaches the handlers of ``logger``, its own records and those of the loggers below it."""
    redact = Redact(secret)
    for handler in _handlers(logger):
        handler.addFilter(redact)


def _handlers(logger: Any) -> Iterator[logging.Handler]:
    logger = getattr(logger, "logger", logger)  # a LoggerAdapter has its logger inside
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _redact(record: logging.LogRecord, secret: str) -> None:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        return  # its arguments don't fit; logging says so itself
    clean = _without(message, secret)
    if clean != message:
        record.msg, record.args = clean, ()
    trace = record.exc_text
    if record.exc_info and not trace:
        trace = logging.Formatter().formatException(record.exc_info)
    if trace and _without(trace, secret) != trace:
        record.exc_text = _without(trace, secret)  # what a formatter finds here it does not format again


def _without(text: str, secret: str) -> str:
    return text.replace(secret, REPLACEMENT).replace(quote(secret, safe=""), REPLACEMENT)
