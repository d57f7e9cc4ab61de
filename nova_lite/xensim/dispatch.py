"""From a method name and raw parameters to an encoded reply: the order of checks is XenServer's."""

import dataclasses
import logging
import threading
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.call_log import masked
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.faults import Fault, Occasion
from nova_lite.xensim.http import DropConnection
from nova_lite.xensim.model import NULL, REQUIRED, Call, Type
from nova_lite.xensim.noun import Caller, Implementation, Noun
from nova_lite.xensim.values import Reader
from nova_lite.xensim.wire import XmlWire

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

LOG = logging.getLogger(__name__)
TASK = Type("ref", "task")
NAMES = Type("set", inner=(Type("string"),))


class Dispatcher:
    """Runs calls. Everything runs under the tables' lock; what waits gives it up meanwhile."""

    def __init__(self, toolstack: "Toolstack", nouns: list[Noun]):
        self._toolstack = toolstack
        self._schema = toolstack.schema
        self._db = toolstack.db
        self._faults = toolstack.faults
        self._reader = Reader(toolstack.schema)
        self._generic = toolstack.generic
        self._xml = XmlWire(toolstack.schema)
        self.implementations: dict[str, Implementation] = {}
        for noun in nouns:
            self.implementations.update(noun.implementations())

    def answer(self, name: str, parameters: list[Any], wire: Any, caller: Caller) -> bytes:
        """Run one request and return the encoded reply. Raises DropConnection when a fault swallows the reply."""
        started, result = self._faults.record(name), "Success"
        try:
            if name == "system.listMethods":
                return wire.bare(NAMES, sorted(self._schema.calls))
            if name.startswith("system.isAlive:"):
                return wire.result(Type("string"), str(parameters[0]) if parameters else "")
            with self._db.lock:
                try:
                    type_, value = self._dispatch(name, parameters, caller)
                finally:
                    self._db.flush()
                return wire.result(type_, value)
        except ApiError as error:
            result = error.code
            return wire.failure(error.description)
        except DropConnection:
            result = "no reply"
            raise
        except Exception as error:  # the edge: XenServer answers what nobody foresaw with INTERNAL_ERROR
            LOG.exception("call %s failed unexpectedly", name)
            result = "INTERNAL_ERROR"
            return wire.failure(internal_error(f"{type(error).__name__}: {error}").description)
        finally:
            self._faults.log.end(name, masked(parameters, self._described(name)), started, result)

    def _described(self, name: str) -> Call | None:
        plain = name.removeprefix("Async.")
        described = self._schema.calls.get(plain)
        if described is None and plain is name and "." not in plain:
            described = self._schema.calls.get(plain.replace("_", ".", 1))
        return described

    def _dispatch(self, name: str, parameters: list[Any], caller: Caller) -> tuple[Type, Any]:
        described, is_async = self._look_up(name, parameters, caller)
        if described is None:
            return self._extension(name, parameters, caller)
        self._check_count(name, described, parameters)
        own = parameters[1:] if described.needs_session else parameters
        if described.needs_session and not isinstance(parameters[0], str):
            raise internal_error("Rpc.Runtime_error: expected the session as a string")
        arguments = self._reader.arguments(described, own)
        if described.needs_session:
            caller.session_ref = parameters[0]
            self._toolstack.sessions.check(caller, described)
        faults = self._strike(described, arguments, caller)
        if is_async:
            return TASK, self._start_task(name, described, arguments, caller, faults)
        if described.is_removed:
            raise ApiError("MESSAGE_REMOVED")
        return described.result, self.execute(described, arguments, caller, faults)

    def _strike(self, described: Call, arguments: list[Any], caller: Caller) -> list[Fault]:
        """Return the faults that the call meets. Raises DropConnection when it gets lost on its way."""
        if not self._faults.is_armed:
            return []
        concerned = [each for each in arguments if isinstance(each, str)]
        subject = self._db.tables.get(described.class_name, {}).get(concerned[0]) if concerned else None
        if subject:
            concerned += [str(subject.values.get(field, "")) for field in ("uuid", "name_label")]
        session = self._db.find("session", caller.session_ref)
        names = [session.ref, session["originator"], session["auth_user_name"]] if session else []
        struck = self._faults.strike(Occasion(described.full_name, concerned, names))
        if any(fault.kind == "drop" for fault in struck):
            raise DropConnection
        return struck

    def _extension(self, name: str, parameters: list[Any], caller: Caller) -> tuple[Type, Any]:
        if not caller.is_superuser:
            raise ApiError("RBAC_PERMISSION_DENIED", name, "Extensions are for the local superuser")
        value = self._toolstack.extensions.run(name, parameters, caller.host_ref)
        return (Type("record"), value) if isinstance(value, dict) else (Type("string"), str(value))

    def _look_up(self, name: str, parameters: list[Any], caller: Caller) -> tuple[Call | None, bool]:
        """Return the call and whether it is asynchronous; None when only an extension may know it."""
        is_async, described = name.startswith("Async."), self._described(name)
        if described is None:
            if not parameters or not isinstance(parameters[0], str):
                raise ApiError("MESSAGE_METHOD_UNKNOWN", name)
            caller.session_ref = parameters[0]
            self._toolstack.sessions.check(caller, None)
            return None, False
        if is_async and not described.is_async:
            raise ApiError("Fault", f"{name} has no asynchronous form")
        return described, is_async

    def _check_count(self, name: str, described: Call, parameters: list[Any]) -> None:
        received = len(parameters) - described.needs_session
        has_defaults = any(parameter.default is not REQUIRED for parameter in described.parameters)
        too_many = received > len(described.parameters) and not has_defaults
        if received < described.required_count or too_many:
            expected = str(described.required_count)
            raise ApiError("MESSAGE_PARAMETER_COUNT_MISMATCH", name, expected, str(max(received, 0)))

    def execute(self, described: Call, arguments: list[Any], caller: Caller, faults: Sequence[Fault] = ()) -> Any:
        """Do the work of a call, planted faults included. Raises ApiError."""
        if not caller.is_superuser:
            self._toolstack.roles.check(caller, described)
        if described.is_pool_internal:
            self._toolstack.roles.check_pool_internal(caller, described)
        for fault in faults:
            if fault.kind == "error":
                raise ApiError(*fault.error)
        delay = self._faults.latency.of(described.full_name)
        delay += sum(fault.seconds for fault in faults if fault.kind == "delay")
        try:
            value = self._work(described, arguments, caller, delay)
        finally:
            self._toolstack.operations.refresh()
        for fault in faults:
            if fault.kind == "error_after":
                raise ApiError(*fault.error)
            if fault.kind == "lose_reply":
                raise DropConnection
        return value

    def _work(self, described: Call, arguments: list[Any], caller: Caller, delay: float) -> Any:
        implementation = self.implementations.get(described.full_name)
        if implementation and implementation.operation:
            subject = self._toolstack.pool_ref if described.class_name == "pool" else arguments[0]
            with self._toolstack.operations.recorded(described.class_name, subject, implementation.operation, caller):
                self._toolstack.linger(delay, caller)
                return implementation.function(caller, *arguments)
        self._toolstack.linger(delay, caller)
        if implementation:
            return implementation.function(caller, *arguments)
        if described.generic[0] and described.generic[0] not in ("create", "destroy"):
            return self._generic.run(described, arguments)
        raise ApiError("NOT_IMPLEMENTED", described.full_name)

    def _start_task(self, name, described: Call, arguments: list[Any], caller: Caller, faults: list[Fault]) -> str:
        task_ref = self._toolstack.tasks.begin(name, caller)
        own = dataclasses.replace(caller, task_ref=task_ref)
        threading.Thread(
            target=self._run_task, args=(described, arguments, own, faults), name="xensim-task", daemon=True
        ).start()
        return task_ref

    def _run_task(self, described: Call, arguments: list[Any], caller: Caller, faults: list[Fault]) -> None:
        tasks = self._toolstack.tasks
        with self._db.lock:
            try:
                if described.is_removed:
                    raise ApiError("MESSAGE_REMOVED")
                value = self.execute(described, arguments, caller, faults)
                result = "" if described.result.kind == "void" else self._xml.value(described.result, value)
            except ApiError as error:
                tasks.fail(caller.task_ref, error.description)
            except DropConnection:
                tasks.abandon(caller.task_ref)
            except Exception as error:  # the edge of the task's thread
                LOG.exception("task %s failed unexpectedly", described.full_name)
                tasks.fail(caller.task_ref, internal_error(f"{type(error).__name__}: {error}").description)
            else:
                self._db.flush()
                tasks.succeed(caller.task_ref, result)


def unlisted_task() -> str:
    """Return a reference for the task of a synchronous call, which is not in the tables."""
    return f"OpaqueRef:{uuid.uuid4()}"


def is_null(ref: str) -> bool:
    return ref in ("", NULL)
