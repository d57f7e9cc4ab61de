"""The compute API of an API cell: one message to the instance's cell for each action."""

import pytest

from nova_lite import exception, objects
from nova_lite.cells.notifier import CellsNotifier
from nova_lite.cells.rpcapi import CellsAPI
from nova_lite.compute import cells_api
from nova_lite.objects import task_states, vm_states
from tests.fixtures.one_cell import Listener, OneCell

CELLS_METHODS = (
    "build_instances", "run_compute_api_method", "start_instance", "stop_instance", "reboot_instance",
    "suspend_instance", "resume_instance", "terminate_instance", "soft_delete_instance", "pause_instance",
    "unpause_instance", "revert_resize", "confirm_resize", "reset_network", "inject_network_info", "backup_instance",
    "snapshot_instance", "set_admin_password", "resize_instance", "live_migrate_instance", "rebuild_instance",
    "instance_update_from_api", "instance_delete_everywhere", "get_migrations", "service_get_all", "service_update",
    "service_get_by_compute_host", "proxy_rpc_to_manager", "compute_node_get", "compute_node_get_all",
    "compute_node_stats", "get_host_uptime", "task_log_get_all", "actions_get", "action_get_by_request_id",
    "action_events_get", "service_delete",
)
CELL = "api!west!rack1"


class TopCell(OneCell):
    """An API cell whose nova-cells only listens."""

    def __init__(self, directory, *, listens=True, volume_backend="none", **overrides):
        super().__init__(directory, grouped={
            ("cells", "enable"): True, ("cells", "cell_type"): "api", ("volume", "backend"): volume_backend,
            ("volume", "store_path"): f"{directory}/volumes"}, **overrides)
        client = CellsAPI(self.services)
        self.services = self.services.with_(cells_notifier=CellsNotifier(self.services, client))
        self.api = cells_api.ComputeCellsAPI(self.services, client)
        self.host_api = cells_api.HostAPI(self.services, client)
        self.action_api = cells_api.InstanceActionAPI(self.services, client)
        listener = Listener(CELLS_METHODS)
        listener.RPC_API_VERSION = "1.37"
        self.cells = self.serve("cells", listener, "api") if listens else listener

    def placed(self, **fields):
        return self.instance(cell_name=CELL, **fields)


@pytest.fixture
def top(tmp_path):
    made = TopCell(tmp_path)
    yield made
    made.close()


def told(top):
    """(operation, arguments) of the only message that went to nova-cells."""
    heard = top.cells.heard()
    assert top.cells.has_heard_nothing()
    return heard


def run_method(top):
    """(cell, method, args, kwargs, call) of a compute API method that was sent down."""
    operation, arguments = told(top)
    assert operation == "run_compute_api_method"
    info = arguments["method_info"]
    return arguments["cell_name"], info["method"], info["method_args"][1:], info["method_kwargs"], arguments["call"]


@pytest.mark.parametrize(("operation", "arguments", "vm_state", "message", "task_state"), [
    ("start", (), "stopped", "start_instance", "powering-on"),
    ("stop", (), "active", "stop_instance", "powering-off"),
    ("reboot", ("HARD",), "active", "reboot_instance", "rebooting_hard"),
    ("pause", (), "active", "pause_instance", "pausing"),
    ("unpause", (), "paused", "unpause_instance", "unpausing"),
    ("suspend", (), "active", "suspend_instance", "suspending"),
    ("resume", (), "suspended", "resume_instance", "resuming"),
    ("revert_resize", (), "resized", "revert_resize", "resize_reverting"),
    ("confirm_resize", (), "resized", "confirm_resize", None),
    ("reset_network", (), "active", "reset_network", None),
    ("inject_network_info", (), "active", "inject_network_info", None),
    ("set_admin_password", ("new",), "active", "set_admin_password", "updating_password"),
    ("live_migrate", (True, False, "h2"), "active", "live_migrate_instance", "migrating"),
])
def test_an_action_is_one_message(top, operation, arguments, vm_state, message, task_state):
    instance = top.placed(vm_state=vm_state)

    getattr(top.api, operation)(top.context(), instance, *arguments)

    heard, sent = told(top)
    assert (heard, sent["instance"].uuid, sent["instance"].cell_name) == (message, instance.uuid, CELL)
    stored = top.stored(instance)
    assert (stored.task_state, stored.cell_name) == (task_state, CELL)
    assert top.actions_of(instance) == []


