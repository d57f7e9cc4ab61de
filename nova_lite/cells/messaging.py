"""MessageRunner: what a cell can ask of other cells. Most of its methods come from the table of operations."""

import collections
import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.cells import (  # noqa: F401  (work fills the table)
    lean,
    messages,
    operations,
    routing,
    signing,
    utils,
    work,
)
from nova_lite.cells.build_orders import BuildOrders
from nova_lite.cells.deletions import Deletions
from nova_lite.cells.disputes import Disputes
from nova_lite.cells.healing import Healer
from nova_lite.cells.health import Health
from nova_lite.cells.heartbeats import Heartbeats
from nova_lite.cells.local import LocalCell
from nova_lite.cells.outbox import Outbox
from nova_lite.cells.place import Place
from nova_lite.cells.remote_exceptions import deserialize_remote_exception, serialize_remote_exception
from nova_lite.cells.replica import Replica
from nova_lite.cells.response import Response
from nova_lite.cells.skew import Skew
from nova_lite.cells.waiting import Wait, Waits
from nova_lite.context import RequestContext, get_admin_context

__all__ = ["MessageRunner", "Response", "deserialize_remote_exception", "serialize_remote_exception"]

LOG = logging.getLogger(__name__)

_MAX_REMEMBERED = 10_000
_MAX_SHOWN = 300  # of what strangers wrote


class _RecentlySeen:
    """The last uuids that came by; bounded."""

    def __init__(self, limit: int = _MAX_REMEMBERED):
        self._limit = limit
        self._seen: collections.OrderedDict[tuple, None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: tuple) -> bool:
        """Remember a key; False when it was there already."""
        with self._lock:
            if key in self._seen:
                return False
            self._seen[key] = None
            if len(self._seen) > self._limit:
                self._seen.popitem(last=False)
            return True


class _NoSuchMethod(AttributeError):
    """A message names an operation that is not in the table. Other cells see an AttributeError."""


