"""Deleting instances, with and without a host that answers."""

import pytest

from nova_lite import exception, objects
from nova_lite.objects import task_states, vm_states
from tests.fixtures.one_cell import OneCell


def is_gone(cell, instance):
    try:
        cell.stored(instance)
    except exception.InstanceNotFound:
        return True
    return False


def in_use(cell, project="red"):
    rows = cell.db.quota_usage_get_all_by_project(cell.admin(), project)
    return {name: (row["in_use"], row["reserved"]) for name, row in rows.items()}


def counted_instance(cell, **fields):
    """An instance that the quota knows of."""
    instance = cell.instance(**fields)
    cell.db.quota_usage_refresh(cell.admin(), "red")
    return instance


def test_the_host_gets_the_order_with_the_quota_to_give_back(cell):
    host = cell.add_host("h1")
    instance = counted_instance(cell)

    cell.api.delete(cell.context(), instance)

    order, arguments = host.heard()
    assert order == "terminate_instance"
    assert (arguments["instance"]["uuid"], arguments["bdms"]) == (instance.uuid, [])
    assert len(arguments["reservations"]) == 3
    assert cell.stored(instance).task_state == task_states.DELETING
    assert cell.actions_of(instance) == ["delete"]
    assert in_use(cell)["instances"] == (1, 0)


def test_a_second_delete_gives_no_quota_back(cell):
    host = cell.add_host("h1")
    instance = counted_instance(cell)
    cell.api.delete(cell.context(), instance)
    assert len(host.heard()[1]["reservations"]) == 3

    cell.api.delete(cell.context(), cell.stored(instance))

    assert host.heard()[1]["reservations"] is None


@pytest.mark.parametrize("state", [
    {"vm_state": "building", "task_state": "spawning"}, {"vm_state": "error", "task_state": "deleting"},
    {"vm_state": "active", "task_state": "resize_migrating"}])
def test_any_state_can_be_deleted(cell, state):
    host = cell.add_host("h1")

    cell.api.delete(cell.context(), cell.instance(**state))

    assert host.heard()[0] == "terminate_instance"


def test_an_instance_without_host_is_forgotten_at_once(cell):
    instance = counted_instance(cell, host=None, node=None, vm_state=vm_states.ERROR)

    cell.api.delete(cell.context(), instance)

    assert is_gone(cell, instance)
    assert in_use(cell) == {**in_use(cell), "instances": (0, 0), "cores": (0, 0), "ram": (0, 0)}


def test_an_instance_that_got_a_host_meanwhile_is_deleted_there(cell):
    host = cell.add_host("h1")
    instance = counted_instance(cell, host=None, node=None)
    cell.db.instance_update(cell.admin(), instance.uuid, {"host": "h1", "node": "n1"})

    cell.api.delete(cell.context(), instance)

    assert host.heard()[0] == "terminate_instance"
    assert not is_gone(cell, instance)


def test_an_instance_on_a_dead_host_is_deleted_from_here(cell):
    host = cell.add_host("h1", up=False)
    cell.db.network_create(cell.admin(), {"label": "n", "cidr": "10.0.0.0/29", "bridge": "b"})
    instance = counted_instance(cell)
    cell.services.network_api.allocate_for_instance(cell.context(), instance)
    objects.BlockDeviceMapping(cell.context(), instance_uuid=instance.uuid, source_type="volume",
                               destination_type="volume", device_name="/dev/xvdb", volume_id="v1",
                               delete_on_termination=True).create()

    cell.api.delete(cell.context(), instance)

    assert is_gone(cell, instance)
    assert cell.db.fixed_ip_get_by_instance(cell.admin(), instance.uuid) == []
    assert cell.db.block_device_mapping_get_all_by_instance(cell.admin(), instance.uuid) == []
    assert in_use(cell)["instances"] == (0, 0)
    assert host.has_heard_nothing()


