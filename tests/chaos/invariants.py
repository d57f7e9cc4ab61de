"""What has to be true of a tree when nothing moves any more."""

import collections

from nova_lite.cells import digests, replica, routing
from nova_lite.objects import vm_states

TERMINAL = frozenset((vm_states.ACTIVE, vm_states.PAUSED, vm_states.ERROR))


def complaints(tree) -> list[str]:
    """Return one line for everything that is not as it has to be."""
    found: list[str] = []
    below = {name: cell.instances() for name, cell in tree.cells.items() if name != "top"}
    at_top = tree.top.instances()
    for check in (_all_requests_are_known, _every_request_has_ended, _nobody_is_built_twice, _nobody_comes_back,
                  _unwanted_ones_go, _the_top_agrees, _faults_are_there_once):
        found.extend(check(tree, at_top, below))
    found.extend(line for cell in tree.cells.values() for line in cell.broken)
    found.extend(_nothing_waits(tree))
    found.extend(_capacity_is_what_hosts_have(tree))
    return found


def _all_requests_are_known(tree, at_top, below):
    return [f"{uuid} is lost: no row at the top" for uuid in tree.requested if uuid not in at_top]


def _every_request_has_ended(tree, at_top, below):
    for uuid in tree.requested:
        row = at_top.get(uuid)
        if row is None or row.deleted:
            continue
        if row.vm_state not in TERMINAL or row.task_state is not None:
            yield f"{uuid} is {row.vm_state}, {row.task_state} in cell {row.cell_name}"
        elif row.vm_state != vm_states.ERROR and not _homes(uuid, below):
            yield f"{uuid} is {row.vm_state} at the top and lives nowhere"


def _nobody_is_built_twice(tree, at_top, below):
    return [f"{uuid} lives in {', '.join(homes)}" for uuid in tree.requested if len(homes := _homes(uuid, below)) > 1]


def _nobody_comes_back(tree, at_top, below):
    for name, cell in tree.cells.items():
        for uuid in sorted(cell.destroyed):
            # What was built twice is deleted in one cell and goes on in the other.
            is_twin = uuid not in tree.unwanted and _homes(uuid, below)
            if not at_top[uuid].deleted and not is_twin:
                yield f"{uuid} was deleted in {name} and is there at the top"
    for uuid in sorted(tree.destroyed_at_top):
        if not at_top[uuid].deleted:
            yield f"{uuid} was deleted at the top and is back"
    # The order to delete what was built meanwhile is repeated by healing only.
    for uuid in tree.requested if tree.heals else ():
        if uuid in at_top and at_top[uuid].deleted and (homes := _homes(uuid, below)):
            yield f"{uuid} is deleted at the top and lives in {homes[0]}"


def _unwanted_ones_go(tree, at_top, below):
    # An order to delete that was lost is repeated by healing only.
    for uuid in sorted(tree.unwanted) if tree.heals else ():
        if homes := _homes(uuid, below):
            yield f"{uuid} was deleted by its user and lives in {homes[0]}"


def _the_top_agrees(tree, at_top, below):
    for uuid in tree.requested:
        homes, row = _homes(uuid, below), at_top.get(uuid)
        if not homes or row is None or row.deleted:
            continue
        if row.cell_name != full_name(tree, homes[0]):
            yield f"{uuid} lives in {homes[0]}, the top believes in {row.cell_name}"
        elif digests.digest(below[homes[0]][uuid]) != digests.digest(row):
            yield f"{uuid} of {homes[0]} is another one at the top: {_differences(below[homes[0]][uuid], row)}"


def _faults_are_there_once(tree, at_top, below):
    for name, instances in below.items():
        cell = tree.cells[name]
        live = [uuid for uuid, one in instances.items() if not one.deleted and uuid in at_top
                and not at_top[uuid].deleted]
        theirs = cell.db.instance_fault_get_by_instance_uuids(cell.context(), live)
        ours = tree.top.db.instance_fault_get_by_instance_uuids(tree.top.context(), live)
        for uuid in sorted(live):
            there, here = (collections.Counter(fault["message"] for fault in faults.get(uuid, []))
                           for faults in (theirs, ours))
            if there - here or any(count > there[text] for text, count in here.items() if text in there):
                yield f"{uuid} of {name} has {dict(there)} faults, {dict(here)} at the top"


def _nothing_waits(tree):
    for name, cell in tree.cells.items():
        count = cell.db.outbox_count(cell.context())
        if count:
            yield f"{count} updates wait in {name}"


def _capacity_is_what_hosts_have(tree):
    expected = sum(cell.hosts.free_mb() for cell in tree.cells.values())
    found = tree.top.manager.state_manager.get_our_capacities().get("ram_free", {}).get("total_mb", 0)
    if found != expected:
        yield f"the top counts {found} MB free, live hosts have {expected}"


def full_name(tree, name):
    from tests.chaos.tree import PARENTS

    path = name
    while PARENTS[name] is not None:
        name = PARENTS[name]
        path = f"{name}{routing.PATH_CELL_SEP}{path}"
    return path


def _homes(uuid, below):
    return [name for name, instances in below.items() if uuid in instances and not instances[uuid].deleted]


def _differences(theirs, ours):
    names = [name for name in sorted(replica.REPLICATED_FIELDS) if name in theirs and name in ours
             and digests.plain(theirs[name]) != digests.plain(ours[name])]
    return ", ".join(f"{name} {theirs[name]!r} and {ours[name]!r}" for name in names)[:300]
