"""A machine's life through a tree of cells: every step as the top cell and the XenServer see it."""

import pytest

from nova_lite import exception
from nova_lite.compute.utils import get_nw_info_for_instance
from nova_lite.demo.story import OPERATIONS, POWER_STATES, StepFailed, Story, calls_of
from nova_lite.objects import vm_states


@pytest.fixture
def machine(tree):
    instance = tree.boot()
    yield instance
    try:
        tree.api.compute_api.delete(tree.context(), tree.read(instance))
    except exception.InstanceNotFound:
        return
    tree.until(lambda: tree.power_state(instance) is None, "the VM outlived its test")


def test_the_tree_is_what_was_asked_for(tree):
    assert {path: [host.name for host in cell.hosts] for path, cell in tree.cells.items()} == {
        "api": [],
        "api!west": ["west-1", "west-2"],
        "api!east": ["east-1"],
    }
    assert len({host.url for host in tree.hosts}) == 3
    assert len({cell.conf.database.connection for cell in tree.cells.values()}) == 3


def test_a_machine_booted_at_the_top_runs_in_a_cell_below(tree, machine):
    assert machine.cell_name in ("api!west", "api!east")
    assert machine.vm_state == vm_states.ACTIVE
    assert tree.host_of(machine).cell.path == machine.cell_name
    assert tree.power_state(machine) == "Running"


def test_the_row_below_is_the_owners(tree, machine):
    cell = tree.cells[machine.cell_name]
    row = cell.db.instance_get_by_uuid(cell.context, machine.uuid)

    assert (row["vm_state"], row["task_state"], row["host"]) == ("active", None, tree.host_of(machine).name)


def test_other_cells_never_hear_of_the_machine(tree, machine):
    strangers = [cell for cell in tree.cells.values() if cell.path not in ("api", machine.cell_name)]

    for cell in strangers:
        with pytest.raises(exception.InstanceNotFound):
            cell.db.instance_get_by_uuid(cell.context, machine.uuid)


def test_the_images_bytes_are_on_the_machines_disk(tree, machine):
    disk = tree.xenserver_of(machine).root_disk(machine.uuid, tree.image.size_b)

    assert disk.digest == tree.image.digest


def test_the_machine_has_an_address_of_its_cells_network(tree, machine):
    def addresses():
        vifs = get_nw_info_for_instance(tree.read(machine))
        return [ip["address"] for vif in vifs for subnet in vif["network"]["subnets"] for ip in subnet["ips"]]

    assert tree.until(addresses, "the top never learned of an address")[0].startswith("10.")


@pytest.mark.parametrize(
    ("verbs", "goal"),
    [
        (["reboot"], vm_states.ACTIVE),
        (["pause"], vm_states.PAUSED),
        (["pause", "unpause"], vm_states.ACTIVE),
        (["stop"], vm_states.STOPPED),
        (["stop", "start"], vm_states.ACTIVE),
    ],
)
def test_an_operation_reaches_the_host_and_its_outcome_the_top(tree, machine, verbs, goal):
    api = tree.api.compute_api
    goals = {"pause": vm_states.PAUSED, "stop": vm_states.STOPPED}
    for verb in verbs:
        tree.host_of(machine).simulator.control.reset_calls()
        arguments = ["SOFT"] if verb == "reboot" else []
        getattr(api, verb)(tree.context(), tree.read(machine), *arguments)
        tree.until_idle(machine, goals.get(verb, vm_states.ACTIVE))

    assert tree.read(machine).vm_state == goal
    assert tree.power_state(machine) == POWER_STATES[goal]
    assert set(calls_of(tree.host_of(machine))) & set(OPERATIONS[verbs[-1]])


def test_a_deleted_machine_is_gone_everywhere(tree, machine):
    cell = tree.cells[machine.cell_name]
    tree.api.compute_api.delete(tree.context(), tree.read(machine))

    def gone_at_the_top():
        try:
            return tree.read(machine) is None
        except exception.InstanceNotFound:
            return True

    tree.until(gone_at_the_top, "the top still has it")
    tree.until(lambda: tree.power_state(machine) is None, "the XenServer still has its VM")
    with pytest.raises(exception.InstanceNotFound):
        cell.db.instance_get_by_uuid(cell.context, machine.uuid)


def test_an_operation_in_the_wrong_state_is_refused_at_the_top(tree, machine):
    with pytest.raises(exception.InstanceInvalidState):
        tree.api.compute_api.unpause(tree.context(), machine)


def test_a_refused_pause_leaves_the_machine_as_it_was(tree, machine):
    host = tree.host_of(machine)
    host.simulator.control.fail("VM.pause", error=["INTERNAL_ERROR", "planted"])
    try:
        tree.api.compute_api.pause(tree.context(), tree.read(machine))
        after = tree.until(
            lambda: (lambda one: one if one.task_state is None else None)(tree.read(machine)), "the task never ended"
        )
    finally:
        host.simulator.control.clear()

    assert after.vm_state in (vm_states.ACTIVE, vm_states.ERROR)
    assert tree.power_state(machine) == "Running"


def test_the_demos_story_ends_well(tree):
    story = Story(tree, tree.image, count=2)
    try:
        story.run()
        assert [step.title.split()[0] for step in story.steps] == [
            "upload", "boot", "read", "reboot", "pause", "unpause", "stop", "start", "delete",
        ]  # fmt: skip
        assert all(step.seconds is not None and step.detail for step in story.steps)
        assert len(story.disks) == 2
    finally:
        clean_up(tree, "demo-")


def test_a_step_that_does_not_happen_fails_the_story(tree):
    for host in tree.hosts:
        host.simulator.control.fail("VM.pause", error=["INTERNAL_ERROR", "planted"])
    try:
        with pytest.raises(StepFailed, match="pause demo-1: demo-1 stayed active"):
            Story(tree, tree.image, count=1).run()
    finally:
        for host in tree.hosts:
            host.simulator.control.clear()
        clean_up(tree, "demo-")


def clean_up(tree, prefix):
    """Delete the machines whose names begin so."""
    api = tree.api.compute_api
    left = [one for one in api.get_all(tree.context()) if one.display_name.startswith(prefix)]
    for instance in left:
        api.delete(tree.context(), instance)
    for instance in left:
        tree.until(lambda uuid=instance.uuid: uuid not in uuids(tree), "not deleted")


def uuids(tree):
    return {one.uuid for one in tree.api.compute_api.get_all(tree.context())}
