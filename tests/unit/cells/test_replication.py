"""What other cells tell the top, and how nothing of it gets lost."""

import datetime
import json
import types
import uuid

import pytest
import sqlalchemy

from nova_lite import exception, objects
from nova_lite.cells import digests, outbox, utils
from nova_lite.cells.own_methods import OwnCellsClient
from nova_lite.objects import base, task_states, vm_states, wire
from tests.fixtures import databases
from tests.fixtures.clock import FakeClock
from tests.unit.cells.live import flavor
from tests.unit.cells.tree import eventually

OWNER = "api!west!rack1"


@pytest.fixture(scope="module")
def lasting_tree(make_lasting_tree):
    tree = make_lasting_tree({"api": None, "west": "api", "rack1": "west", "rack2": "west"},
                             overrides={"*": {("cells", "outbox_poll_interval"): 0.05}})
    tree.know_each_other()
    return tree


@pytest.fixture
def tree(lasting_tree):
    lasting_tree.settle()
    lasting_tree.forget()
    return lasting_tree


@pytest.fixture
def instance(tree):
    """An instance of rack1 that the top knows; this is rack1's."""
    below = tree["rack1"].create()
    eventually(lambda: tree["api"].find(below.uuid))
    tree.settle()
    return below


def at_top(tree, instance):
    return tree["api"].find(instance.uuid)


def part(tree, instance, **values):
    """Return an update of an instance: its uuid and these changed fields."""
    told = objects.Instance(tree["rack1"].context(), uuid=instance.uuid)
    told.obj_reset_changes()
    for name, value in values.items():
        setattr(told, name, value)
    return told


def tell(tree, told, cell="rack1", **more):
    """Send an update upwards and wait until the top has processed it."""
    runner, ctxt = tree[cell].runner, tree[cell].context()
    for response in runner.send_broadcast(ctxt, "instance_update_at_top", {"instance": told, **more}, "up",
                                          need_response=True, run_locally=False):
        response.value_or_raise()


def revision_of(tree, instance):
    return tree["api"].db.instance_get_by_uuid(tree["api"].context(), instance.uuid)["replicated_revision"]


def booked(tree, project):
    """Return what the top has booked for a project: {resource: number}."""
    rows = tree["api"].db.quota_usage_get_all_by_project(tree["api"].context(), project)
    return {name: rows[name]["in_use"] for name in ("instances", "ram")}


def network_update(tree, instance, vif_id):
    told = part(tree, instance)
    told.info_cache = objects.InstanceInfoCache(tree["rack1"].context(), instance_uuid=instance.uuid,
                                                network_info=json.dumps([{"id": vif_id, "network": None}]))
    return told


def test_network_information_that_the_top_has_lost_is_no_obstacle(tree, instance):
    api = tree["api"]
    api.db.instance_info_cache_delete(api.context(), instance.uuid)

    tell(tree, network_update(tree, instance, "vif-1"))
    tell(tree, part(tree, instance, vm_state=vm_states.PAUSED))

    assert at_top(tree, instance).vm_state == vm_states.PAUSED


def test_network_information_of_an_instance_that_is_gone_is_ignored(tree, instance):
    tree["api"].db.instance_destroy(tree["api"].context(), instance.uuid, replicate=False)

    tell(tree, network_update(tree, instance, "vif-1"))

    assert at_top(tree, instance).deleted


@pytest.mark.parametrize("in_list", [False, True])
def test_an_update_as_a_dict_of_older_cells_is_applied(tree, instance, in_list):
    network = [{"id": "vif-1", "address": "aa:bb:cc:dd:ee:ff", "network": None}]
    told = {**instance.to_legacy_dict(), "vm_state": vm_states.PAUSED, "id": 4711,
            "system_metadata": [{"key": "a", "value": "b"}],
            "info_cache": {"id": 9, "instance": {}, "network_info": network if in_list else json.dumps(network)}}

    tell(tree, told)

    top = at_top(tree, instance)
    assert (top.vm_state, top.system_metadata, top.display_name) == (vm_states.PAUSED, {"a": "b"}, "vm")
    assert [vif["id"] for vif in top.info_cache.network_info] == ["vif-1"]


def test_an_update_as_a_dict_of_an_older_client_is_applied(tree, instance):
    told = {**instance.to_legacy_dict(), "vm_state": vm_states.SUSPENDED}

    tree["rack1"].api.client.cast(tree["rack1"].context(), "instance_update_at_top", version="1.34",
                                  arguments={"instance": told})

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.SUSPENDED)


def test_an_action_on_a_dict_of_an_older_cell_is_carried_out(tree, instance):
    tree["api"].runner.send_targeted(tree["api"].context(), "pause_instance", {"instance": instance.to_legacy_dict()},
                                     "down", OWNER)

    eventually(lambda: tree["rack1"].compute.called("pause") == [((instance.uuid,), {})])


# -- outbox


def test_a_saved_change_reaches_the_top(tree, instance):
    instance.vm_state = vm_states.PAUSED
    instance.system_metadata = {"a": "b"}
    instance.save()

    top = eventually(lambda: (found := at_top(tree, instance)).vm_state == "paused" and found)
    assert top.system_metadata == {"a": "b"}


def test_network_information_reaches_the_top(tree, instance):
    cache = objects.InstanceInfoCache(tree["rack1"].context(), instance_uuid=instance.uuid)
    cache.network_info = json.dumps([{"id": "vif1", "address": "aa:bb"}])
    cache.save()

    eventually(lambda: "aa:bb" in at_top(tree, instance).info_cache.network_info_text())


