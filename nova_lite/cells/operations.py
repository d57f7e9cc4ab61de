"""The table of cell operations, and the faces that are made from it.

An operation is declared once, by decorating the function that does its work in the target cell:

    @operation(Route.INSTANCE_CELL, since="1.14", client="(ctxt, instance, block_device_info, reboot_type)")
    def reboot_instance(cell, message, instance, reboot_type): ...

`cell` is the LocalCell the message arrived in, `message` the message, the rest are the message's
method_kwargs. From the declaration MessageRunner, CellsManager and CellsAPI get a method each, with its true
signature and docstring; a method that a class defines itself wins. Keyword-only parameters are additions the
reference does not know: they travel only when they differ from their default.

`python -m nova_lite.cells.operations` prints the table.
"""

import ast
import enum
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TARGETED = "targeted"
BROADCAST = "broadcast"
RESPONSE = "response"
MESSAGE_TYPES = frozenset((TARGETED, BROADCAST, RESPONSE))

_FIXED = ("cell", "message")
_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_SELF = inspect.Parameter("self", _POSITIONAL)
_CTXT = inspect.Parameter("ctxt", _POSITIONAL)


class Route(enum.Enum):
    """Where an operation's work is done."""

    INSTANCE_CELL = "the instance's cell"
    NAMED_CELL = "a named cell"
    EVERY_CELL = "every cell below"
    TOP = "the top, by way of every cell above"
    NEIGHBOUR = "a neighbour, or a cell the scheduler chose"
    ORIGIN = "the cell that waits for the answer"


_TYPES_BY_ROUTE = {
    Route.INSTANCE_CELL: (TARGETED,), Route.NAMED_CELL: (TARGETED,), Route.NEIGHBOUR: (TARGETED,),
    Route.EVERY_CELL: (BROADCAST,), Route.TOP: (BROADCAST,), Route.ORIGIN: (RESPONSE,),
}


@dataclass(frozen=True, eq=False)
class Operation:
    """One row of the table."""

    name: str
    work: Callable[..., Any]
    route: Route
    replies: bool
    runs_locally: bool
    message_types: tuple[str, ...]
    since: str | None
    client: str | None
    sends: Mapping[str, str]
    item: tuple[str, str] | None
    own: bool
    for_reference: Callable[[dict], dict] | None
    parameters: tuple[inspect.Parameter, ...] = field(repr=False)

    def wire_kwargs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the method_kwargs to send: all the reference knows, and ours where they say something."""
        return {p.name: values[p.name] for p in self.parameters
                if p.kind is not p.KEYWORD_ONLY or values.get(p.name, p.default) != p.default}

    def accepted(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a message's kwargs that the work takes; a newer peer may send more."""
        known = {p.name for p in self.parameters}
        return {name: value for name, value in kwargs.items() if name in known}


class Registry:
    """Operations by message type and name, in the order of their declaration."""

    def __init__(self):
        self._by_key: dict[tuple[str, str], Operation] = {}

    def add(self, op: Operation) -> None:
        for message_type in op.message_types:
            if (message_type, op.name) in self._by_key:
                raise ValueError(f"operation {op.name} is declared twice for {message_type} messages")
            self._by_key[message_type, op.name] = op

    def find(self, message_type: str, name: str) -> Operation | None:
        return self._by_key.get((message_type, name))

    def get(self, name: str) -> Operation:
        """Return the operation of this name. Raises KeyError."""
        for op in self:
            if op.name == name:
                return op
        raise KeyError(name)

    def __iter__(self) -> Iterator[Operation]:
        return iter(dict.fromkeys(self._by_key.values()))


registry = Registry()


def operation(route: Route, *, replies: bool = False, runs_locally: bool = False, since: str | None = None,
              client: str | None = None, sends: Mapping[str, str] | None = None,
              item: tuple[str, str] | None = None, also: str | None = None, own: bool = False,
              for_reference: Callable[[dict], dict] | None = None) -> Callable:
    """Declare the decorated function as the work of the operation that bears its name.

    replies        the caller waits for what the work returns
    runs_locally   a broadcast acts in the cell it starts from, too
    since          version of the local RPC API that brought it (None: the cells client does not offer it so)
    client         signature of the client's method where it differs
    sends          {argument sent: parameter of the client's method} where the names differ
    item           (manager's parameter 'path@item', parameter that gets the item)
    also           a second message type it may arrive in
    own            an addition of ours: never sent to a reference neighbour
    for_reference  returns the method_kwargs as a reference neighbour understands them
    """
    def declare(work: Callable) -> Callable:
        every = tuple(inspect.signature(work).parameters.values())
        parameters = tuple(p for p in every if p.name not in _FIXED and p.kind is not p.VAR_KEYWORD)
        registry.add(Operation(
            name=work.__name__, work=work, route=route, replies=replies, runs_locally=runs_locally,
            message_types=_TYPES_BY_ROUTE[route] + ((also,) if also else ()), since=since, client=client,
            sends=sends or {}, item=item, own=own, for_reference=for_reference, parameters=parameters))
        return work
    return declare