@pytest.mark.parametrize(("operation", "arguments", "vm_state", "sent", "task_state"), [
    ("restore", (), "soft-delete", ("restore", [], {}), "restoring"),
    ("rescue", ("pw",), "active", ("rescue", [], {"rescue_password": "pw"}), "rescuing"),
    ("unrescue", (), "rescued", ("unrescue", [], {}), "unrescuing"),
    ("add_fixed_ip", ("net",), "active", ("add_fixed_ip", ["net"], {}), None),
    ("remove_fixed_ip", ("10.0.0.5",), "active", ("remove_fixed_ip", ["10.0.0.5"], {}), None),
    ("delete_instance_metadata", ("k",), "active", ("delete_instance_metadata", ["k"], {}), None),
    ("update_instance_metadata", ({"a": "1"},), "active",
     ("update_instance_metadata", [{"a": "1"}], {"delete": False}), None),
    ("inject_file", ("/etc/motd", "hi"), "active", ("inject_file", ["/etc/motd", "hi"], {}), None),
    ("evacuate", (f"{CELL}@h2", True), "active", ("evacuate", ["h2", True, None], {}), None),
    ("detach_volume", ({"id": "v1"},), "active", ("detach_volume", [{"id": "v1"}], {}), None),
    ("detach_interface", ("vif-1",), "active", ("detach_interface", ["vif-1"], {}), None),
])
def test_what_has_no_message_of_its_own_is_run_below(top, operation, arguments, vm_state, sent, task_state):
    instance = top.placed(vm_state=vm_state)

    getattr(top.api, operation)(top.context(), instance, *arguments)

    assert run_method(top) == (CELL, *sent, False)
    assert top.stored(instance).task_state == task_state


@pytest.mark.parametrize(("operation", "arguments", "method"), [
    ("get_diagnostics", (), "get_diagnostics"), ("get_console_output", (20,), "get_console_output"),
    ("attach_volume", ("v1", "/dev/xvdb"), "attach_volume"),
    ("attach_interface", ("net", None, None), "attach_interface")])
def test_what_wants_an_answer_waits_for_it(top, operation, arguments, method):
    top.cells.answers["run_compute_api_method"] = "answer"

    assert getattr(top.api, operation)(top.context(), top.placed(), *arguments) == "answer"

    cell, sent, _args, _kwargs, call = run_method(top)
    assert (cell, sent, call) == (CELL, method, True)


def test_metadata_is_known_here_at_once(top):
    instance = top.placed(metadata={"a": "1"})

    assert top.api.update_instance_metadata(top.context(), instance, {"b": "2"}) == {"a": "1", "b": "2"}

    assert top.stored(instance).metadata == {"a": "1", "b": "2"}


def test_a_build_goes_to_the_cells_scheduler(top):
    (instance,), _ = top.api.create(top.context(), top.flavor(), top.image(), display_name="web",
                                    requested_networks=[("net-below", None, None)], security_group=["below"],
                                    block_device_mapping=[{"device_name": "/dev/xvdb", "virtual_name": "ephemeral0"}])

    operation, arguments = told(top)
    sent = arguments["build_inst_kwargs"]
    assert operation == "build_instances"
    assert [one.uuid for one in sent["instances"]] == [instance.uuid]
    assert sent["filter_properties"]["instance_type"].flavorid == "2"
    assert sent["requested_networks"].as_tuples() == [("net-below", None, None)]
    assert sent["security_groups"] == ["below"]
    assert [bdm.device_name for bdm in sent["block_device_mapping"]] == ["/dev/xvdb"]
    assert top.db.block_device_mapping_get_all_by_instance(top.admin(), instance.uuid) == []
    assert top.actions_of(instance) == ["create"]
    assert top.stored(instance).task_state == task_states.SCHEDULING


