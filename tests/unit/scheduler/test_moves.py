"""Resizes and live migrations: where to, and whether at all."""

import pytest

from nova_lite import exception
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.scheduler.manager import SchedulerManager
from nova_lite.scheduler.rpcapi import SchedulerAPI


def prep_resize(cell, instance, *, filter_properties=None, flavor="m1.medium", reservations=None):
    spec = {"instance_type": cell.flavor(flavor).to_dict(), "instance_uuids": [instance.uuid],
            "instance_properties": instance.to_legacy_dict(), "image": {}}
    SchedulerManager(services=cell.services).prep_resize(
        cell.context(), {}, spec, filter_properties or {"ignore_hosts": ["h1"]}, instance.to_legacy_dict(),
        spec["instance_type"], reservations)


def live_migrate(cell, instance, dest=None):
    SchedulerManager(services=cell.services).live_migration(cell.context(), instance.to_legacy_dict(), dest, True,
                                                            False)


@pytest.fixture
def running(cell):
    """An instance on h1 that is about to move."""
    cell.add_host("h1")
    return cell.instance(power_state=power_state.RUNNING, task_state=task_states.MIGRATING)


def test_a_resize_goes_to_the_host_that_takes_it(cell):
    cell.add_host("h1")
    other = cell.add_host("h2", free_ram_mb=5000)
    instance = cell.instance(task_state=task_states.RESIZE_PREP)

    prep_resize(cell, instance, reservations=["r1"])

    order, arguments = other.heard()
    assert order == "prep_resize"
    assert (arguments["instance"]["uuid"], arguments["node"]) == (instance.uuid, "h2-node")
    assert (arguments["instance_type"]["name"], arguments["reservations"]) == ("m1.medium", ["r1"])
    assert arguments["filter_properties"]["limits"] == {"memory_mb": 8192 * 1.5}
    assert arguments["filter_properties"]["retry"]["hosts"] == [["h2", "h2-node"]]


@pytest.mark.parametrize("vm_state", [vm_states.ACTIVE, vm_states.STOPPED])
def test_without_a_host_the_instance_stays_as_it_was(cell, vm_state):
    instance = cell.instance(vm_state=vm_state, task_state=task_states.RESIZE_PREP)
    reservations = cell.db.quota_reserve(cell.context(), {"cores": 20}, {"cores": 1},
                                         cell.clock.naive().replace(year=2030), 0, 0, "red")

    prep_resize(cell, instance, reservations=reservations)

    stored = cell.stored(instance)
    assert (stored.vm_state, stored.task_state) == (vm_state, None)
    assert cell.db.instance_fault_get_by_instance_uuids(cell.admin(), [instance.uuid])[instance.uuid]
    usage = cell.db.quota_usage_get_all_by_project(cell.admin(), "red")["cores"]
    assert usage["reserved"] == 0


def test_a_host_that_does_not_listen_takes_no_resize(cell):
    cell.add_host("h2", serves=False)
    instance = cell.instance(task_state=task_states.RESIZE_PREP)

    prep_resize(cell, instance)

    stored = cell.stored(instance)
    assert (stored.vm_state, stored.task_state) == (vm_states.ACTIVE, None)
    assert cell.db.instance_fault_get_by_instance_uuids(cell.admin(), [instance.uuid])[instance.uuid]


def test_a_resize_that_fails_otherwise_is_an_error(cell):
    cell.add_host("h2")
    instance = cell.instance(task_state=task_states.RESIZE_PREP)

    with pytest.raises(exception.InvalidInput):
        prep_resize(cell, instance, filter_properties={"scheduler_hints": {"group": 5}})

    assert cell.stored(instance).vm_state == vm_states.ERROR


def test_a_live_migration_to_a_named_host_starts_at_the_source(make_cell):
    cell = make_cell()
    source, dest = cell.add_host("h1"), cell.add_host("h2")
    dest.answers["check_can_live_migrate_destination"] = {"is_shared_storage": True}
    instance = cell.instance(power_state=power_state.RUNNING, task_state=task_states.MIGRATING)

    live_migrate(cell, instance, "h2")

    assert dest.heard()[0] == "check_can_live_migrate_destination"
    order, arguments = source.heard()
    assert (order, arguments["dest"], arguments["block_migration"]) == ("live_migration", "h2", True)
    assert arguments["migrate_data"] == {"is_shared_storage": True}