def test_a_fault_reaches_the_top_once(tree, instance):
    objects.InstanceFault(tree["rack1"].context(), instance_uuid=instance.uuid, code=500, message="broken",
                          details="d", host="h").create()
    tree.settle()
    tree["rack1"].runner.healer.push(tree["rack1"].context(), instance.uuid)
    tell(tree, part(tree, instance, progress=1))

    eventually(lambda: objects.InstanceFault.get_latest_for_instance(tree["api"].context(), instance.uuid))
    found = objects.InstanceFaultList.get_by_instance_uuids(tree["api"].context(), [instance.uuid])
    assert [(fault.code, fault.message) for fault in found] == [(500, "broken")]


def test_a_deleted_instance_is_deleted_at_the_top(tree, instance):
    instance.destroy()

    eventually(lambda: at_top(tree, instance).deleted)


def bdms_at_top(tree, instance):
    return tree["api"].db.block_device_mapping_get_all_by_instance(tree["api"].context(), instance.uuid)


def test_block_devices_come_change_and_go_at_the_top(tree, instance):
    rack1 = tree["rack1"]
    bdm = objects.BlockDeviceMapping(rack1.context(), instance_uuid=instance.uuid, source_type="volume",
                                     destination_type="volume", volume_id="v1", device_name="/dev/xvdb")
    bdm.create()
    [row] = eventually(lambda: bdms_at_top(tree, instance))
    assert row["volume_id"] == "v1"

    bdm.device_name = "/dev/xvdc"
    bdm.save()
    eventually(lambda: [row["device_name"] for row in bdms_at_top(tree, instance)] == ["/dev/xvdc"])

    bdm.destroy()
    eventually(lambda: bdms_at_top(tree, instance) == [])


def test_D9d_updates_wait_while_the_parent_is_away_and_arrive_in_order(make_live_tree):
    tree = make_live_tree({"api": None, "leaf": "api"}, overrides={"*": {("cells", "outbox_poll_interval"): 0.05}})
    tree.know_each_other()
    leaf = tree["leaf"]
    below = leaf.create()
    eventually(lambda: tree["api"].find(below.uuid))
    tree.settle()
    sending = leaf.parent("api").driver
    sending.send_message_to_cell, original = _refuse, sending.send_message_to_cell
    for state in (vm_states.PAUSED, vm_states.ACTIVE, vm_states.STOPPED):
        below.vm_state = state
        below.save()
    other = leaf.create()
    other.destroy()
    eventually(lambda: leaf.runner.outbox.counts["failed"])
    assert leaf.db.outbox_count(leaf.context()) == 5

    sending.send_message_to_cell = original
    leaf.runner.outbox.kick()

    tree.settle()
    assert tree["api"].find(below.uuid).vm_state == vm_states.STOPPED
    found = tree["api"].find(other.uuid)
    assert found is None or found.deleted


def _refuse(cell, message, server=None):
    raise exception.RpcUnavailable(method="process_message", topic="x", reason="away")


def test_towards_a_reference_parent_updates_go_as_the_public_broadcasts(make_live_tree):
    tree = make_live_tree({"api": None, "leaf": "api"}, overrides={"*": {("cells", "outbox_poll_interval"): 0.05}})
    tree.know_each_other()
    parent = tree["leaf"].parent("api")
    parent.peer_version, parent.full_name = None, None
    tree["leaf"].state.heard_from = lambda *args: None
    sent = []
    original = parent.driver.send_message_to_cell
    parent.driver.send_message_to_cell = lambda cell, message, server=None: (
        sent.append(message.to_wire(for_reference=not cell.is_ours)), original(cell, message, server=server))

    below = tree["leaf"].create()
    objects.BlockDeviceMapping(tree["leaf"].context(), instance_uuid=below.uuid, source_type="volume",
                               destination_type="volume", volume_id="v1", device_name="/dev/xvdb").create()

    eventually(lambda: tree["api"].find(below.uuid))
    tree.settle()
    updates = [message for message in sent if message["method_name"].endswith("_at_top")]
    assert {message["message_type"] for message in updates} == {"broadcast"}
    assert [message["method_name"] for message in updates] == ["instance_update_at_top", "bdm_update_or_create_at_top"]
    assert "revision" in updates[0]["method_kwargs"]
    assert not {"uuid", "revision"} & set(updates[1]["method_kwargs"]["bdm"])


def row(number, uuid_, method, kwargs, revision=None):
    return {"id": number, "instance_uuid": uuid_, "method": method, "payload": json.dumps(kwargs), "revision": revision}


def update(number, uuid_, revision, **fields):
    instance = {"nova_object.name": "Instance", "nova_object.data": {"uuid": uuid_, **fields},
                "nova_object.changes": sorted(fields)}
    return row(number, uuid_, "instance_update_at_top", {"instance": instance}, revision)


def test_D25_successive_updates_of_an_instance_become_one():
    entries = outbox.merged([update(1, "a", 4, vm_state="active", host="h"), update(2, "b", 1, vm_state="paused"),
                             update(3, "a", 5, vm_state="stopped")])

    assert [(entry.instance_uuid, entry.row_ids) for entry in entries] == [("b", [2]), ("a", [1, 3])]
    merged = entries[1].kwargs
    assert merged["revision"] == 5
    assert merged["instance"]["nova_object.data"] == {"uuid": "a", "vm_state": "stopped", "host": "h"}
    assert merged["instance"]["nova_object.changes"] == ["host", "vm_state"]


def test_many_changes_in_a_moment_are_told_of_once(tree):
    told, clock = [], FakeClock()
    client = types.SimpleNamespace(cast=lambda ctxt, method, **how: told.append(method))
    own = OwnCellsClient(tree["rack1"].services.with_(
        clock=clock, rpc=types.SimpleNamespace(client=lambda *args, **kwargs: client)))

    for _ in range(10):
        own.outbox_ready(tree["rack1"].context())
    clock.advance(1)
    own.outbox_ready(tree["rack1"].context())

    assert told == ["outbox_ready"] * 2