@pytest.mark.parametrize(("operation", "message", "extra", "task_state"), [
    ("delete", "terminate_instance", {"delete_type": "delete"}, "deleting"),
    ("force_delete", "terminate_instance", {"delete_type": "force_delete"}, "deleting"),
    ("soft_delete", "soft_delete_instance", {}, "soft-deleting")])
def test_a_delete_goes_to_the_cell(top, operation, message, extra, task_state):
    instance = top.placed(vm_state=vm_states.ERROR)
    top.db.quota_usage_refresh(top.admin(), "red")

    getattr(top.api, operation)(top.context(), instance)

    heard, sent = told(top)
    assert (heard, {name: value for name, value in sent.items() if name != "instance"}) == (message, extra)
    assert top.stored(instance).task_state == task_state
    usage = top.db.quota_usage_get_all_by_project(top.admin(), "red")["instances"]
    assert (usage["in_use"], usage["reserved"]) == (0, 0)


@pytest.mark.parametrize(("operation", "kind"), [("delete", "hard"), ("force_delete", "hard"), ("soft_delete", "soft")])
def test_an_instance_that_no_cell_has_announced_is_deleted_everywhere(top, operation, kind):
    instance = top.instance(vm_state=vm_states.BUILDING, host=None)

    getattr(top.api, operation)(top.context(), instance)

    heard, sent = told(top)
    assert (heard, sent["instance"].uuid, sent["delete_type"]) == ("instance_delete_everywhere", instance.uuid, kind)
    with pytest.raises(exception.InstanceNotFound):
        top.stored(instance)


def test_a_cell_that_announces_itself_meanwhile_gets_the_order(top):
    instance = top.instance(vm_state=vm_states.BUILDING, host=None)
    top.db.instance_update(top.admin(), instance.uuid, {"cell_name": CELL})

    top.api.delete(top.context(), instance)

    assert top.cells.heard()[0] == "instance_delete_everywhere"
    operation, sent = told(top)
    assert (operation, sent["instance"].cell_name) == ("terminate_instance", CELL)


def test_an_instance_of_no_known_cell_takes_no_orders(top):
    with pytest.raises(exception.InstanceUnknownCell):
        top.api.pause(top.context(), top.instance())


def test_nothing_is_changed_when_nova_cells_is_not_there(tmp_path):
    top = TopCell(tmp_path, listens=False)
    try:
        instance = top.placed()
        with pytest.raises(exception.RpcUnavailable):
            top.api.pause(top.context(), instance)

        assert top.stored(instance).task_state is None
    finally:
        top.close()


def test_a_resize_leaves_a_record_and_the_quota_here(top):
    instance = top.placed()
    top.db.quota_usage_refresh(top.admin(), "red")

    top.api.resize(top.context(), instance, "3", clean_shutdown=False)

    operation, sent = told(top)
    assert operation == "resize_instance"
    assert (sent["flavor"]["flavorid"], sent["clean_shutdown"]) == ("3", False)
    assert sent["extra_instance_updates"] == {}
    migration = objects.Migration.get_by_instance_and_status(top.admin(), instance.uuid, "finished")
    assert (migration.migration_type, migration.new_instance_type_id) == ("resize", top.flavor("m1.medium").id)
    usage = top.db.quota_usage_get_all_by_project(top.admin(), "red")["cores"]
    assert (usage["in_use"], usage["reserved"]) == (2, 0)


