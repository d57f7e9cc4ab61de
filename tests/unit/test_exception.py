import inspect

import pytest
from oslo_messaging._drivers import common as driver_common

from nova_lite import exception

CLASSES = [cls for _, cls in inspect.getmembers(exception, inspect.isclass) if cls.__module__ == exception.__name__]


def test_the_text_is_made_from_the_arguments_and_the_code_is_kept_with_them():
    error = exception.InstanceNotFound(instance_id="u1")

    assert str(error) == "Instance u1 could not be found."
    assert error.kwargs == {"instance_id": "u1", "code": 404}


def test_a_given_text_and_code_win():
    error = exception.Invalid("fake details", code=409)

    assert str(error) == "fake details"
    assert error.kwargs["code"] == 409


def test_a_missing_argument_leaves_the_raw_text(caplog):
    assert str(exception.HostNotFound()) == "Host %(host)s could not be found."
    assert "HostNotFound" in caplog.text


def test_a_missing_argument_is_an_error_where_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(exception.NovaException, "fatal_format_errors", True)

    with pytest.raises(KeyError):
        exception.HostNotFound()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_can_be_written_and_rebuilt(cls):
    try:
        raise cls(**dict.fromkeys(_arguments(cls), "x"))
    except exception.NovaException as error:
        written = driver_common.serialize_remote_exception((type(error), error, error.__traceback__))
        original = error

    rebuilt = driver_common.deserialize_remote_exception(written, ["nova_lite.exception"])

    assert isinstance(rebuilt, cls)
    assert rebuilt.kwargs["code"] == original.kwargs["code"]


def _arguments(cls):
    class Recorder(dict):
        def __missing__(self, key):
            self[key] = "x"
            return "x"

    if cls in (exception.RemoteError, exception.InstanceFaultRollback):
        return {}
    used = Recorder(timeout_s=1.0) if "timeout_s" in cls.msg_fmt else Recorder()
    try:
        _ = cls.msg_fmt % used
    except TypeError:
        return {"timeout_s": 1.0}
    return used


def test_classes_the_reference_does_not_know_are_announced_as_their_nearest_known_ancestor():
    assert exception.wire_class(exception.InvalidToken) is exception.NotFound
    assert exception.wire_class(exception.InstanceNotFound) is exception.InstanceNotFound
    assert exception.wire_class(exception.RpcTimeout) is exception.RpcTimeout
    assert exception.wire_class(ValueError) is ValueError


def test_a_remote_error_keeps_the_text_of_the_other_side():
    error = exception.RemoteError("test", "My Test Message")

    assert str(error).startswith("Remote error")
    assert error.kwargs["value"] == "My Test Message"
    assert error.kwargs["code"] == 500


def test_a_class_is_found_by_name_with_or_without_the_remote_suffix():
    assert exception.find("CellTimeout") is exception.CellTimeout
    assert exception.find("CellTimeout_Remote") is exception.CellTimeout
    assert exception.find("Nonsense") is None
