"""Operations on instances, from the client at the top to the compute API of the owning cell."""

import pytest

from nova_lite import exception, objects
from nova_lite.objects import task_states, vm_states
from tests.unit.cells.live import flavor
from tests.unit.cells.tree import eventually


@pytest.fixture(scope="module")
def lasting_tree(make_lasting_tree):
    return make_lasting_tree({"api": None, "west": "api", "rack1": "west"},
                             overrides={"api": {("cells", "cell_type"): "api"}})


@pytest.fixture
def tree(lasting_tree):
    lasting_tree.settle()
    lasting_tree.forget()
    return lasting_tree


@pytest.fixture
def instance(tree):
    """An instance of rack1, as the top has it; rack1 has it, too."""
    below = tree["rack1"].create()
    tree.settle()
    return eventually(lambda: tree["api"].find(below.uuid))


def ctxt(tree):
    return tree["api"].context()


def test_a_new_instance_below_appears_at_the_top_with_its_cell(tree, instance):
    assert instance.cell_name == "api!west!rack1"
    assert (instance.vm_state, instance.memory_mb, instance.flavor.flavorid) == ("active", 512, "1")
    assert tree["west"].find(instance.uuid) is None


@pytest.mark.parametrize(("method", "arguments", "called", "expected"), [
    ("start_instance", (), "start", ((), {})),
    ("pause_instance", (), "pause", ((), {})),
    ("unpause_instance", (), "unpause", ((), {})),
    ("suspend_instance", (), "suspend", ((), {})),
    ("resume_instance", (), "resume", ((), {})),
    ("soft_delete_instance", (), "soft_delete", ((), {})),
    ("reset_network", (), "reset_network", ((), {})),
    ("inject_network_info", (), "inject_network_info", ((), {})),
    ("reboot_instance", (None, "HARD"), "reboot", ((), {"reboot_type": "HARD"})),
    ("terminate_instance", ([],), "delete", ((), {})),
    ("terminate_instance", ([], None, "force_delete"), "force_delete", ((), {})),
    ("set_admin_password", ("secret",), "set_admin_password", (("secret",), {})),
    ("confirm_resize", (None, "host", None), "confirm_resize", ((), {})),
    ("revert_resize", (None, "host", None), "revert_resize", ((), {})),
    ("live_migrate_instance", ("h2", True, False), "live_migrate", ((True, False, "h2"), {})),
    ("stop_instance", (), "stop", ((), {"do_cast": True, "clean_shutdown": True})),
    ("rebuild_instance", ("pw", [], "image2", "image1", {}, [], False, False, None, False, {"kernel_id": "k"}),
     "rebuild", (("image2", "pw", []), {"preserve_ephemeral": False, "kernel_id": "k"})),
])
def test_an_action_at_the_top_calls_the_compute_api_where_the_instance_is(tree, instance, method, arguments, called,
                                                                           expected):
    getattr(tree["api"].api, method)(ctxt(tree), instance, *arguments)

    [(args, kwargs)] = eventually(lambda: tree["rack1"].compute.called(called))
    assert (args[1:], kwargs) == expected
    assert args[0] == instance.uuid
    assert tree["west"].compute.calls == tree["api"].compute.calls == []


def test_a_resize_names_the_flavor_by_its_flavorid(tree, instance):
    rack1 = tree["rack1"]
    rack1.db.flavor_create(rack1.context(), {
        "name": "big", "flavorid": "big", "memory_mb": 4096, "vcpus": 2, "root_gb": 9, "ephemeral_gb": 0, "swap": 0,
        "rxtx_factor": 1.0})

    tree["api"].api.resize_instance(ctxt(tree), instance, {"auto_disk_config": True}, {}, flavor(flavorid="big"), None)

    [(_args, kwargs)] = eventually(lambda: tree["rack1"].compute.called("resize"))
    assert kwargs == {"flavor_id": "big", "clean_shutdown": True, "auto_disk_config": True}


def test_a_flavor_unknown_below_travels_with_the_resize(tree, instance):
    tree["api"].api.resize_instance(ctxt(tree), instance, {}, {}, flavor(flavorid="only-up"), None)

    [(_args, kwargs)] = eventually(lambda: tree["rack1"].compute.called("resize"))
    assert kwargs["flavor"]["flavorid"] == "only-up"


