"""What the daemons' logs look like: oslo.log, with less of what says nothing."""

import logging
from typing import Any

from oslo_log import formatters
from oslo_log import log as oslo_log


def setup(conf: Any) -> None:
    """Set logging up as the configuration says."""
    oslo_log.setup(conf, "nova_lite")
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, formatters.ContextFormatter):
            handler.setFormatter(LineFormatter(project="nova_lite", datefmt=conf.log_date_format, config=conf))
    _quiet_libraries()


class LineFormatter(formatters.ContextFormatter):
    """oslo.log's lines without the text of an error that is only being handled where the line is written.

    The message says what there is to say of it; with the summary it would be told twice, or an error that is of no
    concern any more would. A record that brings its error (LOG.exception) keeps summary and traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        if record.exc_info:
            return super().format(record)
        level, record.levelno = record.levelno, min(record.levelno, logging.INFO)  # no summaries below WARNING
        try:
            return super().format(record)
        finally:
            record.levelno = level


def _quiet_libraries() -> None:
    """Leave out what libraries repeat every second, and what they warn of at every orderly stop."""
    # py-amqp, for the consumers that are cancelled while their channel closes.
    logging.getLogger("amqp").addFilter(lambda record: "during closing channel" not in str(record.msg))
    # oslo.messaging, for each connection to a broker that is away.
    logging.getLogger("oslo.messaging._drivers.impl_rabbit").addFilter(Sparingly(seconds=60))


class Sparingly:
    """A logging filter that lets each kind of warning pass once in a while."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is printed."""
        kind = str(record.msg)[:100]
        last = self._last.get(kind)
        if last is not None and record.created - last < self._seconds:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[kind] = record.created
        return True