@pytest.mark.parametrize("goes_with_it", [False, True])
def test_volumes_of_an_instance_on_a_dead_host_are_let_go(tmp_path, goes_with_it):
    cell = OneCell(tmp_path, grouped={("volume", "backend"): "local", ("volume", "store_path"): f"{tmp_path}/volumes"})
    cell.add_host("h1", up=False)
    instance, volumes = cell.instance(), cell.services.volume_api
    volume = volumes.create(cell.context(), 1, "data", "")
    volumes.reserve_volume(cell.context(), volume["id"])
    volumes.attach(cell.context(), volume, instance.uuid, "/dev/xvdb")
    objects.BlockDeviceMapping(cell.context(), instance_uuid=instance.uuid, source_type="volume",
                               destination_type="volume", device_name="/dev/xvdb", volume_id=volume["id"],
                               delete_on_termination=goes_with_it).create()

    cell.api.delete(cell.context(), instance)

    assert is_gone(cell, instance)
    assert [one["status"] for one in volumes.get_all(cell.admin())] == ([] if goes_with_it else ["available"])
    cell.close()


def test_an_instance_on_a_host_nobody_knows_is_deleted_from_here(cell):
    instance = counted_instance(cell, host="never-seen")

    cell.api.delete(cell.context(), instance)

    assert is_gone(cell, instance)


def test_deleting_what_is_gone_is_fine(cell):
    instance = counted_instance(cell)
    cell.stored(instance).destroy()

    cell.api.delete(cell.context(), instance)

    assert in_use(cell)["instances"] == (1, 0)


def test_an_instance_that_must_not_be_terminated_stays(cell):
    host = cell.add_host("h1")
    instance = cell.instance(disable_terminate=True)

    cell.api.delete(cell.context(), instance)

    assert host.has_heard_nothing()
    assert cell.stored(instance).task_state is None


def test_a_resized_instance_gives_up_its_way_back_first(cell):
    host = cell.add_host("h1")
    source = cell.add_host("h0")
    instance = counted_instance(cell, vm_state=vm_states.RESIZED)
    objects.Migration(cell.admin(), instance_uuid=instance.uuid, source_compute="h0", dest_compute="h1",
                      status="finished", migration_type="resize").create()

    cell.api.delete(cell.context(), instance)

    assert source.heard()[0] == "confirm_resize"
    assert host.heard()[0] == "terminate_instance"
    assert cell.actions_of(instance) == ["delete", "confirmResize"]


def test_where_deletes_can_be_undone_the_host_switches_off(tmp_path):
    cell = OneCell(tmp_path, reclaim_instance_interval=3600)
    try:
        host = cell.add_host("h1")
        instance = cell.instance()

        cell.api.delete(cell.context(), instance)

        assert host.heard()[0] == "soft_delete_instance"
        stored = cell.stored(instance)
        assert (stored.task_state, stored.deleted_at) == (task_states.SOFT_DELETING, cell.clock.utcnow())
    finally:
        cell.close()


def test_a_forced_delete_is_for_good(tmp_path):
    cell = OneCell(tmp_path, reclaim_instance_interval=3600)
    try:
        host = cell.add_host("h1")

        cell.api.force_delete(cell.context(), cell.instance())

        assert host.heard()[0] == "terminate_instance"
    finally:
        cell.close()


def test_a_soft_deleted_instance_comes_back(cell):
    host = cell.add_host("h1")
    instance = counted_instance(cell, vm_state=vm_states.SOFT_DELETED, deleted_at=cell.clock.utcnow())
    before = in_use(cell)["instances"][0]

    cell.api.restore(cell.context(), instance)

    assert host.heard()[0] == "restore_instance"
    stored = cell.stored(instance)
    assert (stored.task_state, stored.deleted_at) == (task_states.RESTORING, None)
    assert in_use(cell)["instances"] == (before + 1, 0)


def test_a_soft_deleted_instance_that_had_no_host_is_active_at_once(cell):
    instance = cell.instance(vm_state=vm_states.SOFT_DELETED, host=None)

    cell.api.restore(cell.context(), instance)

    assert (cell.stored(instance).vm_state, cell.stored(instance).task_state) == ("active", None)


def test_the_quota_of_a_soft_deleted_instance_is_not_given_back_again(cell):
    host = cell.add_host("h1")

    cell.api.force_delete(cell.context(), counted_instance(cell, vm_state=vm_states.SOFT_DELETED))

    assert host.heard()[1]["reservations"] is None


def test_an_administrator_gives_the_owners_quota_back(cell):
    host = cell.add_host("h1")
    instance = counted_instance(cell)

    cell.api.delete(cell.admin(), instance)

    assert len(host.heard()[1]["reservations"]) == 3
    assert in_use(cell, None) == {}