def test_what_is_too_long_for_one_message_goes_in_several(tree, instance):
    rack1 = tree["rack1"]
    with rack1.db.writer(rack1.context()):  # so that all of them are there when the first is sent
        for number in range(4):
            told = part(tree, instance, launched_on=str(number))
            told.vcpu_model = wire.OpaqueObject({wire.NAME: "VirtCPUModel", wire.NAMESPACE: "nova", wire.VERSION: "1.0",
                                                 wire.DATA: {"model": str(number) * 400_000}})
            rack1.db.outbox_add(rack1.context(), instance.uuid, "instance_update", "instance_update_at_top",
                                json.dumps(base.to_wire({"instance": told})), revision=100 + number)
    rack1.runner.outbox.kick()

    eventually(lambda: at_top(tree, instance).launched_on == "3")
    tree.settle()
    assert at_top(tree, instance).vcpu_model.values == {"model": "3" * 400_000}


def test_a_batch_that_was_too_much_is_followed_by_smaller_ones(tree, instance):
    outbox_of_rack1 = tree["rack1"].runner.outbox
    sizes = []

    for was_taken in (False, False, False, True, True, True, True):
        outbox_of_rack1._resize(was_taken)
        sizes.append(outbox_of_rack1._size)

    assert sizes == [500, 250, 125, 250, 500, 1000, 1000]


def test_updates_are_not_merged_across_the_end_of_an_instance():
    entries = outbox.merged([update(1, "a", 4, vm_state="active"),
                             row(2, "a", "instance_destroy_at_top", {"instance": {}}, 5),
                             update(3, "a", 6, vm_state="stopped")])

    assert [entry.row_ids for entry in entries] == [[1], [2], [3]]


def test_an_entry_that_cannot_be_applied_does_not_hold_up_the_others(tree, instance):
    rack1 = tree["rack1"]
    rack1.db.outbox_add(rack1.context(), None, "x", "run_compute_api_method", "{}")
    rack1.db.outbox_add(rack1.context(), None, "x", "instance_destroy_at_top", "{}")
    instance.vm_state = vm_states.RESCUED
    instance.save()

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.RESCUED)
    tree.settle()


@pytest.mark.skipif(databases.KIND == "sqlite", reason="SQLite takes texts of any length")
def test_a_value_that_does_not_fit_into_its_column_does_not_hold_up_the_others(tree, instance):
    rack1 = tree["rack1"]
    told = part(tree, instance)
    told.system_metadata = {"long": "x" * 300}
    rack1.db.outbox_add(rack1.context(), instance.uuid, "instance_update", "instance_update_at_top",
                        json.dumps(base.to_wire({"instance": told})), revision=100)
    other = rack1.create()

    eventually(lambda: tree["api"].find(other.uuid))
    tree.settle()


def send_batch(tree, *told):
    """Send updates of rack1 upwards in one batch; return the id of the last one that is done with."""
    entries = [{"id": number, "method": "instance_update_at_top", "kwargs": {"instance": one, "revision": 50 + number}}
               for number, one in enumerate(told, 1)]
    cell = tree["rack1"]
    return cell.runner.send_targeted(cell.context(), "outbox_batch", {"entries": entries}, "up", "rack1!west!api",
                                     need_response=True).value_or_raise()


def test_updates_of_one_batch_are_written_together_and_in_their_order(tree, instance):
    others = [tree["rack1"].create() for _ in range(3)]
    eventually(lambda: all(tree["api"].find(other.uuid) for other in others))
    tree.settle()
    sizes = sizes_of_updates(tree["api"])

    done = send_batch(tree, part(tree, instance, progress=1), *(part(tree, other, progress=7) for other in others),
                      part(tree, instance, progress=2))

    assert done == 5
    assert [at_top(tree, one).progress for one in (instance, *others)] == [2, 7, 7, 7]
    assert sizes == [4, 1]  # the second is of an instance that the first was about


