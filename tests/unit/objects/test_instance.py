"""The instance between its row, its users and the 2.27 dicts."""

import json

import pytest

from nova_lite import exception, objects
from nova_lite.context import RequestContext
from tests.fixtures.services import make_context, make_services


@pytest.fixture
def services(tmp_path):
    made = make_services(tmp_path)
    yield made
    made.db.dispose()


@pytest.fixture
def ctxt(services):
    return make_context(services)


@pytest.fixture
def instance(ctxt):
    made = objects.Instance(ctxt, uuid="u1", user_id="user", project_id="project", vm_state="building",
                            metadata={"a": "b"}, system_metadata={"image_x": "y"},
                            flavor=objects.Flavor.get_by_flavor_id(ctxt, "2"))
    made.create()
    return made


def stored(ctxt):
    return objects.Instance.get_by_uuid(ctxt, "u1")


def test_what_was_created_is_read_back(ctxt, instance):
    seen = stored(ctxt)

    assert (seen.id, seen.name) == (instance.id, f"instance-{instance.id:08x}")
    assert (seen.metadata, seen.system_metadata, seen.flavor.name) == ({"a": "b"}, {"image_x": "y"}, "m1.small")
    assert (seen.old_flavor, seen.info_cache.network_info, seen.locked) == (None, [], False)
    assert seen.created_at.tzinfo is not None
    assert seen.obj_what_changed() == set()
    with pytest.raises(exception.ObjectActionError, match="already created"):
        seen.create()


def test_only_what_changed_is_written(ctxt, instance):
    other = stored(ctxt)
    other.display_name = "kept"
    other.save()

    instance.vm_state = "active"
    instance.metadata["c"] = "d"
    instance.old_flavor = objects.Flavor.get_by_flavor_id(ctxt, "1")
    instance.save()

    seen = stored(ctxt)
    assert (seen.vm_state, seen.display_name, seen.metadata) == ("active", "kept", {"a": "b", "c": "d"})
    assert (seen.flavor.name, seen.old_flavor.name) == ("m1.small", "m1.tiny")
    assert instance.obj_what_changed() == set()


def test_a_guarded_save_leaves_the_row_and_keeps_what_is_dirty(ctxt, instance):
    instance.task_state = "pausing"

    with pytest.raises(exception.UnexpectedVMStateError):
        instance.save(expected_vm_state=["active"])

    assert instance.obj_what_changed() == {"task_state"}
    assert stored(ctxt).task_state is None


def test_the_flag_that_blocks_syncing_is_never_stored(ctxt, instance):
    instance.cell_name = "api!west"
    instance.save()

    with instance.skip_cells_sync():
        during = instance.cell_name
        instance.vm_state = "active"
        instance.cell_name = "!!api!east"
        instance.save()

    assert (during, instance.cell_name, stored(ctxt).cell_name) == ("!!api!west", "api!east", "api!east")


def test_the_network_info_is_saved_with_the_instance_or_alone(ctxt, instance):
    instance.info_cache.network_info = [{"id": "vif1", "address": "02:00"}]
    instance.save()
    first = stored(ctxt).info_cache.network_info[0]["id"]

    cache = objects.InstanceInfoCache.get_by_instance_uuid(ctxt, "u1")
    cache.network_info = [{"id": "vif2"}]
    cache.save()

    assert (first, stored(ctxt).info_cache.network_info[0]["id"]) == ("vif1", "vif2")


def test_parts_that_were_left_out_are_loaded_when_read(ctxt, instance):
    objects.InstanceFault(ctxt, instance_uuid="u1", code=500, message="m").create()

    seen = objects.Instance.get_by_uuid(ctxt, "u1", expected_attrs=[])

    assert "flavor" not in seen
    assert (seen.flavor.name, seen.metadata, seen.fault.message) == ("m1.small", {"a": "b"}, "m")
    assert seen.obj_what_changed() == set()


def test_without_a_cell_nothing_can_be_loaded_and_it_is_said_so():
    with pytest.raises(exception.ObjectActionError, match="vm_state"):
        _ = objects.Instance(uuid="u1").vm_state
    with pytest.raises(exception.ContextNotBound):
        _ = objects.Instance(RequestContext("user"), uuid="u1").vm_state


def test_deletion_depends_on_the_host_and_happens_once(ctxt, instance):
    stale = stored(ctxt)
    instance.host = "h1"
    instance.save()
    stale.host = "h0"

    with pytest.raises(exception.ObjectActionError, match="host changed"):
        stale.destroy()
    instance.destroy()

    with pytest.raises(exception.ObjectActionError, match="already destroyed"):
        instance.destroy()
    assert instance.deleted is True
    with pytest.raises(exception.InstanceNotFound):
        stored(ctxt)


