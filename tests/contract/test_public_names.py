"""Public classes and functions take the reference's parameters: same names, same order, same defaults."""

import importlib
import inspect
import json
import pathlib

import pytest

SIGNATURES = pathlib.Path(__file__).parent / "data" / "api"
OPTIONAL_KINDS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def public_names():
    """Yield (module, name in it, signature text) of everything the reference has."""
    for path in sorted(SIGNATURES.glob("*.json")):
        for module, members in json.loads(path.read_text()).items():
            for holder, value in members.items():
                prefix = "" if holder == "functions" else f"{holder}."
                if isinstance(value, str):
                    yield module, holder, value
                else:
                    yield from ((module, prefix + name, text) for name, text in value.items())


def find(module, dotted):
    """Return what a name in a module stands for, and whether its first parameter is the object itself."""
    *holders, name = dotted.split(".")
    holder = importlib.import_module(module)
    for part in holders:
        holder = getattr(holder, part)
    is_bound = inspect.isclass(holder) and not isinstance(inspect.getattr_static(holder, name), staticmethod)
    return getattr(holder, name), is_bound


def parameters_of(text):
    return list(inspect.signature(eval(f"lambda {text[1:-1]}: None")).parameters.values())


@pytest.mark.parametrize(("module", "dotted", "text"), list(public_names()))
def test_a_public_name_takes_what_the_reference_takes(module, dotted, text):
    found, is_bound = find(module, dotted)
    actual = list(inspect.signature(found).parameters.values())
    if is_bound and actual and actual[0].name in ("self", "cls"):
        del actual[0]
    wanted = parameters_of(text)

    named = [(one.name, one.default) for one in wanted if one.kind not in OPTIONAL_KINDS]
    assert [(one.name, one.default) for one in actual[: len(named)]] == named
    assert {one.kind for one in wanted} & set(OPTIONAL_KINDS) <= {one.kind for one in actual}
    for one in actual[len(named) :]:
        assert one.kind in OPTIONAL_KINDS or one.default is not one.empty, f"{one.name} is asked for besides"