def sizes_of_updates(cell):
    """Return a list that grows by the number of rows of each statement that changes instances."""
    found = []

    @sqlalchemy.event.listens_for(cell.db.store.engines.writer, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith("UPDATE instances"):
            found.append(len(parameters) if executemany else 1)

    return found


def test_an_update_that_cannot_be_applied_spoils_no_other_of_its_batch(tree, instance, monkeypatch):
    other = tree["rack1"].create()
    eventually(lambda: tree["api"].find(other.uuid))
    tree.settle()
    taken = part(tree, other, hostname="taken", progress=7)
    monkeypatch.setattr(tree["api"].conf, "osapi_compute_unique_server_name_scope", "global", raising=False)
    tree["api"].create(hostname="taken")

    done = send_batch(tree, taken, part(tree, instance, progress=8))

    assert done == 2
    assert at_top(tree, instance).progress == 8
    assert at_top(tree, other).progress != 7


def test_what_the_manager_is_told_is_written_down_and_sent(tree, instance):
    tree["rack1"].api.instance_update_at_top(tree["rack1"].context(), part(tree, instance, progress=33))

    eventually(lambda: at_top(tree, instance).progress == 33)


# -- what the top applies


def test_fields_that_the_top_decides_are_never_written_from_below(tree, instance):
    tell(tree, part(tree, instance, display_name="stolen", metadata={"a": "b"}, user_id="thief", progress=5),
         revision=100)

    top = at_top(tree, instance)
    assert (top.display_name, top.user_id, top.metadata, top.progress) == ("vm", "u1", {}, 5)


@pytest.mark.parametrize(("operation", "kwargs"), [
    ("instance_fault_create_at_top", lambda uuid_: {"instance_fault": {
        "instance_uuid": uuid_, "code": 500, "message": "foreign", "details": "", "host": "h"}}),
    ("bdm_update_or_create_at_top", lambda uuid_: {"create": True, "bdm": {
        "instance_uuid": uuid_, "device_name": "/dev/xvdz", "source_type": "blank", "destination_type": "local"}}),
    ("bdm_destroy_at_top", lambda uuid_: {"instance_uuid": uuid_, "device_name": "/dev/xvda", "volume_id": None}),
    ("consoleauth_delete_tokens", lambda uuid_: {"instance_uuid": uuid_})])
def test_D19b_only_the_cell_that_has_an_instance_can_tell_of_its_parts(tree, instance, operation, kwargs):
    api, ctxt = tree["api"], tree["api"].context()
    api.db.block_device_mapping_create(ctxt, {
        "instance_uuid": instance.uuid, "device_name": "/dev/xvda", "source_type": "volume",
        "destination_type": "volume", "volume_id": "v1"}, replicate=False)

    for response in tree["rack2"].runner.send_broadcast(tree["rack2"].context(), operation, kwargs(instance.uuid), "up",
                                                        need_response=True, run_locally=False):
        response.value_or_raise()

    assert [bdm["device_name"] for bdm in api.db.block_device_mapping_get_all_by_instance(ctxt, instance.uuid)] == [
        "/dev/xvda"]
    assert objects.InstanceFault.get_latest_for_instance(ctxt, instance.uuid) is None
    assert api.tokens.calls == []


def test_D19b_only_the_cell_that_has_an_instance_can_tell_of_it(tree, instance):
    tell(tree, part(tree, instance, vm_state=vm_states.ERROR), cell="rack2", revision=100)

    assert at_top(tree, instance).vm_state == vm_states.ACTIVE
    assert tree["api"].runner.counts["foreign_update"]


def test_cells_on_the_way_only_pass_updates_on(tree, instance):
    tell(tree, part(tree, instance, progress=9))

    assert tree["west"].find(instance.uuid) is None


def test_D6_an_older_update_changes_only_what_is_newer_in_it(tree, instance):
    tell(tree, part(tree, instance, vm_state=vm_states.STOPPED), revision=50)

    tell(tree, part(tree, instance, vm_state=vm_states.PAUSED, host="h49"), revision=49)

    assert (at_top(tree, instance).vm_state, at_top(tree, instance).host) == (vm_states.STOPPED, "h49")
    assert revision_of(tree, instance) == 50


def test_D6_an_older_update_that_cannot_be_judged_makes_the_top_ask_for_all(tree, instance):
    rack1 = tree["rack1"]
    first, second = (rack1.db.instance_update(rack1.context(), instance.uuid, values, replicate=False)["revision"]
                     for values in ({"host": "h1"}, {"vm_state": vm_states.STOPPED}))
    tell(tree, part(tree, instance, vm_state=vm_states.STOPPED), revision=second)
    tree["api"].runner.replica._revisions.forget(instance.uuid)

    tell(tree, part(tree, instance, host="h1", vm_state=vm_states.ACTIVE), revision=first)

    eventually(lambda: at_top(tree, instance).host == "h1")
    assert at_top(tree, instance).vm_state == vm_states.STOPPED


def test_an_update_that_comes_twice_is_applied_once(tree, instance):
    tell(tree, part(tree, instance, task_state=None, progress=10), revision=60)
    top = at_top(tree, instance)
    with top.skip_cells_sync():
        top.task_state = task_states.PAUSING
        top.save()

    tell(tree, part(tree, instance, task_state=None, progress=10), revision=60)

    assert at_top(tree, instance).task_state == task_states.PAUSING


@pytest.mark.parametrize(("stored", "incoming", "applied"), [
    ({"vm_state": "active"}, {"vm_state": "building", "progress": 1}, False),
    ({"vm_state": "building"}, {"vm_state": "building", "progress": 1}, True),
    ({"task_state": "rebuilding"}, {"task_state": "rebuild_spawning", "progress": 1}, True),
    ({"task_state": None}, {"task_state": "rebuild_spawning", "progress": 1}, False),
    ({"task_state": "resize_finish"}, {"task_state": "resize_migrated", "progress": 1}, False),
    ({"task_state": "resize_prep"}, {"task_state": "resize_migrated", "progress": 1}, True),
])
def test_without_a_revision_states_follow_each_other_as_in_the_reference(tree, instance, stored, incoming, applied):
    tree["api"].db.instance_update(tree["api"].context(), instance.uuid, stored)

    tell(tree, part(tree, instance, **incoming))

    assert (at_top(tree, instance).progress == 1) is applied


def test_D8_an_instance_unknown_at_the_top_is_created_without_foreign_ids(tree):
    rack1 = tree["rack1"]
    below = objects.Instance(rack1.context(), uuid=str(uuid.uuid4()), user_id="u1", project_id="p1", flavor=flavor(),
                             vm_state=vm_states.ACTIVE, display_name="found", host="h1")
    below.create(replicate=False)

    tell(tree, below, revision=7)

    top = at_top(tree, below)
    assert (top.cell_name, top.display_name, top.host, top.flavor.flavorid) == (OWNER, "found", "h1", "1")
    assert revision_of(tree, below) == 7


def test_D8_a_part_of_an_unknown_instance_makes_the_top_ask_for_all_of_it(tree):
    rack1 = tree["rack1"]
    below = objects.Instance(rack1.context(), uuid=str(uuid.uuid4()), user_id="u1", project_id="p1", flavor=flavor(),
                             vm_state=vm_states.ACTIVE, display_name="found")
    below.create(replicate=False)

    tell(tree, part(tree, below, vm_state=vm_states.PAUSED), revision=7)

    assert eventually(lambda: at_top(tree, below)).display_name == "found"


def test_D8c_an_update_after_the_end_does_not_bring_an_instance_back(tree, instance):
    tree["api"].db.instance_destroy(tree["api"].context(), instance.uuid)

    tell(tree, part(tree, instance, vm_state=vm_states.ACTIVE), revision=500)
    tell(tree, tree["rack1"].find(instance.uuid), revision=501, snapshot=True)

    assert at_top(tree, instance).deleted


def test_destroying_with_nothing_but_a_uuid_works_and_twice_does_no_harm(tree, instance):
    rack1 = tree["rack1"]
    told = objects.Instance(rack1.context(), uuid=instance.uuid)

    for _time in range(2):
        rack1.runner.instance_destroy_at_top(rack1.context(), told)

    eventually(lambda: at_top(tree, instance).deleted)


def test_D9_block_devices_are_matched_by_uuid_then_device_then_volume(tree, instance):
    rack1, api = tree["rack1"], tree["api"]
    for device, volume in (("/dev/xvdb", "v1"), ("/dev/xvdc", "v2")):
        api.db.block_device_mapping_create(api.context(), {
            "instance_uuid": instance.uuid, "device_name": device, "volume_id": volume, "source_type": "volume",
            "destination_type": "volume"})
    first, second = bdms_at_top(tree, instance)

    def change(**values):
        rack1.runner.send_broadcast(rack1.context(), "bdm_update_or_create_at_top", {
            "bdm": {"id": 99, "instance_uuid": instance.uuid, **values}, "create": False}, "up", need_response=True,
            run_locally=False)

    change(uuid=second["uuid"], device_name="/dev/xvdb", volume_id="v2", delete_on_termination=True)
    change(device_name="/dev/none", volume_id="v1", boot_index=3)
    change(device_name="/dev/unheard", volume_id="v9", boot_index=4)

    changed = {row["uuid"]: row for row in bdms_at_top(tree, instance)}
    assert len(changed) == 2
    assert changed[second["uuid"]]["delete_on_termination"]
    assert changed[first["uuid"]]["boot_index"] == 3


def test_D9f_what_an_interface_transferred_reaches_the_top_and_goes_no_further(tree, instance):
    rack1, api = tree["rack1"], tree["api"]
    begin = datetime.datetime(2026, 11, 1)

    rack1.db.bw_usage_update(rack1.context(), uuid=instance.uuid, mac="02:00:00:00:00:01", start_period=begin, bw_in=7,
                             bw_out=8, last_ctr_in=7, last_ctr_out=8, last_refreshed=begin)
    rack1.runner.outbox.kick()

    [row] = eventually(lambda: api.db.bw_usage_get_by_uuids(api.context(), [instance.uuid], begin))
    assert (row["bw_in"], row["bw_out"]) == (7, 8)
    assert api.db.outbox_count(api.context()) == 0
    assert tree["west"].db.bw_usage_get_by_uuids(tree["west"].context(), [instance.uuid], begin) == []


def test_console_tokens_are_deleted_at_the_top(tree, instance):
    tree["rack1"].services.cells_notifier.delete_console_tokens(tree["rack1"].context(), instance.uuid)

    assert eventually(lambda: tree["api"].tokens.called("delete_tokens_for_instance")) == [((instance.uuid,), {})]
    assert tree["west"].tokens.calls == []


# -- key pairs


def test_a_key_pair_is_found_at_the_top(tree):
    api = tree["api"]
    objects.KeyPair(api.context(), user_id="u1", name="k1", public_key="ssh-rsa AAA", fingerprint="f").create()

    found = tree["rack1"].api.get_keypair_at_top(tree["rack1"].context(), "u1", "k1")

    assert (found.name, found.public_key) == ("k1", "ssh-rsa AAA")


def test_a_key_pair_that_is_nowhere_is_not_found(tree):
    with pytest.raises(exception.KeypairNotFound):
        tree["rack1"].api.get_keypair_at_top(tree["rack1"].context(), "u1", "nothing")


def test_D3_a_failure_is_not_taken_for_a_key_pair(tree, monkeypatch):
    def fail(ctxt, user_id, name):
        raise exception.Invalid("the database is away")

    monkeypatch.setattr(tree["api"].db, "key_pair_get", fail)

    with pytest.raises(exception.Invalid):
        tree["rack1"].api.get_keypair_at_top(tree["rack1"].context(), "u1", "k1")


# -- healing


def spoil(tree, instance):
    """Let the top have another idea of an instance."""
    tree["api"].db.instance_update(tree["api"].context(), instance.uuid, {"vm_state": "error", "host": "wrong"})


def is_healed(tree, instance):
    top = at_top(tree, instance)
    return top.vm_state == vm_states.ACTIVE and top.host is None


@pytest.fixture
def booked_instance(tree):
    """As instance, of a project of its own, with what the user-level API books for it."""
    project = str(uuid.uuid4())
    below = tree["rack1"].create(project_id=project)
    eventually(lambda: tree["api"].find(below.uuid))
    tree.settle()
    tree["api"].db.quota_usage_refresh(tree["api"].context(), project)
    assert booked(tree, project) == {"instances": 1, "ram": 512}
    return below


def book(tree, project, deltas):
    """Book as the user-level API does, at once and whatever becomes of it."""
    db, ctxt = tree["api"].db, tree["api"].context()
    expires = tree.clock.utcnow().replace(tzinfo=None) + datetime.timedelta(hours=1)
    limits = dict.fromkeys(deltas, -1)
    db.reservation_commit(ctxt, db.quota_reserve(ctxt, limits, deltas, expires, 0, 0, project), project)


def test_D31_what_was_given_back_for_a_deletion_that_fails_is_taken_again(tree, booked_instance):
    project, db = booked_instance.project_id, tree["api"].db
    db.instance_update(tree["api"].context(), booked_instance.uuid, {"task_state": task_states.DELETING},
                       replicate=False)
    book(tree, project, {"instances": -1, "ram": -512})
    assert booked(tree, project) == {"instances": 0, "ram": 0}

    tell(tree, part(tree, booked_instance, vm_state=vm_states.ERROR, task_state=None))

    assert booked(tree, project) == {"instances": 1, "ram": 512}


def test_D31_what_a_resize_really_came_to_is_booked(tree, booked_instance):
    project = booked_instance.project_id
    book(tree, project, {"ram": 1536})

    tell(tree, part(tree, booked_instance, memory_mb=1024))

    assert booked(tree, project) == {"instances": 1, "ram": 1024}


def test_D31_what_a_cell_has_deleted_by_itself_is_given_back(tree, booked_instance):
    booked_instance.destroy()

    eventually(lambda: booked(tree, booked_instance.project_id) == {"instances": 0, "ram": 0})


def test_D31_what_is_just_being_booked_is_left_alone(tree, booked_instance):
    project, db, ctxt = booked_instance.project_id, tree["api"].db, tree["api"].context()
    expires = tree.clock.utcnow().replace(tzinfo=None) + datetime.timedelta(hours=1)
    db.quota_reserve(ctxt, {"ram": -1}, {"ram": 512}, expires, 0, 0, project)

    tell(tree, part(tree, booked_instance, memory_mb=1024))

    row = db.quota_usage_get_all_by_project(ctxt, project)["ram"]
    assert (row["in_use"], row["reserved"]) == (512, 512)


def test_D7_healing_repairs_every_field(tree, instance):
    spoil(tree, instance)

    tree["rack1"].manager._sync_instance(tree["rack1"].context(), instance)

    eventually(lambda: is_healed(tree, instance))


def test_D7_healing_brings_block_devices_and_the_latest_fault(tree, instance):
    rack1 = tree["rack1"]
    rack1.db.block_device_mapping_create(rack1.context(), {
        "instance_uuid": instance.uuid, "device_name": "/dev/xvdb", "volume_id": "v1", "source_type": "volume",
        "destination_type": "volume"}, replicate=False)
    rack1.db.instance_fault_create(rack1.context(), {
        "instance_uuid": instance.uuid, "code": 404, "message": "m"}, replicate=False)

    rack1.runner.healer.push(rack1.context(), instance.uuid)

    eventually(lambda: [row["volume_id"] for row in bdms_at_top(tree, instance)] == ["v1"])
    eventually(lambda: objects.InstanceFault.get_latest_for_instance(tree["api"].context(), instance.uuid))


def test_D7_a_sweep_finds_what_differs_and_leaves_the_rest(make_live_tree):
    tree = make_live_tree({"api": None, "rack1": "api"})
    tree.know_each_other()
    rack1 = tree["rack1"]
    spoiled, gone, healthy = (rack1.create(uuid=str(uuid.uuid4())) for _number in range(3))
    tree.settle()
    unheard = objects.Instance(rack1.context(), uuid=str(uuid.uuid4()), user_id="u1", project_id="p1",
                               flavor=flavor(), vm_state=vm_states.ACTIVE)
    unheard.create(replicate=False)
    spoil(tree, spoiled)
    rack1.db.instance_destroy(rack1.context(), gone.uuid, replicate=False)
    api = tree["api"]
    healer, before = rack1.runner.healer, api.find(healthy.uuid).updated_at

    differing = healer.sweep(rack1.context())

    assert differing == 3
    assert api.find(healthy.uuid).updated_at == before
    eventually(lambda: is_healed(tree, spoiled) and api.find(gone.uuid).deleted and api.find(unheard.uuid))
    assert healer.sweep(rack1.context()) == 0


def test_a_database_put_back_to_an_earlier_state_is_believed_again(make_live_tree):
    tree = make_live_tree({"api": None, "rack1": "api"})
    tree.know_each_other()
    rack1 = tree["rack1"]
    below = rack1.create()
    tree.settle()
    spoil(tree, below)
    tree["api"].db.instance_update(tree["api"].context(), below.uuid, {"replicated_revision": 900})

    rack1.runner.healer.sweep(rack1.context())

    eventually(lambda: is_healed(tree, below))
    assert rack1.find(below.uuid).revision == 900


def test_fractions_of_a_second_which_do_not_travel_are_no_difference():
    launched_at = datetime.datetime(2026, 1, 1, 12, 0, 5, tzinfo=datetime.UTC)
    exact, travelled = (objects.Instance(uuid=str(uuid.uuid4()), launched_at=launched_at.replace(microsecond=fraction))
                        for fraction in (250_000, 0))

    assert digests.digest(exact) == digests.digest(travelled)


def test_D9c_what_was_deleted_before_its_cell_was_known_is_deleted_in_the_cell_that_tells_of_it(tree):
    api = tree["api"]
    top = api.create(vm_state=vm_states.BUILDING)
    top.destroy()
    below = tree["rack1"].create(uuid=top.uuid)
    tree.settle()

    eventually(lambda: (below.uuid,) in [args for args, _kwargs in tree["rack1"].compute.called("delete")])


def test_D9c_a_comparison_finds_what_was_deleted_before_its_cell_was_known(tree):
    top = tree["api"].create(vm_state=vm_states.BUILDING)
    top.destroy()
    below = tree["rack1"].create(uuid=top.uuid)
    tree.settle()
    tree.forget()

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())

    eventually(lambda: (below.uuid,) in [args for args, _kwargs in tree["rack1"].compute.called("delete")])


