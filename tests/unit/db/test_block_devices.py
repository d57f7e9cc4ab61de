"""Block devices, actions, migrations."""

import pytest

from nova_lite import exception

VOLUME = {"source_type": "volume", "destination_type": "volume", "volume_id": "v1", "device_name": "/dev/xvdb"}
SWAP = {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "boot_index": -1}


@pytest.fixture
def uuid(make_instance):
    return make_instance()["uuid"]


def test_a_mapping_has_a_uuid_and_comes_back(db, ctxt, uuid):
    made = db.block_device_mapping_create(ctxt, {"instance_uuid": uuid, **VOLUME})

    assert len(made["uuid"]) == 36
    assert db.block_device_mapping_get_all_by_instance(ctxt, uuid) == [made]
    assert db.block_device_mapping_get_by_volume_id(ctxt, "v1") == made


def test_legacy_values_are_stored_in_the_new_form(db, ctxt, uuid):
    made = db.block_device_mapping_create(ctxt, {"instance_uuid": uuid, "device_name": "/dev/xvdc",
                                                 "virtual_name": "swap", "volume_size": 512})

    assert (made["source_type"], made["destination_type"], made["guest_format"]) == ("blank", "local", "swap")


def test_a_device_is_updated_or_made(db, ctxt, uuid):
    first = db.block_device_mapping_update_or_create(ctxt, {"instance_uuid": uuid, **VOLUME})

    second = db.block_device_mapping_update_or_create(ctxt, {"instance_uuid": uuid, **VOLUME, "volume_id": "v2"})

    assert (second["id"], second["volume_id"]) == (first["id"], "v2")
    assert len(db.block_device_mapping_get_all_by_instance(ctxt, uuid)) == 1


def test_an_instance_has_one_swap_disk(db, ctxt, uuid):
    for device in ("/dev/xvdb", "/dev/xvdc"):
        db.block_device_mapping_update_or_create(ctxt, {"instance_uuid": uuid, **SWAP, "device_name": device})

    rows = db.block_device_mapping_get_all_by_instance(ctxt, uuid)
    assert [row["device_name"] for row in rows] == ["/dev/xvdc"]


@pytest.mark.parametrize("destroy", [
    lambda db, ctxt, row: db.block_device_mapping_destroy(ctxt, row["id"]),
    lambda db, ctxt, row: db.block_device_mapping_destroy_by_instance_and_device(
        ctxt, row["instance_uuid"], "/dev/xvdb"),
    lambda db, ctxt, row: db.block_device_mapping_destroy_by_instance_and_volume(ctxt, row["instance_uuid"], "v1"),
])
def test_mappings_are_deleted(db, ctxt, uuid, destroy):
    row = db.block_device_mapping_create(ctxt, {"instance_uuid": uuid, **VOLUME})

    destroy(db, ctxt, row)

    assert db.block_device_mapping_get_all_by_instance(ctxt, uuid) == []
    with pytest.raises(exception.BlockDeviceMappingNotFound):
        db.block_device_mapping_update(ctxt, row["id"], {"volume_size": 1})


def test_a_mapping_needs_its_instance(db, ctxt):
    with pytest.raises(exception.InstanceNotFound):
        db.block_device_mapping_create(ctxt, {"instance_uuid": "nobody", **VOLUME})


def test_an_action_and_its_steps(db, ctxt, uuid, clock):
    key = {"instance_uuid": uuid, "request_id": "req-1"}
    action = db.action_start(ctxt, {**key, "action": "reboot", "user_id": "user", "project_id": "project"})
    event = db.action_event_start(ctxt, {**key, "event": "compute_reboot", "host": "h1"})
    clock.advance(3)

    db.action_event_finish(ctxt, {**key, "event": "compute_reboot", "result": "Error", "traceback": "tb"})
    db.action_finish(ctxt, key)

    [seen] = db.action_events_get(ctxt, action["id"])
    assert (seen["id"], seen["result"], seen["traceback"], seen["host"]) == (event["id"], "Error", "tb", "h1")
    assert seen["finish_time"] == clock.naive()
    assert db.action_get_by_request_id(ctxt, uuid, "req-1")["message"] == "Error"
    assert [row["action"] for row in db.actions_get(ctxt, uuid)] == ["reboot"]


def test_a_step_without_an_action_makes_one_and_an_unknown_step_is_no_error(db, ctxt, uuid):
    key = {"instance_uuid": uuid, "request_id": "req-2"}

    db.action_event_start(ctxt, {**key, "event": "e"})

    assert db.action_get_by_request_id(ctxt, uuid, "req-2")["action"] is None
    assert db.action_event_finish(ctxt, {**key, "event": "other", "result": "Success"}) is None
    with pytest.raises(exception.InstanceActionNotFound):
        db.action_finish(ctxt, {"instance_uuid": uuid, "request_id": "nobody"})


@pytest.fixture
def migrate(db, ctxt, uuid):
    def make(**values):
        return db.migration_create(ctxt, {
            "instance_uuid": uuid, "source_compute": "h1", "source_node": "n1", "dest_compute": "h2",
            "dest_node": "n2", "old_instance_type_id": 1, "new_instance_type_id": 2, "status": "pre-migrating",
            **values})

    return make


def test_the_kind_of_a_migration_follows_from_its_flavors(migrate):
    assert migrate()["migration_type"] == "resize"
    assert migrate(new_instance_type_id=1)["migration_type"] == "migration"
    assert migrate(migration_type="evacuation")["migration_type"] == "evacuation"


def test_migrations_are_found_by_where_and_how_far_they_are(db, ctxt, migrate, uuid, clock):
    row = migrate()
    migrate(status="confirmed")
    migrate(status="running", migration_type="live-migration")

    def ids(rows):
        return [found["id"] for found in rows]

    assert ids(db.migration_get_in_progress_by_host_and_node(ctxt, "h1", "n1")) == [row["id"]]
    assert ids(db.migration_get_in_progress_by_host_and_node(ctxt, "h2", "n2")) == [row["id"]]
    assert ids(db.migration_get_in_progress_by_host_and_node(ctxt, "h2", "n1")) == []
    db.migration_update(ctxt, row["id"], {"status": "finished"})
    clock.advance(100)
    assert ids(db.migration_get_unconfirmed_by_dest_compute(ctxt, 60, "h2")) == [row["id"]]
    assert ids(db.migration_get_unconfirmed_by_dest_compute(ctxt, 600, "h2")) == []
    assert db.migration_get_by_instance_and_status(ctxt, uuid, "finished")["id"] == row["id"]
    with pytest.raises(exception.MigrationNotFoundByStatus):
        db.migration_get_by_instance_and_status(ctxt, uuid, "error")
    with pytest.raises(exception.MigrationNotFound):
        db.migration_get(ctxt, 999)


@pytest.mark.parametrize("filters, count", [
    ({}, 2), ({"status": "finished"}, 1), ({"status": ["finished", "error"]}, 2), ({"host": "h2"}, 2),
    ({"host": "h9"}, 0), ({"migration_type": "resize", "hidden": False}, 2)])
def test_migrations_are_filtered(db, ctxt, migrate, filters, count):
    migrate(status="finished")
    migrate(status="error")

    assert len(db.migration_get_all_by_filters(ctxt, filters)) == count
