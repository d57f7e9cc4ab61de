"""What every volume service has to do; on a directory, and on what the volume API of OpenStack says."""

import uuid

import pytest

from nova_lite import conf as nova_conf
from nova_lite import context, exception, volume
from tests.fixtures.openstack import VolumeService

ADMIN = context.get_admin_context()
ALICE = context.RequestContext("alice", "red")
BOB = context.RequestContext("bob", "blue")
HOST = {"ip": "10.0.0.1", "initiator": "iqn.host", "host": "h1"}


@pytest.fixture
def cinder():
    with VolumeService().serve() as url:
        yield f"{url}/v3/project"


@pytest.fixture(params=["local", "cinder"])
def volumes(request, tmp_path):
    chosen = {("volume", "backend"): request.param, ("volume", "store_path"): str(tmp_path)}
    if request.param == "cinder":
        chosen["openstack", "volume_endpoint"] = request.getfixturevalue("cinder")
    return volume.load(nova_conf.load(prog="test", config_files=[], config_dirs=[], overrides=chosen))


def status(volumes, made):
    return volumes.get(ADMIN, made["id"])["status"]


def test_a_volume_goes_to_an_instance_and_back(volumes):
    made = volumes.create(ALICE, 2, "data", "my data", metadata={"a": "1"})
    assert (made["size"], made["display_name"], made["attach_status"]) == (2, "data", "detached")
    assert made["volume_metadata"] == [{"key": "a", "value": "1"}]
    volumes.check_attach(ALICE, made)

    volumes.reserve_volume(ALICE, made["id"])
    assert status(volumes, made) == "attaching"
    connection = volumes.initialize_connection(ADMIN, made, HOST)
    assert connection["driver_volume_type"] == "iscsi"
    assert {"target_iqn", "target_portal", "target_lun"} <= set(connection["data"])
    instance_uuid = str(uuid.uuid4())
    volumes.attach(ADMIN, made, instance_uuid, "/dev/xvdb")
    attached = volumes.get(ALICE, made["id"])
    assert (attached["status"], attached["attach_status"], attached["instance_uuid"], attached["mountpoint"]) == (
        "in-use", "attached", instance_uuid, "/dev/xvdb")
    volumes.check_detach(ALICE, attached)

    volumes.begin_detaching(ALICE, made["id"])
    assert status(volumes, made) == "detaching"
    volumes.terminate_connection(ADMIN, made, HOST)
    volumes.detach(ADMIN, made)
    assert volumes.get(ALICE, made["id"])["instance_uuid"] is None
    volumes.delete(ALICE, made["id"])
    with pytest.raises(exception.VolumeNotFound):
        volumes.get(ALICE, made["id"])


def test_reservations_and_detaches_are_taken_back(volumes):
    made = volumes.create(ALICE, 1, "", "")
    volumes.reserve_volume(ALICE, made["id"])
    volumes.unreserve_volume(ALICE, made["id"])
    assert status(volumes, made) == "available"

    volumes.attach(ADMIN, made, str(uuid.uuid4()), "/dev/xvdb")
    volumes.begin_detaching(ALICE, made["id"])
    volumes.roll_detaching(ALICE, made["id"])
    assert status(volumes, made) == "in-use"


def test_what_its_state_forbids_is_refused(volumes):
    made = volumes.create(ALICE, 1, "", "")
    with pytest.raises(exception.InvalidVolume):
        volumes.begin_detaching(ALICE, made["id"])
    with pytest.raises(exception.InvalidVolume):
        volumes.check_detach(ALICE, volumes.get(ALICE, made["id"]))
    volumes.reserve_volume(ALICE, made["id"])
    for refused in (lambda: volumes.reserve_volume(ALICE, made["id"]), lambda: volumes.delete(ALICE, made["id"]),
                    lambda: volumes.check_attach(ALICE, volumes.get(ALICE, made["id"]))):
        with pytest.raises(exception.InvalidVolume):
            refused()


def test_a_volume_belongs_to_its_project(volumes):
    made = volumes.create(ALICE, 1, "own", "")

    for use in (volumes.get, volumes.delete, volumes.reserve_volume):
        with pytest.raises(exception.VolumeNotFound):
            use(BOB, made["id"])
    assert made["id"] in [one["id"] for one in volumes.get_all(ALICE)]
    assert made["id"] not in [one["id"] for one in volumes.get_all(BOB)]


@pytest.mark.parametrize("volume_id", ["nothing", "00000000-0000-4000-8000-000000000001", "../volumes", ""])
def test_what_is_no_volume_is_not_found(volumes, volume_id):
    with pytest.raises(exception.VolumeNotFound):
        volumes.get(ADMIN, volume_id)


def test_a_volume_without_size_is_refused(volumes):
    with pytest.raises(exception.InvalidVolume):
        volumes.create(ALICE, 0, "", "")


def test_a_snapshot_that_is_none_is_not_found(volumes):
    with pytest.raises(exception.SnapshotNotFound):
        volumes.get_snapshot(ADMIN, str(uuid.uuid4()))


def test_a_snapshot_is_made_of_an_attached_volume(cinder):
    volumes = volume.load(nova_conf.load(prog="test", config_files=[], config_dirs=[], overrides={
        ("volume", "backend"): "cinder", ("openstack", "volume_endpoint"): cinder}))
    made = volumes.create(ALICE, 1, "", "")
    volumes.attach(ADMIN, made, str(uuid.uuid4()), "/dev/xvdb")

    snapshot = volumes.create_snapshot_force(ALICE, made, "s", "")

    assert volumes.get_snapshot(ALICE, snapshot["id"])["volume_id"] == made["id"]