def test_an_instance_deleted_by_its_cell_is_not_asked_to_be_deleted_again(tree, instance):
    instance.destroy()
    tree.settle()
    tell(tree, part(tree, instance, vm_state=vm_states.ACTIVE), revision=1)

    assert tree["rack1"].compute.called("delete") == []


def test_D15_of_an_instance_that_two_cells_have_the_later_one_is_deleted(tree, instance):
    twin = tree["rack2"].create(uuid=instance.uuid)
    tree.settle()

    tree["api"].manager._settle_disputes(tree["api"].context())

    called = eventually(lambda: tree["rack2"].compute.called("delete"))
    assert called[0][0] == (twin.uuid,)
    assert tree["rack1"].compute.called("delete") == []


def test_D9c_an_order_to_delete_that_was_lost_is_given_again(tree, monkeypatch):
    top = tree["api"].create(vm_state=vm_states.BUILDING)
    top.destroy()
    with monkeypatch.context() as patch:
        patch.setattr(tree["api"].child("west").driver, "send_message_to_cell", lambda *_args, **_kwargs: None)
        tree["api"].runner.have_deleted(OWNER, top.uuid)
    below = tree["rack1"].create(uuid=top.uuid)
    tree.settle()
    tree.forget()

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())

    eventually(lambda: (below.uuid,) in [args for args, _kwargs in tree["rack1"].compute.called("delete")])


