"""Volumes of instances."""

import pytest

from nova_lite import exception, objects
from nova_lite.objects import vm_states
from tests.fixtures.one_cell import OneCell


@pytest.fixture
def cell(tmp_path):
    made = OneCell(tmp_path, grouped={("volume", "backend"): "local"})
    yield made
    made.close()


@pytest.fixture
def volumes(cell):
    return cell.services.volume_api


def reserving(cell, host, instance, volume_id):
    """Have the host answer a name, with the row that it makes for it."""
    objects.BlockDeviceMapping(cell.context(), instance_uuid=instance.uuid, source_type="volume",
                               destination_type="volume", device_name="/dev/xvdb", volume_id=volume_id).create()
    host.answers["reserve_block_device_name"] = "/dev/xvdb"


def rows(cell, instance):
    return cell.db.block_device_mapping_get_all_by_instance(cell.admin(), instance.uuid)


def test_a_volume_is_reserved_and_the_host_attaches_it(cell, volumes):
    host = cell.add_host("h1")
    instance = cell.instance()
    made = volumes.create(cell.context(), 1, "", "")
    reserving(cell, host, instance, made["id"])

    assert cell.api.attach_volume(cell.context(), instance, made["id"]) == "/dev/xvdb"

    assert host.heard()[0] == "reserve_block_device_name"
    order, arguments = host.heard()
    assert (order, arguments["mountpoint"], arguments["volume_id"]) == ("attach_volume", "/dev/xvdb", made["id"])
    assert volumes.get(cell.context(), made["id"])["status"] == "attaching"


def test_a_volume_in_use_is_refused_before_anything_is_taken(cell, volumes):
    host = cell.add_host("h1")
    instance = cell.instance()
    made = volumes.create(cell.context(), 1, "", "")
    volumes.attach(cell.admin(), made, instance.uuid, "/dev/xvdb")
    reserving(cell, host, instance, made["id"])

    with pytest.raises(exception.InvalidVolume):
        cell.api.attach_volume(cell.context(), instance, made["id"])

    assert host.has_heard_nothing()
    assert len(rows(cell, instance)) == 1


def test_an_attachment_that_was_not_sent_leaves_the_volume_free(cell, volumes, monkeypatch):
    host = cell.add_host("h1")
    instance = cell.instance()
    made = volumes.create(cell.context(), 1, "", "")
    reserving(cell, host, instance, made["id"])
    objects.BlockDeviceMapping(cell.context(), instance_uuid=instance.uuid, source_type="volume",
                               destination_type="volume", device_name="/dev/xvdc", volume_id="other").create()

    def unavailable(*args):
        raise exception.RpcUnavailable(method="attach_volume", topic="compute", reason="connection lost")

    monkeypatch.setattr(cell.api._compute, "attach_volume", unavailable)
    with pytest.raises(exception.RpcUnavailable):
        cell.api.attach_volume(cell.context(), instance, made["id"])

    assert [row["device_name"] for row in rows(cell, instance)] == ["/dev/xvdc"]
    assert volumes.get(cell.context(), made["id"])["status"] == "available"


@pytest.mark.parametrize("device", ["/baddata/vdc", "nonsense", "/dev/"])
def test_a_device_name_that_is_none_is_refused(cell, device):
    with pytest.raises(exception.InvalidDevicePath):
        cell.api.attach_volume(cell.context(), cell.instance(), "v", device)


@pytest.mark.parametrize("by_id", [True, False])
def test_a_volume_is_detached_by_the_host(cell, volumes, by_id):
    host = cell.add_host("h1")
    instance = cell.instance(vm_state=vm_states.STOPPED)
    made = volumes.create(cell.context(), 1, "", "")
    volumes.attach(cell.admin(), made, instance.uuid, "/dev/xvdb")

    cell.api.detach_volume(cell.context(), instance, made["id"] if by_id else {"id": made["id"]})

    assert host.heard()[0] == "detach_volume"
    assert volumes.get(cell.context(), made["id"])["status"] == "detaching"


def test_a_volume_of_another_instance_is_not_detached(cell, volumes):
    made = volumes.create(cell.context(), 1, "", "")
    volumes.attach(cell.admin(), made, "another", "/dev/xvdb")

    with pytest.raises(exception.VolumeUnattached):
        cell.api.detach_volume(cell.context(), cell.instance(), made["id"])


def test_a_detach_that_was_not_sent_leaves_the_volume_in_use(cell, volumes):
    instance = cell.instance()
    made = volumes.create(cell.context(), 1, "", "")
    volumes.attach(cell.admin(), made, instance.uuid, "/dev/xvdb")

    with pytest.raises(exception.RpcUnavailable):
        cell.api.detach_volume(cell.context(), instance, made["id"])

    assert volumes.get(cell.context(), made["id"])["status"] == "in-use"


def test_an_instance_may_boot_from_a_volume(cell, volumes):
    scheduler = cell.listen_to_the_scheduler()
    made = volumes.create(cell.context(), 10, "", "")

    (instance,), _ = cell.api.create(cell.context(), cell.flavor(), None, block_device_mapping=[
        {"device_name": "/dev/xvda", "volume_id": made["id"]}])

    assert scheduler.heard()[1]["request_spec"]["image"] == {}
    assert cell.api.is_volume_backed_instance(cell.context(), instance)
    (row,) = rows(cell, instance)
    assert (row["volume_id"], row["destination_type"]) == (made["id"], "volume")


def test_a_volume_that_is_taken_cannot_be_booted_from(cell, volumes):
    made = volumes.create(cell.context(), 10, "", "")
    volumes.attach(cell.admin(), made, "another", "/dev/xvdb")

    with pytest.raises(exception.InvalidBDMVolume):
        cell.api.create(cell.context(), cell.flavor(), None, block_device_mapping=[
            {"device_name": "/dev/xvda", "volume_id": made["id"]}])