def runner_methods(cls: type) -> type:
    """Give a class MessageRunner's methods of all operations that can be sent without further thought."""
    senders = {Route.INSTANCE_CELL: _send_to_instance, Route.NAMED_CELL: _send_to_named,
               Route.EVERY_CELL: _send_broadcast, Route.TOP: _send_broadcast}
    for op in registry:
        if op.route in senders:
            lead = (_parameter("cell_name"),) if op.route is Route.NAMED_CELL else ()
            _install(cls, op, _signature(lead + op.parameters), senders[op.route])
    return _documented(cls)


def manager_methods(cls: type) -> type:
    """Give a class CellsManager's methods of all public operations."""
    for op in registry:
        if op.own or op.route in (Route.NEIGHBOUR, Route.ORIGIN):
            continue
        _install(cls, op, _signature(_manager_parameters(op)), _manage)
    return _documented(cls)


def client_methods(cls: type) -> type:
    """Give a class CellsAPI's methods of all operations with a version."""
    for op in registry:
        if op.since:
            signature = parse_signature(op.client) if op.client else _signature(_manager_parameters(op))
            _install(cls, op, signature, _cast_or_call)
    return _documented(cls)


def parse_signature(text: str) -> inspect.Signature:
    """Return the Signature, self in front, of a text such as '(ctxt, name, clean_shutdown=True)'."""
    function = ast.parse(f"def f{text}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    gap = [inspect.Parameter.empty] * (len(arguments.args) - len(arguments.defaults))
    defaults = gap + [ast.literal_eval(default) for default in arguments.defaults]
    found = [_parameter(a.arg, default) for a, default in zip(arguments.args, defaults, strict=True)]
    return inspect.Signature([_SELF, *found])


def _parameter(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, _POSITIONAL, default=default)


def _signature(parameters: tuple[inspect.Parameter, ...]) -> inspect.Signature:
    plain = [p.replace(annotation=p.empty) for p in parameters]
    return inspect.Signature([_SELF, _CTXT, *plain])


def _manager_parameters(op: Operation) -> tuple[inspect.Parameter, ...]:
    parameters = tuple(p for p in op.parameters if p.kind is not p.KEYWORD_ONLY)
    if op.route is not Route.NAMED_CELL:
        return parameters
    if op.item is None:
        return (_parameter("cell_name"), *parameters)
    public, item = op.item
    return tuple(p.replace(name=public) if p.name == item else p for p in parameters)


def _documented(cls: type) -> type:
    """Have methods written by hand say what their operation does, unless they say something of their own."""
    for op in registry:
        method = vars(cls).get(op.name)
        if method is not None:
            method.__doc__ = method.__doc__ or op.work.__doc__
    return cls


def _install(cls: type, op: Operation, signature: inspect.Signature, body: Callable) -> None:
    if op.name in vars(cls):
        return

    @functools.wraps(op.work)
    def method(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        (_, _), (_, ctxt), *others = bound.arguments.items()
        return body(self, op, ctxt, dict(others))

    del method.__wrapped__
    setattr(method, "__signature__", signature)  # noqa: B010  (a function has no such attribute of its own)
    method.__qualname__ = f"{cls.__qualname__}.{op.name}"
    method.__module__ = cls.__module__
    setattr(cls, op.name, method)


def _send_to_instance(runner, op: Operation, ctxt, values: dict) -> Any:
    kwargs = op.wire_kwargs(values)
    return runner._instance_action(ctxt, kwargs.pop("instance"), op.name, kwargs, need_response=op.replies)


def _send_to_named(runner, op: Operation, ctxt, values: dict) -> Any:
    target_cell = values.pop("cell_name")
    return runner.send_targeted(ctxt, op.name, op.wire_kwargs(values), "down", target_cell,
                                need_response=op.replies)


def _send_broadcast(runner, op: Operation, ctxt, values: dict) -> Any:
    direction = "up" if op.route is Route.TOP else "down"
    return runner.send_broadcast(ctxt, op.name, op.wire_kwargs(values), direction, need_response=op.replies,
                                 run_locally=op.runs_locally)


def _manage(manager, op: Operation, ctxt, values: dict) -> Any:
    if op.item:
        public, item = op.item
        values["cell_name"], values[item] = manager.split_item(values.pop(public))
    answer = getattr(manager.msg_runner, op.name)(ctxt, **values)
    return answer.value_or_raise() if op.replies else None


def _cast_or_call(client, op: Operation, ctxt, values: dict) -> Any:
    kwargs = {p.name: values[op.sends.get(p.name, p.name)] for p in _manager_parameters(op)}
    send = client.call if op.replies else client.cast
    return send(ctxt, op.name, op.since, **kwargs)


def print_table() -> None:
    """Print one line an operation: name, route, reply, message types, client version, parameters."""
    for op in sorted(registry, key=lambda op: op.name):
        reply = "replies" if op.replies else "-"
        since = op.since or ("own" if op.own else "-")
        shown = ", ".join(str(p.replace(annotation=p.empty)) for p in op.parameters)
        print(f"{op.name:32} {op.route.value:44} {reply:8} {'+'.join(op.message_types):19} {since:5} ({shown})")


if __name__ == "__main__":
    # Run as a script this file is `__main__`; the registry that the declarations fill is the module's.
    from nova_lite.cells import operations, work  # noqa: F401

    operations.print_table()