def wants_deleted(tree, instance, seconds_ago):
    """Have the top wait for a deletion that it ordered a while ago."""
    wants(tree, instance, task_states.DELETING, seconds_ago)


def wants(tree, instance, task_state, seconds_ago):
    """Have the top show what it ordered a while ago, while nothing of it gets to the instance's cell."""
    api = tree["api"]
    ago = tree.clock.utcnow().replace(tzinfo=None) - datetime.timedelta(seconds=seconds_ago)
    api.db.instance_update(api.context(), instance.uuid, {"task_state": task_state, "updated_at": ago},
                           replicate=False)


def test_an_order_to_delete_that_was_lost_on_its_way_is_given_again(tree, instance):
    wants_deleted(tree, instance, seconds_ago=120)

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())

    eventually(lambda: (instance.uuid,) in [args for args, _kwargs in tree["rack1"].compute.called("delete")])
    assert at_top(tree, instance).task_state == task_states.DELETING


def test_an_order_to_delete_that_has_just_been_given_is_not_given_again(tree, instance):
    wants_deleted(tree, instance, seconds_ago=0)

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())
    tree.settle()

    assert (instance.uuid,) not in [args for args, _kwargs in tree["rack1"].compute.called("delete")]


def test_a_deletion_under_way_is_not_ordered_again(tree, instance):
    instance.task_state = task_states.DELETING
    instance.save()
    tree.settle()
    wants_deleted(tree, instance, seconds_ago=120)

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())
    tree.settle()

    assert (instance.uuid,) not in [args for args, _kwargs in tree["rack1"].compute.called("delete")]


