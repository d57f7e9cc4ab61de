"""Rows of instances: guarded changes, what belongs to them, and deletion."""

import pytest

from nova_lite import exception


def test_an_instance_comes_back_with_all_its_parts(db, ctxt):
    db.instance_create(ctxt, {
        "uuid": "u1", "project_id": "project", "metadata": {"a": "b"}, "system_metadata": {"image_x": "y"},
        "info_cache": {"network_info": "[1]"}, "security_groups": ["default"],
        "extra": {"flavor": {"cur": {"x": 1}}}})

    row = db.instance_get_by_uuid(ctxt, "u1")

    assert row["metadata"] == {"a": "b"}
    assert row["system_metadata"] == {"image_x": "y"}
    assert row["info_cache"]["network_info"] == "[1]"
    assert [group["name"] for group in row["security_groups"]] == ["default"]
    assert row["extra"]["flavor"] == '{"cur": {"x": 1}, "old": null, "new": null}'
    assert row["revision"] == 1


def test_a_second_row_of_one_uuid_is_refused(db, ctxt, make_instance):
    first = make_instance()

    with pytest.raises(exception.InstanceExists):
        make_instance(uuid=first["uuid"])


def test_what_is_written_is_what_is_read(db, ctxt, make_instance, clock):
    row = make_instance(vm_state="building")
    clock.advance(5)

    written = db.instance_update(ctxt, row["uuid"], {"vm_state": "active", "launched_at": clock.utcnow()})

    assert written == db.instance_get_by_uuid(ctxt, row["uuid"])
    assert written["launched_at"] == written["updated_at"] == clock.naive()


@pytest.mark.parametrize("expected", ["spawning", ["networking", "spawning"], ("spawning", None)])
def test_a_change_from_an_expected_state_is_made(db, ctxt, make_instance, expected):
    row = make_instance(task_state="spawning")

    changed = db.instance_update(ctxt, row["uuid"], {"task_state": None}, expected_task_state=expected)

    assert changed["task_state"] is None


def test_a_change_from_another_state_is_refused_and_changes_nothing(db, ctxt, make_instance):
    row = make_instance(task_state="rebooting", metadata={"a": "b"})

    with pytest.raises(exception.UnexpectedTaskStateError) as caught:
        db.instance_update(ctxt, row["uuid"], {"task_state": "pausing", "metadata": {}},
                           expected_task_state=[None])

    assert caught.value.kwargs["expected"] == [None]
    assert caught.value.kwargs["actual"] == "rebooting"
    assert db.instance_get_by_uuid(ctxt, row["uuid"])["metadata"] == {"a": "b"}


def test_a_deletion_that_came_first_has_an_error_of_its_own(db, ctxt, make_instance):
    row = make_instance(task_state="deleting")

    with pytest.raises(exception.UnexpectedDeletingTaskStateError):
        db.instance_update(ctxt, row["uuid"], {"task_state": "spawning"}, expected_task_state="networking")


def test_the_vm_state_is_guarded_likewise(db, ctxt, make_instance):
    row = make_instance(vm_state="error")

    with pytest.raises(exception.UnexpectedVMStateError):
        db.instance_update(ctxt, row["uuid"], {"vm_state": "active"}, expected_vm_state="building")


def test_idle_is_demanded_by_none_among_the_values(db, ctxt, make_instance):
    row = make_instance(task_state="rebooting")

    with pytest.raises(exception.UnexpectedTaskStateError):
        db.instance_update(ctxt, row["uuid"], {"task_state": "pausing", "expected_task_state": None})


def test_a_pending_snapshot_counts_as_a_snapshot(db, ctxt, make_instance):
    row = make_instance(task_state="image_snapshot_pending")

    changed = db.instance_update(ctxt, row["uuid"], {"task_state": None}, expected_task_state="image_snapshot")

    assert changed["task_state"] is None


def test_metadata_is_replaced_as_a_whole_and_single_keys_by_their_own_call(db, ctxt, make_instance):
    row = make_instance(metadata={"a": "1", "b": "2", "c": "3"})

    db.instance_update(ctxt, row["uuid"], {"metadata": {"a": "1", "b": "9", "d": "4"}})
    db.instance_metadata_update(ctxt, row["uuid"], {"e": "5"})
    db.instance_metadata_delete(ctxt, row["uuid"], "a")

    assert db.instance_get_by_uuid(ctxt, row["uuid"])["metadata"] == {"b": "9", "d": "4", "e": "5"}
    assert db.instance_metadata_get(ctxt, row["uuid"]) == {"b": "9", "d": "4", "e": "5"}


def test_flavors_that_are_not_named_stay(db, ctxt, make_instance):
    row = make_instance(extra={"flavor": {"cur": {"x": 1}, "old": {"x": 0}}})

    changed = db.instance_update(ctxt, row["uuid"], {"extra": {"flavor": {"old": None, "new": {"x": 2}}}})

    assert changed["extra"]["flavor"] == '{"cur": {"x": 1}, "old": null, "new": {"x": 2}}'
    assert db.instance_get_by_uuid(ctxt, row["uuid"])["extra"]["flavor"] == changed["extra"]["flavor"]