def test_the_record_of_a_resize_that_failed_below_is_closed_by_the_next(top):
    instance = top.placed()
    top.api.resize(top.context(), instance, "3")
    top.db.instance_update(top.admin(), instance.uuid, {"task_state": None})  # as told by the cell

    top.api.resize(top.context(), top.stored(instance), "4")

    finished = objects.MigrationList.get_by_filters(top.admin(), {"instance_uuid": instance.uuid, "status": "finished"})
    assert [one.new_instance_type_id for one in finished] == [top.flavor("m1.large").id]


def test_a_move_goes_down_as_a_resize_to_the_same_flavor(top):
    instance = top.placed()

    top.api.resize(top.context(), instance)

    assert told(top)[1]["flavor"]["flavorid"] == "2"


def test_the_same_flavor_is_no_resize(top):
    with pytest.raises(exception.CannotResizeToSameFlavor):
        top.api.resize(top.context(), top.placed(), "2")


def test_a_build_is_written_down_before_it_is_sent(top):
    (instance,), _ = top.api.create(top.context(), top.flavor(), top.image(), admin_password="secret",
                                    scheduler_hints={"target_cell": CELL})

    order = top.services.db.build_order_of(top.context(), instance.uuid)

    assert order["instance_uuids"] == [instance.uuid]
    assert order["payload"]["ctxt"]["user_id"] == top.context().user_id
    kwargs = objects.from_wire(None, order["payload"]["kwargs"])
    sent = told(top)[1]["build_inst_kwargs"]
    assert kwargs["admin_password"] == sent["admin_password"] == "secret"
    assert kwargs["filter_properties"]["scheduler_hints"] == {"target_cell": CELL}
    assert [one.uuid for one in kwargs["instances"]] == [instance.uuid]
    assert set(kwargs) == set(sent)


def test_a_rebuild_shows_the_new_image_here(top):
    image_id = top.image()
    instance = top.placed()

    top.api.rebuild(top.context(), instance, image_id, "pw", metadata={"a": "b"})

    operation, sent = told(top)
    assert (operation, sent["image_href"], sent["admin_password"]) == ("rebuild_instance", image_id, "pw")
    assert sent["kwargs"] == {"metadata": {"a": "b"}}
    stored = top.stored(instance)
    assert (stored.image_ref, stored.task_state, stored.metadata) == (image_id, "rebuilding", {"a": "b"})


@pytest.mark.parametrize(("operation", "arguments", "message"), [
    ("snapshot", ("snap",), "snapshot_instance"), ("backup", ("snap", "daily", 2), "backup_instance")])
def test_images_are_registered_here_and_filled_below(top, operation, arguments, message):
    instance = top.placed()

    image = getattr(top.api, operation)(top.context(), instance, *arguments)

    heard, sent = told(top)
    assert (heard, sent["image_id"]) == (message, image["id"])
    assert top.services.image_api.show(top.context(), image["id"])["status"] == "queued"


def test_a_console_is_fetched_below_and_authorised_here(top):
    info = {"token": "t-1", "host": "10.0.0.1", "port": 443, "access_url": "http://proxy/?token=t-1",
            "internal_access_path": "/console"}
    top.cells.answers["run_compute_api_method"] = info

    assert top.api.get_vnc_console(top.context(), top.placed(), "novnc") == {"url": "http://proxy/?token=t-1"}

    assert run_method(top)[1:3] == ("get_vnc_connect_info", ["novnc"])
    from nova_lite.console.tokens import hash_of
    assert top.db.console_auth_token_get_valid(top.admin(), hash_of("t-1"))["port"] == 443


@pytest.mark.parametrize(("change", "fields"), [
    (lambda api, ctxt, instance: api.update(ctxt, instance, display_name="other"), {"display_name"}),
    (lambda api, ctxt, instance: api.lock(ctxt, instance), {"locked", "locked_by"})])
def test_changes_without_an_action_are_sent_down(top, change, fields):
    instance = top.placed()

    change(top.api, top.context(), instance)

    operation, sent = told(top)
    assert (operation, sent["admin_state_reset"]) == ("instance_update_from_api", False)
    assert sent["instance"].obj_what_changed() == fields