def test_D15_a_comparison_finds_twins_that_look_the_same(tree, instance):
    tree["rack2"].create(uuid=instance.uuid)
    tree.settle()
    tree["api"].runner.disputes._claims.clear()  # as after a crash of the top

    tree["rack2"].runner.healer.sweep(tree["rack2"].context())
    tree["api"].manager._settle_disputes(tree["api"].context())

    eventually(lambda: (instance.uuid,) in [args for args, _kwargs in tree["rack2"].compute.called("delete")])
    assert (instance.uuid,) not in [args for args, _kwargs in tree["rack1"].compute.called("delete")]


def test_a_twin_that_has_been_deleted_differs_from_nothing(tree, instance):
    twin = tree["rack2"].create(uuid=instance.uuid)
    twin.destroy()
    tree.settle()

    assert tree["rack2"].runner.healer.sweep(tree["rack2"].context()) == 0
    assert not at_top(tree, instance).deleted


def test_a_cell_under_another_name_keeps_its_instances(tree):
    api = tree["api"]
    api.create(uuid=(kept := str(uuid.uuid4())), cell_name="api!west!name-of-old")
    tree["rack1"].create(uuid=kept)
    tree.settle()

    api.manager._settle_disputes(api.context())

    assert tree["rack1"].compute.called("delete") == []


def test_syncing_is_asked_for_from_above(tree, instance):
    spoil(tree, instance)

    tree["api"].api.sync_instances(tree["api"].context(), project_id="p1", updated_since="2001-01-01T00:00:00Z")

    eventually(lambda: is_healed(tree, instance))


def test_D7b_instances_to_sync_come_page_by_page_live_ones_first(make_live_tree):
    tree = make_live_tree({"only": None}, overrides={"*": {("cells", "instance_update_sync_database_limit"): 2}})
    only = tree["only"]
    uuids = [only.create(uuid=str(uuid.uuid4())).uuid for _number in range(5)]
    only.db.instance_destroy(only.context(), uuids[0])
    ctxt = only.context(read_deleted="yes")

    assert list(utils.get_instances_to_sync(ctxt, uuids_only=True)) == [*uuids[1:], uuids[0]]
    assert set(utils.get_instances_to_sync(ctxt, deleted=False, uuids_only=True)) == set(uuids[1:])
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert list(utils.get_instances_to_sync(ctxt, updated_since=later)) == []


def test_D7b_healing_one_by_one_goes_on_where_it_stopped(make_live_tree):
    tree = make_live_tree({"only": None})
    only = tree["only"]
    uuids = {only.create(uuid=str(uuid.uuid4())).uuid for _number in range(3)}
    runs = []

    for _run in range(2):
        pushed = []
        only.runner.healer.heal_some(only.context(), 2, lambda instance, pushed=pushed: pushed.append(instance.uuid))
        runs.append(pushed)

    assert len(runs[0]) == len(runs[1]) == 2
    assert set(runs[0]) | {runs[1][0]} == uuids


def test_digests_of_instances_that_have_not_changed_are_not_computed_again(tree, instance, monkeypatch):
    rack1 = tree["rack1"]
    known, rows = digests.Digests(), [rack1.db.instance_get_by_uuid(rack1.context(), instance.uuid, ())]
    before = known.of(rack1.context(), rows)
    with monkeypatch.context() as patch:
        patch.setattr(digests, "digest", lambda _instance: pytest.fail("computed again"))
        assert known.of(rack1.context(), rows) == before
    instance.host = "other"
    instance.save()

    rows = [rack1.db.instance_get_by_uuid(rack1.context(), instance.uuid, ())]

    assert known.of(rack1.context(), rows)[instance.uuid] != before[instance.uuid]