def test_stopping_can_be_waited_for(tree, instance):
    tree["rack1"].compute.results["stop"] = "stopped"

    assert tree["api"].api.stop_instance(ctxt(tree), instance, do_cast=False) == "stopped"


def test_D13_stopping_an_instance_of_no_known_cell_says_so(tree):
    lost = tree["api"].create()

    with pytest.raises(exception.InstanceUnknownCell):
        tree["api"].manager.stop_instance(ctxt(tree), lost, do_cast=False)
    assert tree["api"].manager.stop_instance(ctxt(tree), lost) is None


def test_D19_only_a_way_of_deleting_can_be_named_as_one(tree, instance):
    response = tree["api"].runner.send_targeted(
        ctxt(tree), "terminate_instance", {"instance": instance, "delete_type": "rebuild"}, "down", instance.cell_name,
        need_response=True)
    assert isinstance(response.error, exception.Invalid)
    assert tree["rack1"].compute.calls == []


def test_D8b_an_instance_missing_below_vanishes_at_the_top(tree, instance):
    rack1 = tree["rack1"]
    rack1.db.instance_destroy(rack1.context(), instance.uuid, replicate=False)

    tree["api"].api.pause_instance(ctxt(tree), instance)

    eventually(lambda: tree["api"].find(instance.uuid).deleted)


@pytest.mark.parametrize("method", ["snapshot_instance", "instance_update_from_api"])
def test_D8b_every_operation_notices_a_missing_instance(tree, instance, method):
    rack1, api = tree["rack1"], tree["api"]
    rack1.db.instance_destroy(rack1.context(), instance.uuid, replicate=False)
    instance.display_name = "changed"

    if method == "snapshot_instance":
        api.api.snapshot_instance(ctxt(tree), instance, "image1")
    else:
        api.api.instance_update_from_api(ctxt(tree), instance, None, None, False)

    eventually(lambda: api.find(instance.uuid).deleted)


def test_D9b_a_refused_action_clears_the_state_the_top_had_hoped_for(tree, instance):
    api = tree["api"]
    with instance.skip_cells_sync():
        instance.task_state = task_states.PAUSING
        instance.save()
    tree["rack1"].compute.results["pause"] = exception.InstanceInvalidState(
        attr="vm_state", instance_uuid=instance.uuid, state="active", method="pause")

    api.api.pause_instance(ctxt(tree), instance)

    eventually(lambda: api.find(instance.uuid).task_state is None)
    fault = eventually(lambda: objects.InstanceFault.get_latest_for_instance(ctxt(tree), instance.uuid))
    assert "pause" in fault.details


def test_D9e_a_change_of_name_goes_down_and_is_not_echoed(tree, instance):
    instance.display_name = "renamed"

    instance.save()

    eventually(lambda: tree["rack1"].find(instance.uuid).display_name == "renamed")
    assert tree["rack1"].db.outbox_count(tree["rack1"].context()) == 0


@pytest.mark.parametrize(("reset", "expected"), [(False, "active"), (True, "error")])
def test_states_go_down_only_when_an_administrator_resets_them(tree, instance, reset, expected):
    instance.vm_state = vm_states.ERROR
    instance.display_name = "renamed"
    instance.metadata = {"k": "v"}

    instance.save(admin_state_reset=reset)

    below = eventually(lambda: (found := tree["rack1"].find(instance.uuid)).display_name == "renamed" and found)
    assert below.vm_state == expected
    assert below.metadata == {}


def test_an_image_is_taken_with_state_action_and_request_to_the_host(tree):
    rack1 = tree["rack1"]
    below = rack1.create(host="h1", node="h1")
    tree.settle()
    requests = []

    class Host:
        version = "2.27"
        remote_methods = frozenset(("snapshot_instance",))

        def snapshot_instance(self, ctxt, image_id, instance, image_type="snapshot", backup_type=None, rotation=None):
            requests.append((image_id, instance["uuid"], image_type, backup_type, rotation))

    server = rack1.rpc.server("compute", [Host()], server_name="h1", bind=rack1.services)
    server.start()
    try:
        instance = eventually(lambda: tree["api"].find(below.uuid))
        tree["api"].api.backup_instance(ctxt(tree), instance, "image1", "daily", 2)
        eventually(lambda: requests)
    finally:
        server.stop()
        server.wait(5)

    assert requests == [("image1", below.uuid, "backup", "daily", 2)]
    assert rack1.find(below.uuid).task_state == task_states.IMAGE_BACKUP
    [action] = tree["api"].api.actions_get(ctxt(tree), instance)
    assert action["action"] == "createBackup"
    tree.settle()


