"""The simulator's data: consistent in itself, and the same as XenAPI's data model where that is at hand."""

import inspect
import json
import os
import pathlib
import re

import pytest

from nova_lite.xensim.model import REQUIRED, Schema, Type
from nova_lite.xensim.toolstack import Toolstack

MODEL = os.environ.get("NOVA_LITE_XENAPI_MODEL")


@pytest.fixture(scope="module")
def schema():
    return Schema()


@pytest.fixture(scope="module")
def implementations(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("xensim"))
    toolstack = Toolstack(directory, username="", password="")
    yield toolstack.dispatcher.implementations
    toolstack.stop()


def test_every_implementation_belongs_to_a_call_and_takes_its_parameters(schema, implementations):
    complaints = []
    for name, implementation in implementations.items():
        wanted = 1 + len(schema.calls[name].parameters)
        parameters = inspect.signature(implementation.function).parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
        if len(parameters) != wanted and not takes_any:
            complaints.append(f"{name}: {len(parameters)} parameters, {wanted} expected")

    assert not complaints


def test_every_call_has_an_implementation_or_follows_from_a_field(schema, implementations):
    refused = [
        name
        for name, described in schema.calls.items()
        if name not in implementations
        and not described.is_removed
        and described.generic[0] in ("", "create", "destroy")
    ]

    assert refused == []


def test_every_operation_that_a_call_records_is_a_member_of_its_enumeration(schema, implementations):
    for name, implementation in implementations.items():
        if implementation.operation:
            operations = schema.classes[schema.calls[name].class_name].fields["current_operations"].type.inner[1]
            assert implementation.operation in schema.enums[operations.name].values(), name


def test_every_relation_joins_fields_that_exist(schema):
    for (class_name, field), (target, inverse) in schema.relations.items():
        assert field in schema.classes[class_name].fields
        assert inverse in schema.classes[target].fields


def described(type_: Type) -> str:
    """Return a type as the model file writes it."""
    inner = [described(each) for each in type_.inner]
    if type_.kind == "set":
        return f"set({inner[0]})"
    if type_.kind == "map":
        return f"map({inner[0]},{inner[1]})"
    return f"{type_.kind} {type_.name}" if type_.name else type_.kind


@pytest.fixture(scope="module")
def model():
    if not MODEL:
        pytest.skip("NOVA_LITE_XENAPI_MODEL names no file")
    return json.loads(pathlib.Path(MODEL).read_text())


def test_fields_are_those_of_the_model(schema, model):
    qualifiers = {"RO": "ro", "RW": "rw", "StaticRO": "st"}
    for name, known in schema.classes.items():
        theirs = model["classes"][name]["fields"]
        assert set(known.fields) == set(theirs), name
        for field in known.fields.values():
            wanted = theirs[field.name]
            default = REQUIRED if field.default is REQUIRED else field.default
            assert (described(field.type), field.qualifier) == (wanted["t"], qualifiers[wanted["q"]]), field.name
            assert default is REQUIRED if "d" not in wanted else default == wanted["d"], field.name
            assert field.is_internal == wanted.get("internal", False), field.name


def test_generic_calls_are_those_of_the_model(schema, model):
    for name, known in schema.classes.items():
        theirs = model["classes"][name]
        assert set(theirs["implicit"]) | set(theirs["messages"]) >= set(known.calls), name
        assert set(theirs["implicit"]) <= set(known.calls), name


def test_parameters_and_results_are_those_of_the_model(schema, model):
    for name, known in schema.classes.items():
        for call_name, theirs in model["classes"][name]["messages"].items():
            if call_name not in known.calls:
                continue
            call = known.calls[call_name]
            ours = [(parameter.name, described(parameter.type)) for parameter in call.parameters]
            assert ours == [(parameter[0], parameter[1]) for parameter in theirs["p"]], call.full_name
            required = sum(len(parameter) == 2 for parameter in theirs["p"])
            assert call.required_count == required, call.full_name
            assert described(call.result) == theirs.get("r", "void"), call.full_name
            no_async = name in model["meta"]["no_async_classes"] or theirs.get("async") is False
            assert call.is_async != no_async, call.full_name


def test_public_calls_of_the_model_are_all_known(schema, model):
    missing = [
        f"{name}.{call_name}"
        for name in schema.classes
        for call_name, theirs in model["classes"][name]["messages"].items()
        if not theirs.get("hidden") and not theirs.get("pool_internal") and call_name not in schema.classes[name].calls
    ]

    assert not missing


def test_error_arguments_are_those_of_the_model(schema, model):
    own = {"ONLY_PROVISION_TEMPLATE", "ONLY_REVERT_SNAPSHOT"}  # raised by XenServer, not declared
    for code, arguments in schema.errors.items():
        if code not in own:
            theirs = model["errors"][code]
            assert (len(arguments) == len(theirs)) if theirs is not None else arguments == ["*"], code


def test_enumerations_and_relations_are_those_of_the_model(schema, model):
    for name, members in schema.enums.items():
        assert list(members.values()) == model["enums"][name], name
    theirs = {((a, b), (c, d)) for a, b, c, d in model["relations"]}
    assert set(schema.relations.items()) <= theirs


def test_roles_are_those_of_the_model(schema, model):
    for name, known in schema.classes.items():
        for call_name, theirs in model["classes"][name]["messages"].items():
            if call_name in known.calls and "role" in theirs:
                assert schema.roles[f"{name}.{call_name}"] == theirs["role"], f"{name}.{call_name}"


def test_every_error_that_is_raised_is_declared(schema):
    """Backend failures are numbered by the storage drivers; plugins have codes of their own."""
    source = pathlib.Path(inspect.getfile(Toolstack)).parent
    raised = {
        code for file in source.glob("*.py") for code in re.findall(r'ApiError\(\s*"([A-Z][A-Z_]+)"', file.read_text())
    }

    assert raised - set(schema.errors) == set()
