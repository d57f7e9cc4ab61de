"""What the daemons write into their logs."""

import io
import logging

import pytest

from nova_lite import conf as configuration
from nova_lite import exception
from nova_lite.cmd import logs

AWAY = exception.RpcUnavailable(method="ping", topic="cells", reason="nobody there")


@pytest.fixture
def log():
    """A logger, and a function that gives what it has written as the daemons would."""
    conf = configuration.load(prog="test", config_files=[], config_dirs=[])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.LineFormatter(project="nova_lite", datefmt=conf.log_date_format, config=conf))
    logger = logging.Logger("nova_lite.test")
    logger.addHandler(handler)
    return logger, stream.getvalue


def test_a_warning_about_an_error_tells_it_once(log):
    logger, written = log

    try:
        raise AWAY
    except exception.RpcUnavailable as error:
        logger.warning("periodic task: %s", error)

    assert written().count("nobody there") == 1
    assert " WARNING " in written()
    assert "RpcUnavailable" not in written()


def test_an_unexpected_error_has_its_summary_and_its_traceback(log):
    logger, written = log

    try:
        raise AWAY
    except exception.RpcUnavailable:
        logger.exception("periodic task failed")

    first_line, _, rest = written().partition("\n")
    assert "nobody there" in first_line
    assert "Traceback (most recent call last)" in rest


def test_a_repeated_warning_of_a_library_is_let_through_once_in_a_while():
    record = logging.LogRecord("amqp", logging.WARNING, __file__, 1, "unreachable", (), None)
    sparingly = logs.Sparingly(seconds=60)

    first, second = sparingly.filter(record), sparingly.filter(record)
    record.created += 61

    assert (first, second, sparingly.filter(record)) == (True, False, True)