def give_an_order_that_is_lost(tree, instance, monkeypatch):
    """Have the top order a deletion that never arrives; an update that was on its way takes `deleting` away."""
    api = tree["api"]
    with monkeypatch.context() as patch:
        patch.setattr(api.child("west").driver, "send_message_to_cell", lambda *_args, **_kwargs: None)
        api.runner.terminate_instance(api.context(), at_top(tree, instance))
    assert at_top(tree, instance).task_state is None
    monkeypatch.setattr("nova_lite.cells.deletions._PATIENCE_S", -1)


def deleted_in(cell):
    return [args for args, _kwargs in cell.compute.called("delete")]


def test_an_order_to_delete_that_was_lost_is_given_again_whatever_state_the_top_shows(tree, instance, monkeypatch):
    give_an_order_that_is_lost(tree, instance, monkeypatch)

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())

    eventually(lambda: (instance.uuid,) in deleted_in(tree["rack1"]))


def test_an_order_to_delete_that_a_cell_has_refused_is_not_given_again(tree, instance, monkeypatch):
    give_an_order_that_is_lost(tree, instance, monkeypatch)
    rack1, api = tree["rack1"], tree["api"]

    def refuse(*_args, **_kwargs):
        raise exception.InstanceIsLocked(instance_uuid=instance.uuid)

    monkeypatch.setattr(rack1.compute, "delete", refuse, raising=False)

    rack1.runner.healer.sweep(rack1.context())

    eventually(lambda: api.db.tombstone_get(api.context(), instance.uuid) is None)
    assert rack1.runner.healer.sweep(rack1.context()) == 0


def test_what_was_built_twice_and_deleted_by_its_user_is_deleted_in_both_cells(tree, instance):
    api, rack2 = tree["api"], tree["rack2"]
    api.runner.terminate_instance(api.context(), at_top(tree, instance))
    instance.destroy()
    eventually(lambda: api.find(instance.uuid).deleted)
    rack2.create(uuid=instance.uuid)
    tree.settle()

    rack2.runner.healer.sweep(rack2.context())

    eventually(lambda: (instance.uuid,) in deleted_in(rack2))


def test_what_a_cell_has_lost_is_not_deleted_where_another_one_has_it(tree, instance):
    instance.destroy()
    eventually(lambda: tree["api"].find(instance.uuid).deleted)
    tree["rack2"].create(uuid=instance.uuid)
    tree.settle()

    tree["rack2"].runner.healer.sweep(tree["rack2"].context())
    tree.settle()

    assert (instance.uuid,) not in deleted_in(tree["rack2"])


def faults_at_top(tree, instance):
    api = tree["api"]
    return [fault["message"] for fault in api.db.instance_fault_get_by_instance_uuids(
        api.context(), [instance.uuid])[instance.uuid]]


def test_D9b_an_order_that_was_lost_ends_in_a_fault_and_its_state_is_taken_back(tree, instance):
    wants(tree, instance, task_states.PAUSING, seconds_ago=120)

    tree["rack1"].runner.healer.sweep(tree["rack1"].context())

    eventually(lambda: at_top(tree, instance).task_state is None)
    assert faults_at_top(tree, instance) == ["The order was lost"]


def test_D9b_an_order_that_may_yet_arrive_is_waited_for(tree, instance):
    wants(tree, instance, task_states.PAUSING, seconds_ago=0)

    assert tree["rack1"].runner.healer.sweep(tree["rack1"].context()) == 0
    assert at_top(tree, instance).task_state == task_states.PAUSING


def test_D9b_an_order_that_was_done_is_not_lost_when_only_word_of_it_was(tree, instance):
    wants(tree, instance, task_states.PAUSING, seconds_ago=120)
    rack1 = tree["rack1"]
    rack1.db.instance_update(rack1.context(), instance.uuid, {"vm_state": vm_states.PAUSED}, replicate=False)

    rack1.runner.healer.sweep(rack1.context())

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.PAUSED)
    assert at_top(tree, instance).task_state is None
    assert faults_at_top(tree, instance) == []


def test_what_waits_to_be_told_is_not_compared(tree, instance, monkeypatch):
    rack1 = tree["rack1"]
    spoil(tree, instance)
    monkeypatch.setattr(rack1.runner.outbox, "drain", lambda: False)
    rack1.runner.outbox.enqueue(rack1.context(), instance.uuid, "instance_update_at_top", {})

    assert rack1.runner.healer.sweep(rack1.context()) == 0


@pytest.fixture
def nowhere(tree):
    """An instance that the top believes in a cell that does not have it."""
    return tree["api"].create(cell_name=OWNER, vm_state=vm_states.ERROR)


def test_D8b_what_its_cell_does_not_have_and_is_to_be_deleted_is_deleted_at_the_top(tree, nowhere):
    wants(tree, nowhere, task_states.DELETING, seconds_ago=200)

    tree["api"].manager.lost_orders.end(tree["api"].context())

    assert at_top(tree, nowhere).deleted


def test_D9b_an_order_for_what_its_cell_does_not_have_ends_in_a_fault(tree, nowhere):
    wants(tree, nowhere, task_states.REBOOTING, seconds_ago=200)

    tree["api"].manager.lost_orders.end(tree["api"].context())

    assert at_top(tree, nowhere).task_state is None
    assert faults_at_top(tree, nowhere) == ["The order was lost"]


def test_orders_for_what_its_cell_has_are_left_to_it(tree, instance):
    wants(tree, instance, task_states.DELETING, seconds_ago=200)

    tree["api"].manager.lost_orders.end(tree["api"].context())

    assert at_top(tree, instance).task_state == task_states.DELETING