def test_every_change_has_a_revision_of_its_own(db, ctxt, make_instance):
    row = make_instance()

    seen = [db.instance_update(ctxt, row["uuid"], {"progress": n})["revision"] for n in range(3)]
    db.instance_info_cache_update(ctxt, row["uuid"], {"network_info": "[2]"})
    db.instance_fault_create(ctxt, {"instance_uuid": row["uuid"], "code": 500, "message": "m"})

    assert seen == [2, 3, 4]
    assert db.instance_get_by_uuid(ctxt, row["uuid"])["revision"] == 6


def test_a_deleted_instance_is_seen_by_those_who_ask_for_it(db, ctxt, make_instance):
    row = make_instance(metadata={"a": "b"}, system_metadata={"k": "v"})

    gone = db.instance_destroy(ctxt, row["uuid"])

    assert gone["deleted"] == row["id"]
    with pytest.raises(exception.InstanceNotFound):
        db.instance_get_by_uuid(ctxt, row["uuid"])
    seen = db.instance_get_by_uuid(ctxt.elevated(read_deleted="only"), row["uuid"])
    assert seen["system_metadata"] == {"k": "v"}
    assert seen["metadata"] == {"a": "b"}
    assert db.tombstone_get(ctxt, row["uuid"]) is not None


def test_deleting_twice_finds_nothing(db, ctxt, make_instance):
    row = make_instance()
    db.instance_destroy(ctxt, row["uuid"])

    with pytest.raises(exception.InstanceNotFound):
        db.instance_destroy(ctxt.elevated(read_deleted="yes"), row["uuid"])


def test_a_deletion_can_depend_on_the_row(db, ctxt, make_instance):
    row = make_instance(host="h1")

    with pytest.raises(exception.ConstraintNotMet):
        db.instance_destroy(ctxt, row["uuid"], constraint={"host": "h2"})

    assert db.instance_get_by_uuid(ctxt, row["uuid"])["deleted"] == 0


def test_another_project_sees_nothing(db, ctxt, make_instance):
    row = make_instance()
    ctxt.is_admin = False
    ctxt.project_id = "other"

    with pytest.raises(exception.InstanceNotFound):
        db.instance_get_by_uuid(ctxt, row["uuid"])
    assert db.instance_get_all(ctxt) == []


def test_an_unknown_column_is_refused(db, ctxt):
    with pytest.raises(ValueError, match="colour"):
        db.instance_create(ctxt, {"uuid": "u1", "colour": "red"})


@pytest.mark.parametrize("scope, projects, taken", [
    ("", ("p1", "p1"), False), ("project", ("p1", "p2"), False), ("project", ("p1", "p1"), True),
    ("global", ("p1", "p2"), True)])
def test_host_names_are_unique_where_they_must_be(db, ctxt, services, make_instance, scope, projects, taken):
    services.conf.set_override("osapi_compute_unique_server_name_scope", scope)
    make_instance(hostname="web", project_id=projects[0])

    if taken:
        with pytest.raises(exception.InstanceExists):
            make_instance(hostname="web", project_id=projects[1])
    else:
        make_instance(hostname="web", project_id=projects[1])


def test_operations_inside_a_transaction_are_undone_together(db, ctxt, make_instance):
    row = make_instance(vm_state="active")

    with pytest.raises(RuntimeError), db.writer(ctxt):
        db.instance_update(ctxt, row["uuid"], {"vm_state": "error"})
        assert db.instance_get_by_uuid(ctxt, row["uuid"])["vm_state"] == "error"
        raise RuntimeError

    assert db.instance_get_by_uuid(ctxt, row["uuid"])["vm_state"] == "active"


def test_the_fault_is_joined_only_when_asked_for(db, ctxt, make_instance, clock):
    row = make_instance()
    for message in ("first", "last"):
        clock.advance(1)
        db.instance_fault_create(ctxt, {"instance_uuid": row["uuid"], "code": 500, "message": message})

    assert "fault" not in db.instance_get_by_uuid(ctxt, row["uuid"])
    assert db.instance_get_by_uuid(ctxt, row["uuid"], columns_to_join=["fault"])["fault"]["message"] == "last"
    faults = db.instance_fault_get_by_instance_uuids(ctxt, [row["uuid"], "other"])
    assert [fault["message"] for fault in faults[row["uuid"]]] == ["last", "first"]
    assert faults["other"] == []


def test_a_long_fault_message_is_cut(db, ctxt, make_instance):
    row = make_instance()

    fault = db.instance_fault_create(ctxt, {"instance_uuid": row["uuid"], "code": 500, "message": "x" * 300,
                                            "details": "y" * 70000})

    assert len(fault["message"]) == 255
    assert len(fault["details"]) == 70000
