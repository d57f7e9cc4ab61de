"""Paths of cell names: what a message's route means, hop by hop.

A *path* is names joined by '!', e.g. 'api!east!rack7'. A *routing path* lists the cells visited so far, the
current one last; downwards it is the cell's full name, upwards the full name reversed. Nothing here knows
of messages, brokers or databases.
"""

from nova_lite import exception

PATH_CELL_SEP = "!"
BLOCK_SYNC_FLAG = "!!"
DOWN = "down"
UP = "up"

_MAX_NAME_CHARS = 255
_FORBIDDEN_IN_NAME = "!.@"


def append(path: str | None, name: str) -> str:
    """Return `path` with `name` visited last."""
    return f"{path}{PATH_CELL_SEP}{name}" if path else name


def names(path: str) -> list[str]:
    return path.split(PATH_CELL_SEP)


def first_name(path: str) -> str:
    return path.split(PATH_CELL_SEP, 1)[0]


def last_name(path: str) -> str:
    return path.rsplit(PATH_CELL_SEP, 1)[-1]


def hop_before(path: str) -> str | None:
    """Return the name of the cell that handed the message to the last one, None at the origin."""
    visited = names(path)
    return visited[-2] if len(visited) > 1 else None


def reverse_path(path: str) -> str:
    """Return 'd!c!b!a' of 'a!b!c!d'."""
    return PATH_CELL_SEP.join(reversed(names(path)))


def response_path(routing_path: str, neighbour_only: bool = False) -> str:
    """Return the route a reply takes: all the way back, or only to the neighbour the request came from."""
    back = reverse_path(routing_path)
    return PATH_CELL_SEP.join(names(back)[:2]) if neighbour_only else back


def opposite(direction: str) -> str:
    return UP if direction == DOWN else DOWN


def next_name(target_cell: str, routing_path: str) -> str | None:
    """Return the name of the next cell on the way to `target_cell`, None when it is reached.

    Raises CellRoutingInconsistency when the routing path is not the beginning of the target.
    """
    if target_cell == routing_path:
        return None
    if not target_cell.startswith(routing_path + PATH_CELL_SEP):
        raise exception.CellRoutingInconsistency(
            reason=f"target {target_cell} does not begin with the routing path {routing_path}")
    return target_cell[len(routing_path) + 1:].split(PATH_CELL_SEP, 1)[0]


def unknown_neighbour(direction: str, target_cell: str) -> exception.CellRoutingInconsistency:
    """Return the error for a next hop that is no neighbour (text as the reference writes it)."""
    relation = "child" if direction == DOWN else "parent"
    return exception.CellRoutingInconsistency(reason=f"Unknown {relation} when routing to {target_cell}")


def validate_name(name: str) -> None:
    """Raise Invalid unless `name` can be a cell's short name: it travels in paths and in topics."""
    if not isinstance(name, str) or not name.strip():
        raise exception.Invalid("A cell name must not be empty")
    if name != name.strip() or len(name) > _MAX_NAME_CHARS or any(mark in name for mark in _FORBIDDEN_IN_NAME):
        raise exception.Invalid(
            f"Cell name {name!r} must have at most 255 characters, no '!', '.' or '@', and no spaces at its ends")
