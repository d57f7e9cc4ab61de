"""Volumes of an iSCSI portal, recorded in a directory."""

import threading

import pytest

from nova_lite import context, exception, volume
from tests.fixtures.services import load_conf

ADMIN = context.get_admin_context()
ALICE = context.RequestContext("alice", "red")
BOB = context.RequestContext("bob", "blue")
HOST = {"ip": "10.0.0.1", "initiator": "iqn.host", "host": "h1"}


@pytest.fixture
def conf(tmp_path):
    return load_conf({
        ("volume", "backend"): "local", ("volume", "store_path"): str(tmp_path / "volumes"),
        ("volume", "target_portal"): "10.0.0.9:3260"})


@pytest.fixture
def volumes(conf):
    return volume.load(conf)


def status(volumes, made):
    return volumes.get(ADMIN, made["id"])["status"]


def test_of_many_who_want_a_volume_one_gets_it(volumes):
    made = volumes.create(ALICE, 1, "", "")
    got, refused = [], []

    def reserve(number):
        try:
            volumes.reserve_volume(ALICE, made["id"])
            got.append(number)
        except exception.InvalidVolume:
            refused.append(number)

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(got), len(refused)) == (1, 5)


def test_a_host_is_told_where_the_volume_is(volumes):
    made = volumes.create(ALICE, 1, "", "")

    connection = volumes.initialize_connection(ADMIN, made, HOST)

    assert connection["driver_volume_type"] == "iscsi"
    assert connection["data"] == {
        "volume_id": made["id"], "target_portal": "10.0.0.9:3260", "target_lun": 0, "target_discovered": False,
        "target_iqn": f"iqn.2026-01.lite.nova:volume-{made['id']}"}


def test_states_forbid_what_they_must(volumes):
    made = volumes.create(ALICE, 1, "", "")
    with pytest.raises(exception.InvalidVolume, match="not attached"):
        volumes.check_detach(ALICE, made)
    with pytest.raises(exception.InvalidVolume):
        volumes.begin_detaching(ALICE, made["id"])

    volumes.attach(ADMIN, made, "i", "/dev/xvdb")
    attached = volumes.get(ALICE, made["id"])
    volumes.check_detach(ALICE, attached)
    for refused in (lambda: volumes.check_attach(ALICE, attached), lambda: volumes.reserve_volume(ALICE, made["id"]),
                    lambda: volumes.delete(ALICE, made["id"])):
        with pytest.raises(exception.InvalidVolume):
            refused()


def test_zones_may_matter(tmp_path):
    conf = load_conf({
        ("volume", "backend"): "local", ("volume", "store_path"): str(tmp_path),
        (None, "cinder_cross_az_attach"): False})
    volumes = volume.load(conf)
    made = volumes.create(ALICE, 1, "", "", availability_zone="east")

    volumes.check_attach(ALICE, made, instance={"availability_zone": "east"})
    with pytest.raises(exception.InvalidVolume, match="zone east"):
        volumes.check_attach(ALICE, made, instance={"availability_zone": "west"})


def test_a_project_sees_its_own_volumes(volumes):
    made = volumes.create(ALICE, 1, "", "")

    assert [one["id"] for one in volumes.get_all(ALICE)] == [made["id"]]
    assert volumes.get_all(BOB) == []
    with pytest.raises(exception.VolumeNotFound):
        volumes.get(BOB, made["id"])


@pytest.mark.parametrize("arguments", [
    {"snapshot": {"id": "s"}}, {"image_id": "i"}, {"size": 0}, {"size": "big"}])
def test_what_cannot_be_made_is_refused(volumes, arguments):
    with pytest.raises(exception.InvalidVolume):
        volumes.create(ALICE, **{"size": 1, "name": "", "description": "", **arguments})


@pytest.mark.parametrize("volume_id", ["../../etc/passwd", "", None, "0e0c1f2d-9d4b-4d5e-8c39-6f4c7b3f3a11"])
def test_an_id_is_never_a_path(volumes, volume_id):
    with pytest.raises(exception.VolumeNotFound):
        volumes.get(ADMIN, volume_id)


@pytest.mark.parametrize("texts", [("x" * 10_000, ""), ("name", "x" * 10_000), ("caf\udce9", "")])
def test_texts_that_no_volume_is_called_are_refused(volumes, texts):
    with pytest.raises(exception.InvalidVolume) as refused:
        volumes.create(ALICE, 1, *texts)

    assert len(str(refused.value)) < 200
    assert volumes.get_all(ALICE) == []