def test_resetting_the_state_is_sent_down_as_such(top):
    top.api.update_state(top.admin(), top.placed(vm_state=vm_states.ERROR), vm_states.ACTIVE)

    operation, sent = told(top)
    assert (operation, sent["admin_state_reset"]) == ("instance_update_from_api", True)
    assert sent["instance"].vm_state == vm_states.ACTIVE


def test_what_has_no_way_down_is_refused(top):
    with pytest.raises(exception.CellsOperationUnsupported):
        top.api.snapshot_volume_backed(top.context(), top.placed(), {}, "name")
    with pytest.raises(exception.CellsOperationUnsupported, match="prep_resize"):
        top.api._compute.prep_resize(top.context(), top.placed())


def test_a_move_ends_in_its_own_cell(top):
    with pytest.raises(exception.Invalid, match="its own cell"):
        top.api.live_migrate(top.context(), top.placed(), False, False, "api!east@h1")


def test_hosts_are_reached_through_their_cell(top):
    top.cells.answers["proxy_rpc_to_manager"] = "enabled"

    assert top.host_api.set_host_enabled(top.admin(), f"{CELL}@h1", True) == "enabled"

    _, proxied = top.cells.heard()
    assert proxied["topic"] == f"compute.{CELL}@h1"
    assert proxied["rpc_message"] == {"method": "set_host_enabled", "namespace": None, "version": "2.0",
                                      "args": {"enabled": True}}
    operation, sent = told(top)
    assert (operation, sent["params_to_update"]) == ("service_update", {"disabled": False})


def test_a_cell_that_is_not_there_means_a_host_that_is_not(top):
    error = exception.CellRoutingInconsistency(reason="unknown child")
    top.cells.answers.update(proxy_rpc_to_manager=error, service_get_by_compute_host=error)

    with pytest.raises(exception.HostNotFound):
        top.host_api.host_power_action(top.admin(), "api!nowhere@h1", "reboot")
    with pytest.raises(exception.ComputeHostNotFound):
        top.host_api.service_get_by_compute_host(top.admin(), "api!nowhere@h1")


def test_instances_of_a_host_are_those_known_here(top):
    here = top.placed()
    top.instance(cell_name="api!east", host="h1")

    found = top.host_api.instance_get_all_by_host(top.admin(), f"{CELL}@h1")

    assert [one.uuid for one in found] == [here.uuid]


def test_actions_are_asked_of_the_cell_that_has_the_instance(top):
    top.cells.answers["actions_get"] = [{"action": "reboot"}]
    assert top.action_api.actions_get(top.context(), top.placed()) == [{"action": "reboot"}]

    unplaced = top.instance()
    objects.InstanceAction.action_start(top.context(), unplaced.uuid, "create")
    assert [one.action for one in top.action_api.actions_get(top.context(), unplaced)] == ["create"]


def test_a_service_is_forgotten_in_its_cell(top):
    top.host_api.service_delete(top.admin(), f"{CELL}@3")

    operation, arguments = told(top)
    assert (operation, str(arguments["cell_service_id"])) == ("service_delete", f"{CELL}@3")


def test_the_state_of_a_volume_is_looked_at_where_it_is_attached(tmp_path):
    top = TopCell(tmp_path, volume_backend="local")
    volume = top.services.volume_api.create(top.context(), 1, "data", "")
    top.services.volume_api.reserve_volume(top.context(), volume["id"])  # by the cell, or by somebody else
    top.cells.answers["run_compute_api_method"] = "/dev/xvdb"

    assert top.api.attach_volume(top.context(), top.placed(), volume["id"]) == "/dev/xvdb"
    with pytest.raises(exception.VolumeNotFound):
        top.api.attach_volume(top.context(), top.placed(), "11111111-2222-3333-4444-555555555555")
    top.close()