@operations.runner_methods
class MessageRunner:
    """Sends and processes the messages of one `nova-cells` process."""

    def __init__(self, state_manager, services=None):
        self.services = services or state_manager.services
        self.state_manager = state_manager
        conf = self.services.conf
        self.our_name = conf.cells.name
        self.max_hop_count = conf.cells.max_hop_count
        self.msg_version = lean.VERSION if conf.cells.lean_messages else 1
        self.max_message_b = conf.cells.max_message_bytes
        self.max_part_b = conf.cells.answer_part_bytes
        self.forwards_tokens = conf.cells.forward_auth_tokens
        self.sends_tracebacks = conf.cells.send_tracebacks
        self.host = self.services.host
        self.clock = self.services.clock
        self.counts: collections.Counter[str] = collections.Counter()
        self.response_queues = Waits(self.clock)
        self._seen = _RecentlySeen()
        self._skew = Skew(self.clock)
        self._signatures = signing.Signatures(state_manager)
        self.scheduler = utils.load_class(conf.cells.scheduler)(self)
        self.cell = LocalCell(self)
        self.deletions = Deletions(self)
        self.disputes = Disputes(self)
        self.replica = Replica(self.services, self.counts, self.ask_for_snapshot, self.have_deleted,
                               self.disputes.note)
        self.healer = Healer(self)
        self.outbox = Outbox(self)
        self.place = Place(self)
        self.orders = BuildOrders(self)
        self.heartbeats = Heartbeats(self)
        self.health = Health(self)

    # -- messages

    def message_from_json(self, json_message):
        """Return the message in `json_message`, this cell added to its path.

        Raises KeyError for an unknown type, TypeError and ValueError for what is no message.
        """
        fields = json.loads(json_message)
        fields.pop("body", None)
        return self._message(fields)

    def message_from_lean(self, text: str):
        """Return the message in a lean text. Raises as message_from_json, and Invalid for a wrong signature."""
        fields = lean.read(text)
        self._signatures.check(text, fields["routing_path"])
        return self._message({**fields, "ctxt": None, "method_kwargs": None})

    def _message(self, fields: dict[str, Any]):
        cls = messages.MESSAGE_CLASSES[fields.pop("message_type")]
        fields.pop("run_locally", None)
        messages.check_fields(fields)
        return cls(self, received=True, **fields)

    @staticmethod
    def get_message_types():
        """Return the names of the message types; each has a server of its own."""
        return set(operations.MESSAGE_TYPES)

    def receive(self, text: str) -> None:
        """Process a message from a neighbour; refuse (count and log, without its body) what is none."""
        message = self.admitted(text)
        if message is not None:
            self.carry_out(message)

    def admitted(self, text: str):
        """Return the message in a text; None if it is refused: malformed, late, or a repetition."""
        message = self._accept(text)
        if message is None:
            return None
        LOG.debug("%s %s came by %s", message.message_type, message.method_name, message.routing_path)
        if message.deadline is not None and message.deadline <= self.clock.time():
            return self._refuse("expired", f"{message.method_name} from {message.routing_path} came after its deadline")
        if self.remember(message):
            return message
        self._refuse("duplicate", f"{message.method_name} came a second time by {message.routing_path}")
        if message.need_response and message.message_type == operations.BROADCAST:
            self._undisturbed(message, lambda: message._answer([], neighbour_only=True))
        return None

    def carry_out(self, message) -> None:
        """Process an admitted message."""
        self._undisturbed(message, message.process)

    def is_quick(self, message) -> bool:
        """Whether an admitted message can be carried out without a worker of its own: nothing in it takes time."""
        return self.state_manager.is_current and message.is_quick

    def _undisturbed(self, message, act: Callable[[], Any]) -> None:
        try:
            act()
        except exception.NovaException as error:
            # Answers that cannot be passed on: who waits for them will notice.
            self.counts["undeliverable"] += 1
            LOG.warning("Cannot pass on %s of %s: %s", message.method_name[:_MAX_SHOWN],
                        message.routing_path[:_MAX_SHOWN], str(error)[:_MAX_SHOWN])
        except Exception as error:  # edge: a message may be built so that anything fails
            LOG.debug("A message from %s failed", message.routing_path[:_MAX_SHOWN], exc_info=True)
            self._refuse("malformed", f"a message that cannot be processed ({type(error).__name__})")

    def _accept(self, text: str):
        if not isinstance(text, str) or len(text) > self.max_message_b:
            return self._refuse("malformed", "a message that is no text, or too long")
        try:
            message = (self.message_from_lean(text) if lean.is_lean(text)
                       else self.message_from_json(self._signatures.open(text)))
        except exception.NovaException as error:
            return self._refuse("unsigned", str(error))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            return self._refuse("malformed", f"a message that cannot be read ({type(error).__name__})")
        if message.came_from is not None:
            if message.deadline is not None and message.sent_at is not None and (
                    self.state_manager.is_neighbour(message.came_from)):
                message.deadline = self._skew.local_time(message.came_from, message.deadline, message.sent_at)
            self.state_manager.heard_from(message.came_from, message.direction, message.peer_version,
                                          message.object_versions)
        return message

    def _refuse(self, reason: str, text: str) -> None:
        self.counts[reason] += 1
        LOG.warning("Refused: %s", text[:_MAX_SHOWN])

    def remember(self, message) -> bool:
        """Note that a message was here; False when it had been before."""
        return self._seen.add((message.uuid, message.message_type, bool(message.fanout)))

    def seal(self, cell_state, text: str) -> str:
        """Return a message's text as it goes to a neighbour, signed where a key is shared with it."""
        return self._signatures.seal(cell_state, text)

    def context_of(self, message) -> RequestContext:
        """Return the context a received message brought, bound to this cell."""
        ctxt = RequestContext.from_dict(message.wire_ctxt).bind(self.services)
        ctxt.operation_id = message.uuid
        ctxt.deadline = message.deadline if message.need_response else None
        return ctxt

    def deadline_for(self, ctxt) -> float:
        """Return when to stop waiting (epoch seconds): before the caller does, or after call_timeout."""
        now_s = self.clock.time()
        limit_s = now_s + self.services.conf.cells.call_timeout
        asked = getattr(ctxt, "deadline", None)
        return min(limit_s, messages.with_margin(asked, now_s)) if asked else limit_s

    def _process_message_locally(self, message) -> Response:
        """Do the work of a message here; its result or its failure is the Response."""
        try:
            op = self._operation_of(message)
            value = op.work(self.cell, message, **self.cell.arguments(op, message))
        except Exception as error:  # edge: the failure is the answer
            self._log_failure(message, error)
            return Response(None, message.routing_path, sys.exc_info(), True)
        return Response(message.ctxt, message.routing_path, value, False)

    def _operation_of(self, message) -> operations.Operation:
        op = operations.registry.find(message.message_type, message.method_name)
        if op is None:
            self.counts["unknown_method"] += 1
            raise _NoSuchMethod(f"{message.message_type} messages have no method {message.method_name[:_MAX_SHOWN]}")
        return op

    def _log_failure(self, message, error: Exception) -> None:
        """What was to be expected gets one line, a surprise its traceback."""
        is_expected = isinstance(error, (exception.NovaException, _NoSuchMethod))
        LOG.warning("%s failed in %s: %s", message.method_name[:_MAX_SHOWN], message.routing_path[:_MAX_SHOWN],
                    str(error)[:_MAX_SHOWN], exc_info=None if is_expected else error)

    def is_given_up(self, neighbour) -> bool:
        """Whether a neighbour has told nothing of itself for so long that asking it is a waste of time.

        Never of a parent that tells nothing of itself anyway, as the reference's do.
        """
        if neighbour.db_info.get("is_parent") and not neighbour.has_spoken:
            return False
        return neighbour.is_silent(self.services.conf.cells.mute_child_interval)

    # -- waiting

    def _setup_response_queue(self, message, neighbours: Iterable[str] = ("",)) -> Wait:
        return self.response_queues.open(message.uuid, neighbours)

    def _put_response(self, response_uuid, response, neighbour: str | None = None, parts: int = 1) -> None:
        if not self.response_queues.put(response_uuid, neighbour, response, parts):
            self.counts["late_response"] += 1

    def _cleanup_response_queue(self, message) -> None:
        self.response_queues.close(message.uuid)

    def _create_response_message(self, ctxt, direction, target_cell, response_uuid, response_kwargs, **kwargs):
        """Return the message that brings answers back; it carries no credentials."""
        wire_ctxt = dict(ctxt if isinstance(ctxt, dict) else ctxt.to_dict())
        wire_ctxt.update(auth_token=None, service_catalog=[])
        return messages.ResponseMessage(self, wire_ctxt, "parse_responses", response_kwargs, direction, target_cell,
                                        response_uuid, received=True, **kwargs)

    # -- sending

    def send_targeted(self, ctxt, method: str, kwargs: dict[str, Any], direction: str, target_cell, **fields):
        """Send `method` to one cell: a path, a neighbour's or our own CellState. Returns its Response, if asked for.

        Raises CellRoutingInconsistency when no cell is given; every other failure is in the Response.
        """
        ctxt = self.bound(ctxt)
        return messages.TargetedMessage(self, ctxt, method, kwargs, direction, target_cell, **fields).process()

    def send_broadcast(self, ctxt, method: str, kwargs: dict[str, Any], direction: str, **fields):
        """Send `method` to all cells below or above. Returns a list of Responses, if asked for."""
        return messages.BroadcastMessage(self, self.bound(ctxt), method, kwargs, direction, **fields).process()

    def bound(self, ctxt):
        """Return the context, belonging to this cell if it belonged to none."""
        return ctxt if ctxt.is_bound else ctxt.bind(self.services)

    def _instance_action(self, ctxt, instance, method, extra_kwargs=None, need_response=False):
        cell_name = (instance["cell_name"] or "").removeprefix(routing.BLOCK_SYNC_FLAG)
        if not cell_name:
            LOG.warning("No cell is known for instance %s, %s is not sent", instance["uuid"], method)
            return None
        if method == "terminate_instance":
            self.deletions.ordered(self.bound(ctxt), instance["uuid"])
        return self.send_targeted(ctxt, method, {"instance": instance, **(extra_kwargs or {})}, routing.DOWN,
                                  cell_name, need_response=need_response)

    # -- neighbours

    def ask_children_for_capabilities(self, ctxt):
        """Ask every child to tell its capabilities."""
        for child in self.state_manager.get_child_cells():
            self.send_targeted(ctxt, "announce_capabilities", {}, routing.DOWN, child)

    def ask_children_for_capacities(self, ctxt):
        """Ask every child to tell its capacities."""
        for child in self.state_manager.get_child_cells():
            self.send_targeted(ctxt, "announce_capacities", {}, routing.DOWN, child)

    def tell_parents_our_capabilities(self, ctxt):
        """Tell all processes of every parent what this cell and its children offer."""
        parents = self.state_manager.get_parent_cells()
        if not parents:
            return
        ours = {name: sorted(values) for name, values in self.state_manager.get_our_capabilities().items()}
        self._tell_parents(ctxt, parents, "update_capabilities", {"capabilities": ours})

    def tell_parents_our_capacities(self, ctxt):
        """Tell all processes of every parent how much this cell and its children can hold."""
        parents = self.state_manager.get_parent_cells()
        if not parents:
            return
        ours = self.state_manager.get_our_capacities()
        self._tell_parents(ctxt, parents, "update_capacities", {"capacities": ours})

    def _tell_parents(self, ctxt, parents, method: str, kwargs: dict[str, Any]) -> None:
        for parent in parents:
            self.send_targeted(ctxt, method, {"cell_name": self.our_name, **kwargs}, routing.UP, parent, fanout=True)

    def admin_context(self) -> RequestContext:
        """Return an administrator's context of this cell."""
        return get_admin_context().bind(self.services)

    def lost(self, message, error: Exception) -> None:
        """A message nobody waits for cannot be sent on: a build is handed back, all else is only counted."""
        self.counts["lost"] += 1
        if message.method_name == "build_instances":
            self.scheduler.lost(message, error)

    def ask_for_snapshot(self, owner: str, uuid: str) -> None:
        """Have a cell tell all of an instance; if it cannot be asked, what is missing stays missing."""
        try:
            self.send_targeted(self.admin_context(), "send_snapshots", {"instance_uuids": [uuid]}, routing.DOWN, owner,
                               strict=True)
        except exception.NovaException as error:
            LOG.debug("Cell %s cannot be asked for instance %s: %s", owner, uuid, error)

    def have_deleted(self, owner: str, uuid: str) -> None:
        """Have a cell delete an instance that it should not have: one deleted here, or one that another cell has."""
        try:
            ctxt = self.admin_context()
            self.send_targeted(ctxt, "terminate_instance", {"instance": objects.Instance(ctxt, uuid=uuid)},
                               routing.DOWN, owner, strict=True)
        except exception.NovaException as error:
            LOG.warning("Cell %s cannot be told to delete instance %s: %s", owner, uuid, error)

    # -- operations whose route depends on their arguments

    def build_instances(self, ctxt, target_cell, build_inst_kwargs):
        """Have the cell `target_cell` (a path or a CellState) build the instances. Raises what sending raised.

        The scheduler tries the next cell when this raises.
        """
        return self.send_targeted(ctxt, "build_instances", {"build_inst_kwargs": build_inst_kwargs}, routing.DOWN,
                                  target_cell)

    def run_compute_api_method(self, ctxt, cell_name, method_info, call):
        """Run a method of the compute API in a cell; return its Response if `call`, else None."""
        return self.send_targeted(ctxt, "run_compute_api_method", {"method_info": method_info}, routing.DOWN,
                                  cell_name, need_response=call)

    def proxy_rpc_to_manager(self, ctxt, cell_name, host_name, topic, rpc_message, call, timeout):
        """Pass an RPC message on to a host of another cell; return its Response if `call`, else None."""
        kwargs = {"host_name": host_name, "topic": topic, "rpc_message": rpc_message, "timeout": timeout}
        return self.send_targeted(ctxt, "proxy_rpc_to_manager", kwargs, routing.DOWN, cell_name, need_response=call)

    def stop_instance(self, ctxt, instance, do_cast=True, clean_shutdown=True):
        """Stop an instance; unless `do_cast`, wait and return the Response."""
        return self._instance_action(ctxt, instance, "stop_instance", {"clean_shutdown": clean_shutdown},
                                     need_response=not do_cast)

    def service_delete(self, ctxt, cell_name, service_id):
        """Delete a service record in another cell. Raises what went wrong there."""
        self.send_targeted(ctxt, "service_delete", {"service_id": service_id}, routing.DOWN, cell_name,
                           need_response=True).value_or_raise()

    def task_log_get_all(self, ctxt, cell_name, task_name, period_beginning, period_ending, host=None, state=None):
        """Return [Response] with task log rows of one cell, or of every cell when no `cell_name` is given."""
        kwargs = {"task_name": task_name, "period_beginning": period_beginning, "period_ending": period_ending,
                  "host": host, "state": state}
        if cell_name:
            return [self.send_targeted(ctxt, "task_log_get_all", kwargs, routing.DOWN, cell_name, need_response=True)]
        return self.send_broadcast(ctxt, "task_log_get_all", kwargs, routing.DOWN, need_response=True)

    def get_migrations(self, ctxt, cell_name, run_locally, filters):
        """Return [Response] with migrations of one cell or of all; [] for a cell that does not exist."""
        kwargs = {"filters": filters}
        if not cell_name:
            return self.send_broadcast(ctxt, "get_migrations", kwargs, routing.DOWN, need_response=True,
                                       run_locally=run_locally)
        response = self.send_targeted(ctxt, "get_migrations", kwargs, routing.DOWN, cell_name, need_response=True)
        return [] if isinstance(response.error, exception.CellRoutingInconsistency) else [response]