def test_a_host_that_cannot_take_it_is_passed_over(cell):
    source = cell.add_host("h1")
    cell.add_host("h2", free_ram_mb=7600).answers["check_can_live_migrate_destination"] = (
        exception.MigrationPreCheckError(reason="no shared storage"))
    cell.add_host("h3", free_ram_mb=7000).answers["check_can_live_migrate_destination"] = {"ok": 1}

    live_migrate(cell, cell.instance(power_state=power_state.RUNNING, task_state=task_states.MIGRATING))

    assert source.heard()[1]["dest"] == "h3"


def test_when_no_host_can_take_it_the_instance_goes_on(cell, running):
    cell.add_host("h2").answers["check_can_live_migrate_destination"] = exception.MigrationPreCheckError(reason="x")

    with pytest.raises(exception.NoValidHost):
        live_migrate(cell, running)

    stored = cell.stored(running)
    assert (stored.vm_state, stored.task_state) == (vm_states.ACTIVE, None)


REFUSED = [
    ({"name": "h1", "exists": True}, exception.UnableToMigrateToSelf),
    ({"name": "h2", "up": False}, exception.ComputeServiceUnavailable),
    ({"name": "never-seen", "exists": True}, exception.ComputeServiceUnavailable),
    ({"name": "h2", "free_ram_mb": -5000}, exception.MigrationPreCheckError),
    ({"name": "h2", "hypervisor_type": "kvm"}, exception.InvalidHypervisorType),
    ({"name": "h2", "hypervisor_version": 6}, exception.DestinationHypervisorTooOld),
]


@pytest.mark.parametrize(("dest", "error"), REFUSED,
                         ids=[error.__name__ + "-" + dest["name"] for dest, error in REFUSED])
def test_what_forbids_a_move_is_said_and_nothing_changes(cell, running, dest, error):
    dest = dict(dest)
    name = dest.pop("name")
    if not dest.pop("exists", False):
        cell.add_host(name, **dest)

    with pytest.raises(error):
        live_migrate(cell, running, name)

    stored = cell.stored(running)
    assert (stored.vm_state, stored.task_state) == (vm_states.ACTIVE, None)


def test_a_guest_that_does_not_run_does_not_move(cell):
    cell.add_host("h1")
    instance = cell.instance(power_state=power_state.SHUTDOWN, task_state=task_states.MIGRATING)

    with pytest.raises(exception.InstanceNotRunning):
        live_migrate(cell, instance, "h2")


def test_a_source_that_is_down_moves_nothing(cell):
    cell.add_host("h1", up=False)
    instance = cell.instance(power_state=power_state.RUNNING, task_state=task_states.MIGRATING)

    with pytest.raises(exception.ComputeServiceUnavailable):
        live_migrate(cell, instance, "h2")


def test_a_failure_nobody_expects_is_an_error(cell, running):
    cell.add_host("h2").answers["check_can_live_migrate_destination"] = exception.NovaException("a surprise")

    with pytest.raises(exception.NovaException):
        live_migrate(cell, running, "h2")

    assert cell.stored(running).vm_state == vm_states.ERROR


@pytest.mark.parametrize("silent", ["h1", "h2"])
def test_a_host_that_does_not_listen_leaves_the_guest_where_it_is(cell, silent):
    for name in ("h1", "h2"):
        cell.add_host(name, serves=name != silent)
    instance = cell.instance(power_state=power_state.RUNNING, task_state=task_states.MIGRATING)

    with pytest.raises(exception.ComputeServiceUnavailable, match=silent):
        live_migrate(cell, instance, "h2")

    stored = cell.stored(instance)
    assert (stored.vm_state, stored.task_state) == (vm_states.ACTIVE, None)


def test_the_client_and_the_manager_understand_each_other(cell, running):
    cell.serve("scheduler", SchedulerManager(services=cell.services), "api")
    client = SchedulerAPI(cell.services)

    with pytest.raises(exception.UnableToMigrateToSelf):
        client.live_migration(cell.context(), True, False, running, "h1")
    client.update_service_capabilities(cell.context(), "compute", "h1", [{"enabled": True}])
    shown = client.show_host_resources(cell.admin(), "h1")
    assert shown["usage"]["red"]["memory_mb"] == 2048
    spec = {"instance_type": cell.flavor().to_dict(), "instance_uuids": [running.uuid]}
    assert client.select_hosts(cell.context(), spec, {}) == ["h1"]
