"""Between neighbours: what a cell can do, how much it can hold, where it is in the tree, who waits for answers."""

from typing import Any

from nova_lite import exception
from nova_lite.cells import lean, reports, routing
from nova_lite.cells.operations import Route, operation


def _check_speaker(message, cell_name: str) -> None:
    """Raise Invalid for a report that a cell makes in another's name."""
    if message.came_from not in (None, cell_name):
        raise exception.Invalid(f"Cell {message.came_from} cannot tell of cell {cell_name!r}")


@operation(Route.NEIGHBOUR)
def build_instances(cell, message, build_inst_kwargs):
    """Choose a cell, this one or a child, for new instances, and have them built there."""
    cell.runner.scheduler.build_instances(message, build_inst_kwargs)


@operation(Route.NEIGHBOUR)
def update_capabilities(cell, message, cell_name, capabilities):
    """A child tells what it offers; our own parents hear of it at once."""
    _check_speaker(message, cell_name)
    cell.state.update_cell_capabilities(cell_name, reports.checked_capabilities(capabilities))
    cell.runner.place.greet(message.ctxt, message.came_from)
    cell.runner.tell_parents_our_capabilities(message.ctxt)


@operation(Route.NEIGHBOUR)
def update_capacities(cell, message, cell_name, capacities):
    """A child tells how much it can hold; our own parents hear of it at once."""
    _check_speaker(message, cell_name)
    cell.state.update_cell_capacities(cell_name, reports.checked_capacities(capacities))
    cell.runner.tell_parents_our_capacities(message.ctxt)


@operation(Route.NEIGHBOUR)
def announce_capabilities(cell, message):
    """A parent wants to know what this cell offers."""
    cell.runner.tell_parents_our_capabilities(message.ctxt)


@operation(Route.NEIGHBOUR)
def announce_capacities(cell, message):
    """A parent wants to know how much this cell can hold."""
    cell.runner.tell_parents_our_capacities(message.ctxt)


@operation(Route.NEIGHBOUR, own=True)
def greet(cell, message, full_name):
    """A parent of our kind tells its full name, so that this cell knows its own and the way to the top."""
    cell.runner.place.greeted(message.ctxt, message.came_from, full_name)


@operation(Route.NEIGHBOUR, own=True)
def heartbeat(cell, message, load, sent_at_s):
    """A child is there and tells what waits in it; or a parent answers our own beat."""
    cell.runner.heartbeats.heard(message, load, sent_at_s)


@operation(Route.NEIGHBOUR, own=True)
def build_failed(cell, message, instance_uuids, reason, cells_tried):
    """A child could not build instances that this cell had sent it: try the next cell, or give up."""
    cell.runner.scheduler.build_failed(message, instance_uuids, reason, cells_tried)


@operation(Route.NAMED_CELL, own=True)
def build_here(cell, message, build_inst_kwargs):
    """Have hosts of this cell build instances whose rows it has already."""
    cell.runner.scheduler.local.build(message.ctxt, build_inst_kwargs)


@operation(Route.EVERY_CELL, own=True, replies=True, runs_locally=True)
def builds_here(cell, message, instance_uuids) -> dict[str, bool]:
    """Return those of the instances that this cell has or looks for a cell for, and whether anybody is at work."""
    return cell.runner.scheduler.local.builds_here(message.ctxt, instance_uuids)


@operation(Route.NAMED_CELL, own=True, replies=True)
def ping(cell, message) -> dict[str, Any]:
    """Return {'cell': full name, 'host': process, 'time': epoch seconds there}."""
    return {"cell": message.routing_path, "host": cell.services.host, "time": cell.services.clock.time()}


@operation(Route.EVERY_CELL, own=True, replies=True, runs_locally=True)
def tree_info(cell, message) -> dict[str, Any]:
    """Return what each cell of the tree is and how its neighbours do, for operators."""
    return cell.runner.health.info(message.routing_path)


@operation(Route.EVERY_CELL, own=True, replies=True, runs_locally=True)
def build_decisions(cell, message, request_id) -> list[dict[str, Any]]:
    """Return how each cell chose where to build, for a request id or an instance's uuid."""
    return cell.runner.scheduler.decisions.of(request_id)


@operation(Route.ORIGIN)
def parse_responses(cell, message, orig_message, responses):
    """Hand answers to the request that waits for them. `orig_message` is not read. Raises Invalid."""
    try:
        lean.responses_in(responses)
    except (TypeError, ValueError) as error:
        raise exception.Invalid("Answers that cannot be read") from error
    cell.runner._put_response(message.response_uuid, responses, routing.hop_before(message.routing_path), message.parts)
