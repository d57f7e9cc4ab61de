"""What cells above have to be told is written with the change it tells."""

import json

import pytest

from nova_lite import objects
from tests.fixtures.services import make_context


@pytest.fixture
def ctxt(child):
    return make_context(child)


@pytest.fixture
def db(child):
    return child.db


def create(db, ctxt, **values):
    row = db.instance_create(ctxt, {"uuid": "u1", "user_id": "user", "project_id": "project",
                                    "vm_state": "building", **values})
    db.outbox_delete(ctxt, [entry["id"] for entry in db.outbox_pending(ctxt)])
    return row


def told(db, ctxt):
    return [(entry["method"], json.loads(entry["payload"])) for entry in db.outbox_pending(ctxt)]


def test_a_new_instance_is_told_whole(db, ctxt):
    flavor = objects.to_wire(objects.Flavor.of(None, {"id": 1, "flavorid": "1"}))
    db.instance_create(ctxt, {"uuid": "u1", "user_id": "user", "project_id": "project", "metadata": {"a": "b"},
                              "extra": {"flavor": {"cur": flavor}}})

    [(method, kwargs)] = told(db, ctxt)

    instance = objects.from_wire(None, kwargs)["instance"]
    assert method == "instance_update_at_top"
    assert (instance.uuid, instance.user_id, instance.metadata) == ("u1", "user", {"a": "b"})
    assert instance.flavor.flavorid == "1"
    assert "id" not in instance
    assert "cell_name" not in instance


def test_only_what_changed_is_told_with_its_revision(db, ctxt):
    create(db, ctxt)

    db.instance_update(ctxt, "u1", {"vm_state": "active", "power_state": 1, "display_name": "not told"})

    [entry] = db.outbox_pending(ctxt)
    instance = json.loads(entry["payload"])["instance"]
    assert instance["nova_object.data"] == {"uuid": "u1", "vm_state": "active", "power_state": 1}
    assert instance["nova_object.changes"] == ["power_state", "vm_state"]
    assert entry["revision"] == db.instance_get_by_uuid(ctxt, "u1")["revision"] == 2


def test_a_change_that_concerns_nobody_above_is_not_told(db, ctxt):
    create(db, ctxt)

    db.instance_update(ctxt, "u1", {"display_name": "new", "vm_state": "building"})

    assert told(db, ctxt) == []


def test_a_change_that_was_told_from_above_is_not_told_back(db, ctxt):
    create(db, ctxt)

    db.instance_update(ctxt, "u1", {"vm_state": "active"}, replicate=False)

    assert told(db, ctxt) == []


def test_a_change_that_is_undone_is_not_told(db, ctxt):
    create(db, ctxt)

    with pytest.raises(RuntimeError), db.writer(ctxt):
        db.instance_update(ctxt, "u1", {"vm_state": "active"})
        raise RuntimeError

    assert told(db, ctxt) == []


def test_parts_of_an_instance_are_told_in_their_order(db, ctxt):
    create(db, ctxt)

    db.instance_info_cache_update(ctxt, "u1", {"network_info": '[{"id": "v1"}]'})
    db.instance_fault_create(ctxt, {"instance_uuid": "u1", "code": 500, "message": "m"})
    bdm = db.block_device_mapping_create(ctxt, {"instance_uuid": "u1", "device_name": "/dev/xvdb",
                                                "source_type": "volume", "destination_type": "volume",
                                                "volume_id": "v1"})
    db.block_device_mapping_destroy(ctxt, bdm["id"])
    db.instance_system_metadata_update(ctxt, "u1", {"k": "v"})
    db.instance_destroy(ctxt, "u1")

    entries = db.outbox_pending(ctxt)
    assert [entry["method"] for entry in entries] == [
        "instance_update_at_top", "instance_fault_create_at_top", "bdm_update_or_create_at_top",
        "bdm_destroy_at_top", "instance_update_at_top", "instance_destroy_at_top"]
    assert [entry["revision"] for entry in entries] == [2, 3, 4, 5, 6, 7]
    payloads = [json.loads(entry["payload"]) for entry in entries]
    assert payloads[1]["instance_fault"]["message"] == "m"
    assert payloads[2]["bdm"]["uuid"] == bdm["uuid"]
    assert payloads[2]["create"] is None
    assert payloads[3] == {"instance_uuid": "u1", "device_name": "/dev/xvdb", "volume_id": "v1"}
    assert payloads[4]["instance"]["nova_object.data"] == {"uuid": "u1", "system_metadata": {"k": "v"}}


def test_a_device_without_a_name_is_told_once_it_has_one(db, ctxt):
    create(db, ctxt)
    bdm = db.block_device_mapping_create(ctxt, {"instance_uuid": "u1", "source_type": "volume", "volume_id": "v1",
                                                "destination_type": "volume"})

    before = told(db, ctxt)
    db.block_device_mapping_update(ctxt, bdm["id"], {"device_name": "/dev/xvdb"})

    assert before == []
    assert [kwargs["create"] for _, kwargs in told(db, ctxt)] == [None]


def test_nothing_is_told_where_nobody_is_above(db, ctxt, child):
    db.cell_delete(ctxt, "api")

    create(db, ctxt)
    db.instance_update(ctxt, "u1", {"vm_state": "active"})

    assert db.has_parents(ctxt) is False
    assert db.outbox_count(ctxt) == 0


def test_updates_that_were_put_off_are_not_pending(db, ctxt, child):
    db.outbox_add(ctxt, "u1", "instance", "instance_update_at_top", "{}", 5)
    [entry] = db.outbox_pending(ctxt)

    db.outbox_put_off(ctxt, [entry["id"]], child.clock.utcnow().replace(minute=30))

    assert db.outbox_pending(ctxt) == []
    child.clock.advance(3600)
    assert [later["attempts"] for later in db.outbox_pending(ctxt)] == [1]


def test_ids_never_come_back(db, ctxt):
    db.outbox_add(ctxt, "u1", "instance", "m", "{}")
    first = db.outbox_pending(ctxt)[0]["id"]
    db.outbox_delete(ctxt, [first])

    db.outbox_add(ctxt, "u1", "instance", "m", "{}")

    assert db.outbox_pending(ctxt)[0]["id"] > first


def test_an_object_that_is_saved_wakes_the_sender(db, ctxt, child):
    woken = []

    class Notifier:
        def outbox_ready(self, context):
            woken.append(context)

    ctxt.bind(child.with_(cells_notifier=Notifier()))
    create(db, ctxt)
    instance = objects.Instance.get_by_uuid(ctxt, "u1")

    instance.task_state = "spawning"
    instance.save()
    with instance.skip_cells_sync():
        instance.task_state = None
        instance.save()

    assert woken == [ctxt]
    assert len(told(db, ctxt)) == 1
    assert instance.cell_name is None
