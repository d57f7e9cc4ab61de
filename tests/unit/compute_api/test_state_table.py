"""Which operation is possible in which state: the whole table, and that nothing is changed by what is refused."""

import pytest

from nova_lite import exception
from nova_lite.compute.cells_api import ComputeCellsAPI
from nova_lite.objects import task_states, vm_states
from tests.fixtures.one_cell import OneCell

ACTIVE, STOPPED, PAUSED, SUSPENDED = vm_states.ACTIVE, vm_states.STOPPED, vm_states.PAUSED, vm_states.SUSPENDED
RESCUED, RESIZED, SOFT_DELETED, ERROR = (vm_states.RESCUED, vm_states.RESIZED, vm_states.SOFT_DELETED,
                                         vm_states.ERROR)
VM_STATES = (ACTIVE, vm_states.BUILDING, PAUSED, SUSPENDED, STOPPED, RESCUED, RESIZED, SOFT_DELETED,
             vm_states.DELETED, ERROR)
ATTACHABLE = {ACTIVE, PAUSED, SUSPENDED, STOPPED, RESIZED, SOFT_DELETED}

# Operation: its arguments, the states it may start in, whether the instance must be idle, lock and host count.
TABLE = {
    "restore": ((), {SOFT_DELETED}, True, True, False),
    "stop": ((), {ACTIVE, RESCUED, ERROR}, True, True, True),
    "start": ((), {STOPPED}, True, True, True),
    "reboot": (("SOFT",), {ACTIVE, STOPPED, PAUSED, SUSPENDED}, False, True, False),
    "rebuild": (("image", "pw"), {ACTIVE, STOPPED}, True, True, False),
    "evacuate": (("h2", False), {ACTIVE, STOPPED}, True, False, False),
    "resize": (("2",), {ACTIVE, STOPPED}, True, True, False),
    "confirm_resize": ((), {RESIZED}, True, True, False),
    "revert_resize": ((), {RESIZED}, True, True, False),
    "pause": ((), {ACTIVE, RESCUED}, True, True, False),
    "unpause": ((), {PAUSED}, True, True, False),
    "suspend": ((), {ACTIVE, RESCUED}, True, True, False),
    "resume": ((), {SUSPENDED}, True, True, False),
    "rescue": ((), {ACTIVE, STOPPED}, True, True, False),
    "unrescue": ((), {RESCUED}, True, True, False),
    "set_admin_password": (("pw",), {ACTIVE}, True, True, False),
    "snapshot": (("name",), {ACTIVE, STOPPED, PAUSED, SUSPENDED}, True, False, False),
    "backup": (("name", "daily", 1), {ACTIVE, STOPPED}, True, False, False),
    "snapshot_volume_backed": (({}, "name"), {ACTIVE, STOPPED}, True, False, False),
    "live_migrate": ((None, None, None), {ACTIVE}, True, False, False),
    "attach_volume": (("volume",), ATTACHABLE, False, True, False),
    "detach_volume": (("volume",), ATTACHABLE, False, True, False),
    "update_instance_metadata": (({},), {ACTIVE, PAUSED, SUSPENDED, STOPPED}, False, True, False),
    "delete_instance_metadata": (("key",), {ACTIVE, PAUSED, SUSPENDED, STOPPED}, False, True, False),
    "delete": ((), set(VM_STATES), False, True, False),
    "soft_delete": ((), set(VM_STATES), False, True, False),
    "force_delete": ((), set(VM_STATES), False, True, False),
    "inject_file": (("/a", "b"), set(VM_STATES), False, True, False),
    "add_fixed_ip": (("network",), set(VM_STATES), False, True, False),
    "remove_fixed_ip": (("10.0.0.1",), set(VM_STATES), False, True, False),
    "reset_network": ((), set(VM_STATES), False, True, False),
    "inject_network_info": ((), set(VM_STATES), False, True, False),
    "get_vnc_console": (("novnc",), set(VM_STATES), False, False, True),
    "get_spice_console": (("spice-html5",), set(VM_STATES), False, False, True),
    "get_console_output": ((), set(VM_STATES), False, False, True),
    "get_vnc_connect_info": (("novnc",), set(VM_STATES), False, False, True),
    "get_spice_connect_info": (("spice-html5",), set(VM_STATES), False, False, True),
}


@pytest.fixture(scope="module", params=["hosts here", "hosts below"])
def cell(request, tmp_path_factory):
    made = OneCell(tmp_path_factory.mktemp("table"))
    if request.param == "hosts below":
        made.api = ComputeCellsAPI(made.services, cells_api=None)  # nothing that is refused is sent
    made.server = made.instance(cell_name="api!west")
    yield made
    made.close()


def attempt(cell, operation, *, context=None, **values):
    """Try the operation on an instance with these values."""
    instance = cell.server.obj_clone()
    for name, value in {"vm_state": ACTIVE, "task_state": None, "locked": False, "host": "h1", **values}.items():
        setattr(instance, name, value)
    instance.obj_reset_changes()
    getattr(cell.api, operation)(context or cell.context(is_admin=True), instance, *TABLE[operation][0])


@pytest.mark.parametrize("operation", TABLE)
def test_an_operation_is_refused_in_the_states_it_is_not_for(cell, operation):
    before = cell.stored(cell.server).updated_at
    for vm_state in set(VM_STATES) - TABLE[operation][1]:
        with pytest.raises(exception.InstanceInvalidState) as refused:
            attempt(cell, operation, vm_state=vm_state)
        said = refused.value.kwargs
        assert (said["attr"], said["state"], said["method"]) == ("vm_state", vm_state, operation)
    assert cell.stored(cell.server).updated_at == before


@pytest.mark.parametrize("operation", [name for name, row in TABLE.items() if row[2]])
def test_an_operation_for_idle_instances_is_refused_for_busy_ones(cell, operation):
    with pytest.raises(exception.InstanceInvalidState) as refused:
        attempt(cell, operation, vm_state=min(TABLE[operation][1]), task_state=task_states.IMAGE_UPLOADING)

    assert refused.value.kwargs["attr"] == "task_state"


@pytest.mark.parametrize("operation", [name for name, row in TABLE.items() if row[3]])
def test_an_operation_is_refused_for_locked_instances_before_their_state_is_looked_at(cell, operation):
    with pytest.raises(exception.InstanceIsLocked):
        attempt(cell, operation, context=cell.context(), locked=True, vm_state=vm_states.BUILDING)


@pytest.mark.parametrize("operation", [name for name, row in TABLE.items() if row[4]])
def test_an_operation_that_needs_the_host_is_refused_while_there_is_none(cell, operation):
    with pytest.raises(exception.InstanceNotReady):
        attempt(cell, operation, vm_state=min(TABLE[operation][1]), host=None)
