import json
import sys

import pytest

from nova_lite import exception
from nova_lite.cells import messaging
from nova_lite.cells.remote_exceptions import deserialize_remote_exception, serialize_remote_exception

ALLOWED = ["nova_lite.exception"]


def exc_info_of(error):
    try:
        raise error
    except type(error):
        return sys.exc_info()


def travelled(error):
    return deserialize_remote_exception(serialize_remote_exception(exc_info_of(error), log_failure=False), ALLOWED)


def test_an_exception_is_written_under_the_name_the_reference_knows():
    text = serialize_remote_exception(exc_info_of(exception.InstanceNotFound(instance_id="u1")), log_failure=False)

    wire = json.loads(text)
    assert (wire["class"], wire["module"]) == ("InstanceNotFound", "nova.exception")
    assert wire["kwargs"] == {"instance_id": "u1", "code": 404}
    assert wire["message"] == wire["args"][0]
    assert wire["tb"][0].startswith("Traceback")


def test_a_known_exception_comes_back_as_its_class_with_the_remote_traceback_in_its_text():
    error = travelled(exception.CellNotFound(cell_name="east"))

    assert isinstance(error, exception.CellNotFound)
    assert error.kwargs["cell_name"] == "east"
    assert "east" in str(error)
    assert "Traceback" in str(error)
    assert type(error).__name__ == "CellNotFound_Remote"


def test_an_exception_that_travels_twice_has_one_suffix():
    error = travelled(travelled(exception.CellNotFound(cell_name="east")))

    assert type(error).__name__ == "CellNotFound_Remote"
    assert type(error).__module__ == "nova_lite.exception_Remote"


def test_a_built_in_exception_keeps_its_class_and_carries_the_text():
    error = travelled(ValueError("no such disk"))

    assert type(error) is ValueError
    assert "no such disk" in str(error)
    assert "Traceback" in str(error)


@pytest.mark.parametrize("module", ["exceptions", "builtins"])
def test_both_names_of_the_module_of_built_in_exceptions_are_understood(module):
    data = json.dumps({"class": "KeyError", "module": module, "message": "x", "tb": [], "args": ["x"], "kwargs": {}})

    assert isinstance(deserialize_remote_exception(data, ALLOWED), KeyError)


@pytest.mark.parametrize(("class_name", "module"), [
    ("system", "os"), ("InstanceNotFound", "nova.virt"), ("NoSuchThing", "nova.exception"), ("open", "builtins"),
    ("SystemExit", "builtins"), ("LOG", "nova_lite.exception")])
def test_D19e_nothing_but_registered_exception_classes_is_built(class_name, module):
    data = json.dumps({"class": class_name, "module": module, "message": "text", "tb": ["frame"], "args": [],
                       "kwargs": {}})

    error = deserialize_remote_exception(data, ALLOWED)

    assert isinstance(error, exception.RemoteError)
    assert error.exc_type == class_name
    assert error.value == "text"


def test_arguments_that_do_not_fit_make_a_remote_error():
    data = json.dumps({"class": "ValueError", "module": "builtins", "message": "m", "tb": [], "args": [],
                       "kwargs": {"unheard": 1}})

    assert isinstance(deserialize_remote_exception(data, ALLOWED), exception.RemoteError)


def test_a_class_the_reference_lacks_travels_under_our_own_module():
    error = exception.CellsOperationUnsupported(operation="greet")

    wire = json.loads(serialize_remote_exception(exc_info_of(error), log_failure=False))

    assert wire["module"] == "nova_lite.exception"
    assert isinstance(travelled(error), exception.CellsOperationUnsupported)


def test_arguments_that_are_no_json_are_written_as_text():
    wire = json.loads(serialize_remote_exception(exc_info_of(ValueError({1, 2}, object)), log_failure=False))

    assert wire["args"][0] == [1, 2]


def test_the_public_module_offers_both_functions():
    assert messaging.serialize_remote_exception is serialize_remote_exception
    assert messaging.deserialize_remote_exception is deserialize_remote_exception