def test_actions_are_asked_of_the_owning_cell(tree, instance):
    rack1 = tree["rack1"]
    objects.InstanceAction.action_start(rack1.context(request_id="req-1"), instance.uuid, "pause")

    [action] = tree["api"].api.actions_get(ctxt(tree), instance)

    assert (action["action"], action["request_id"]) == ("pause", "req-1")
    same = tree["api"].api.action_get_by_request_id(ctxt(tree), instance, "req-1")
    assert same["action"] == "pause"
    assert tree["api"].api.action_events_get(ctxt(tree), instance, same["id"]) == []


def test_actions_of_an_instance_without_a_cell_are_refused(tree):
    with pytest.raises(exception.InstanceUnknownCell):
        tree["api"].api.actions_get(ctxt(tree), tree["api"].create())


def test_a_method_of_the_compute_api_runs_where_the_instance_is(tree, instance):
    tree["rack1"].compute.results["get_diagnostics"] = {"cpu": 1}

    result = tree["api"].api.call_compute_api_method(ctxt(tree), instance.cell_name, "get_diagnostics", instance.uuid)

    assert result == {"cpu": 1}


@pytest.mark.parametrize("method", ["_private", "services", "create", "shelve", "get_all"])
def test_D19_only_listed_methods_of_the_compute_api_can_be_run(tree, instance, method):
    with pytest.raises(exception.CellServiceAPIMethodNotFound):
        tree["api"].api.call_compute_api_method(ctxt(tree), instance.cell_name, method, instance.uuid)
    assert tree["rack1"].compute.calls == []


@pytest.mark.parametrize("method", ["shelve", "swap_volume", "external_instance_event"])
def test_D30_what_no_cell_can_do_leaves_a_fault_rather_than_nothing(tree, instance, method):
    tree["api"].api.cast_compute_api_method(ctxt(tree), instance.cell_name, method, instance.uuid)

    fault = eventually(lambda: objects.InstanceFault.get_latest_for_instance(ctxt(tree), instance.uuid))
    assert f"{method} is not supported" in fault.message


def test_D19_update_from_another_cell_reaches_harmless_fields_only(tree, instance):
    with pytest.raises(exception.Invalid):
        tree["api"].api.call_compute_api_method(ctxt(tree), instance.cell_name, "update", instance.uuid, host="h9")


def test_running_a_method_on_an_unknown_instance_removes_it_at_the_top(tree, instance):
    rack1 = tree["rack1"]
    rack1.db.instance_destroy(rack1.context(), instance.uuid, replicate=False)

    with pytest.raises(exception.InstanceNotFound):
        tree["api"].api.call_compute_api_method(ctxt(tree), instance.cell_name, "get_diagnostics", instance.uuid)

    eventually(lambda: tree["api"].find(instance.uuid).deleted)


def test_deleting_everywhere_acts_below_but_not_at_the_top(tree, instance):
    tree["api"].api.instance_delete_everywhere(ctxt(tree), instance, "hard")

    eventually(lambda: tree["rack1"].compute.called("delete"))
    assert tree["api"].compute.calls == tree["west"].compute.calls == []


def test_D9c_what_was_deleted_everywhere_is_not_built_afterwards(tree, caplog):
    caplog.set_level("INFO")
    api = tree["api"]
    unborn = api.create(vm_state=vm_states.BUILDING)

    api.api.instance_delete_everywhere(ctxt(tree), unborn, "hard")
    eventually(lambda: tree["rack1"].db.tombstone_get(tree["rack1"].context(), unborn.uuid))
    api.api.build_instances(ctxt(tree), instances=[unborn], image={}, filter_properties={"instance_type": flavor()})

    eventually(lambda: "deleted meanwhile" in caplog.text)
    assert tree["rack1"].scheduler.builds == []


def test_an_instance_without_network_information_can_still_be_deleted(tree, instance):
    rack1 = tree["rack1"]
    rack1.db.instance_info_cache_delete(rack1.context(), instance.uuid)

    tree["api"].api.terminate_instance(ctxt(tree), instance, [])

    eventually(lambda: (instance.uuid,) in [args for args, _kwargs in rack1.compute.called("delete")])