def test_refreshing_takes_what_the_row_has(ctxt, instance):
    other = stored(ctxt)
    other.vm_state = "active"
    other.save()
    instance.vm_state = "error"

    instance.refresh()

    assert (instance.vm_state, instance.obj_what_changed()) == ("active", set())


def test_in_an_api_cell_a_change_is_sent_to_where_the_instance_lives(tmp_path):
    sent = []

    class Notifier:
        def instance_update_from_api(self, context, instance, *expectations):
            sent.append((instance.obj_what_changed(), *expectations))

    services = make_services(tmp_path, cells_notifier=Notifier(),
                             overrides={("cells", "enable"): True, ("cells", "cell_type"): "api"})
    ctxt = make_context(services)
    instance = objects.Instance(ctxt, uuid="u1", cell_name="api!west")
    instance.create()

    instance.display_name = "new"
    instance.save(expected_task_state=[None])
    instance.display_name = "here only"
    instance.save(replicate=False)

    assert sent == [({"display_name"}, None, [None], False)]
    services.db.dispose()


def test_a_clone_is_independent_and_keeps_what_is_dirty(ctxt, instance):
    instance.metadata["x"] = "y"

    clone = instance.obj_clone()
    instance.metadata["z"] = "1"

    assert clone.obj_what_changed() == {"metadata"}
    assert clone.metadata == {"a": "b", "x": "y"}
    assert clone == instance


def test_changes_of_none_of_the_fields_are_forgotten_by_forgetting_nothing(instance):
    instance.vm_state = "active"

    instance.obj_reset_changes(set())
    before = instance.obj_what_changed()
    instance.obj_reset_changes(["vm_state"])

    assert (before, instance.obj_what_changed()) == ({"vm_state"}, set())


# -- legacy --

def test_the_legacy_dict_survives_json_and_is_read_back(ctxt, instance):
    instance.access_ip_v4 = "10.0.0.1"
    values = json.loads(json.dumps(instance.to_legacy_dict()))

    back = objects.Instance.from_legacy_dict(ctxt, values)

    assert values["name"] == instance.name
    assert values["created_at"] == "2026-11-21T12:00:00.000000"
    assert {"key": "instance_type_flavorid", "value": "2"} in values["system_metadata"]
    assert values["metadata"] == [{"key": "a", "value": "b"}]
    assert values["info_cache"] == {"instance_uuid": "u1", "network_info": "[]"}
    assert (back.system_metadata, back.metadata, back.flavor.name) == ({"image_x": "y"}, {"a": "b"}, "m1.small")
    assert (back.created_at, back.access_ip_v4) == (instance.created_at, "10.0.0.1")
    assert back.obj_what_changed() == set()


def test_flavors_of_a_dict_without_them_come_from_the_prefixed_keys(ctxt):
    back = objects.Instance.from_legacy_dict(ctxt, {
        "uuid": "u1", "unknown": 1, "system_metadata": {
            "image_x": "y", "instance_type_flavorid": "7", "instance_type_memory_mb": "512",
            "instance_type_rxtx_factor": "1.5", "new_instance_type_flavorid": "8"}})

    assert (back.flavor.flavorid, back.flavor.memory_mb, back.flavor.rxtx_factor) == ("7", 512, 1.5)
    assert back.new_flavor.flavorid == "8"
    assert back.system_metadata == {"image_x": "y"}


def test_items_and_attributes_are_the_same(instance):
    instance["vm_state"] = "error"

    assert instance.vm_state == instance["vm_state"] == instance.get("vm_state") == dict(instance.items())["vm_state"]
    assert instance["name"] == instance.name
    with pytest.raises(KeyError):
        _ = instance["colour"]
    with pytest.raises(KeyError):
        instance["colour"] = "red"


@pytest.mark.parametrize("template, name", [
    ("instance-%08x", "instance-0000000a"), ("vm-%(uuid)s", "vm-u1"), ("%(colour)s", "u1"), ("n%d", "n10")])
def test_names_follow_the_template(services, template, name):
    services.conf.set_override("instance_name_template", template)

    assert objects.Instance(make_context(services), id=10, uuid="u1").name == name


def test_saving_names_the_changed_keys_and_leaves_those_of_others(ctxt, instance):
    mine, theirs = stored(ctxt), stored(ctxt)
    theirs.system_metadata["theirs"] = "2"
    theirs.save()

    mine.system_metadata["mine"] = "1"
    del mine.system_metadata["image_x"]
    mine.save()

    assert stored(ctxt).system_metadata == mine.system_metadata == {"mine": "1", "theirs": "2"}
