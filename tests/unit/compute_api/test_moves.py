"""Another size, another host, another disk."""

import pytest

from nova_lite import exception, objects
from nova_lite.objects import task_states, vm_states
from nova_lite.rpc.client import RpcClient
from tests.fixtures.one_cell import OneCell


@pytest.fixture
def scheduler(cell):
    return cell.listen_to_the_scheduler()


def usage(cell, resource):
    row = cell.db.quota_usage_get_all_by_project(cell.admin(), "red")[resource]
    return row["in_use"], row["reserved"]


def counted(cell, **fields):
    instance = cell.instance(**fields)
    cell.db.quota_usage_refresh(cell.admin(), "red")
    return instance


def resized(cell, *, old="m1.small", new="m1.medium"):
    """An instance that waits for its resize to be confirmed."""
    instance = counted(cell, flavor=new, vm_state=vm_states.RESIZED, host="h2")
    instance.old_flavor = cell.flavor(old)
    instance.save()
    migration = objects.Migration(cell.admin(), instance_uuid=instance.uuid, source_compute="h1", dest_compute="h2",
                                  status="finished", migration_type="resize")
    migration.create()
    return instance, migration


def test_a_resize_reserves_what_it_adds_and_asks_the_scheduler(cell, scheduler):
    instance = counted(cell, image_ref=cell.image(properties={"os_type": "linux"}))

    cell.api.resize(cell.context(), instance, "3")

    order, arguments = scheduler.heard()
    assert order == "prep_resize"
    assert arguments["instance_type"]["name"] == "m1.medium"
    assert arguments["image"]["properties"] == {"os_type": "linux"}
    assert arguments["filter_properties"] == {"ignore_hosts": ["h1"]}
    assert len(arguments["reservations"]) == 2
    assert (usage(cell, "cores"), usage(cell, "ram")) == ((1, 1), (2048, 2048))
    assert cell.stored(instance).task_state == task_states.RESIZE_PREP
    assert cell.actions_of(instance) == ["resize"]


def test_a_smaller_flavor_reserves_nothing(cell, scheduler):
    instance = counted(cell, flavor="m1.large")

    cell.api.resize(cell.context(), instance, "1")

    assert scheduler.heard()[1]["reservations"] is None


def test_without_a_flavor_the_instance_moves(cell, scheduler):
    instance = counted(cell)

    cell.api.resize(cell.context(), instance)

    assert scheduler.heard()[1]["instance_type"]["name"] == "m1.small"
    assert cell.actions_of(instance) == ["migrate"]


def test_the_shutdown_may_be_hard(cell, scheduler):
    cell.api.resize(cell.context(), counted(cell), "3", clean_shutdown=False)

    assert scheduler.heard()[1]["request_spec"]["clean_shutdown"] is False


def test_when_the_image_is_gone_what_is_remembered_of_it_serves(cell, scheduler):
    instance = counted(cell, image_ref="gone", system_metadata={"image_os_type": "linux"})

    cell.api.resize(cell.context(), instance, "3")

    assert scheduler.heard()[1]["image"] == {"id": "gone", "properties": {"os_type": "linux"}}


@pytest.mark.parametrize(("flavor_id", "error"), [
    ("2", exception.CannotResizeToSameFlavor), ("no-such", exception.FlavorNotFound)])
def test_a_flavor_that_makes_no_sense_is_refused(cell, flavor_id, error):
    with pytest.raises(error):
        cell.api.resize(cell.context(), counted(cell), flavor_id)


def test_a_resize_beyond_the_quota_is_refused(cell, scheduler):
    cell.db.quota_create(cell.admin(), "red", "cores", 1)

    with pytest.raises(exception.TooManyInstances) as caught:
        cell.api.resize(cell.context(), counted(cell), "3")

    assert caught.value.kwargs["resource"] == "cores"


def test_a_resize_that_was_not_sent_costs_nothing(cell):
    instance = counted(cell)

    with pytest.raises(exception.RpcUnavailable):
        cell.api.resize(cell.context(), instance, "3")

    assert usage(cell, "cores") == (1, 0)
    assert cell.stored(instance).task_state is None


def test_a_flavor_unknown_here_is_taken_from_the_message(cell, scheduler):
    flavor = {**cell.flavor("m1.medium").to_dict(), "flavorid": "special", "name": "special", "memory_mb": 3000}

    cell.api.resize(cell.context(), counted(cell), "special", flavor=flavor)

    assert scheduler.heard()[1]["instance_type"]["memory_mb"] == 3000


def test_confirming_goes_to_the_source(cell):
    source = cell.add_host("h1")
    instance, migration = resized(cell, old="m1.medium", new="m1.small")

    cell.api.confirm_resize(cell.context(), instance)

    order, arguments = source.heard()
    assert (order, arguments["migration"]["id"]) == ("confirm_resize", migration.id)
    assert len(arguments["reservations"]) == 2  # what the smaller flavor gives back
    assert objects.Migration.get_by_id(cell.admin(), migration.id).status == "confirming"
    assert cell.actions_of(instance) == ["confirmResize"]


def test_reverting_goes_to_the_destination(cell):
    dest = cell.add_host("h2")
    instance, migration = resized(cell)

    cell.api.revert_resize(cell.context(), instance)

    order, arguments = dest.heard()
    assert (order, arguments["migration"]["id"]) == ("revert_resize", migration.id)
    assert len(arguments["reservations"]) == 2  # what the larger flavor had added
    assert cell.stored(instance).task_state == task_states.RESIZE_REVERTING


@pytest.mark.parametrize(("is_away", "task_state"), [(True, None), (False, task_states.MIGRATING)])
def test_an_order_without_an_answer_is_taken_back_where_no_broker_can_have_it(cell, monkeypatch, is_away, task_state):
    def call(*args, **kwargs):
        raise exception.RpcTimeout(method="live_migration", topic="scheduler", timeout_s=1)

    def check(timeout_s):
        if is_away:
            raise exception.RpcUnavailable(method="probe", topic="probe", reason="connection refused")

    monkeypatch.setattr(RpcClient, "call", call)
    monkeypatch.setattr(cell.services.rpc, "check", check)
    instance = cell.instance()

    with pytest.raises(exception.RpcTimeout):
        cell.api.live_migrate(cell.context(), instance, None, None, None)

    assert cell.stored(instance).task_state == task_state


@pytest.mark.parametrize("operation", ["confirm_resize", "revert_resize"])
def test_what_was_not_sent_can_be_asked_for_again(cell, operation):
    cell.add_host("h1", serves=False)
    cell.add_host("h2", serves=False)
    instance, migration = resized(cell)

    for _ in range(2):
        with pytest.raises(exception.RpcUnavailable):
            getattr(cell.api, operation)(cell.context(), instance)

    assert objects.Migration.get_by_id(cell.admin(), migration.id).status == "finished"
    assert cell.stored(instance).task_state is None


def test_an_order_that_older_hosts_do_not_know_leaves_the_instance_as_it_was(tmp_path):
    cell = OneCell(tmp_path, grouped={("upgrade_levels", "compute"): "2.10"})
    cell.add_host("h1")
    instance = cell.instance(vm_state=vm_states.SOFT_DELETED)

    with pytest.raises(exception.RpcVersionCapError):
        cell.api.restore(cell.context(), instance)

    assert cell.stored(instance).task_state is None
    cell.close()


def test_C12_a_move_that_failed_at_its_destination_can_be_taken_back(cell):
    dest = cell.add_host("h2")
    instance, migration = resized(cell)
    migration.status = "error"
    migration.save()

    cell.api.revert_resize(cell.context(), instance)

    assert dest.heard()[0] == "revert_resize"
    assert objects.Migration.get_by_id(cell.admin(), migration.id).status == "reverting"


def test_a_move_that_failed_before_it_left_has_no_way_back(cell):
    instance, migration = resized(cell)
    migration.update({"status": "error", "dest_compute": "h3"})
    migration.save()

    with pytest.raises(exception.MigrationNotFoundByStatus):
        cell.api.revert_resize(cell.context(), instance)


@pytest.mark.parametrize("operation", ["confirm_resize", "revert_resize"])
def test_without_a_finished_move_there_is_nothing_to_settle(cell, operation):
    with pytest.raises(exception.MigrationNotFoundByStatus):
        getattr(cell.api, operation)(cell.context(), counted(cell, vm_state=vm_states.RESIZED))


def test_a_rebuild_takes_over_the_new_image(cell):
    host = cell.add_host("h1")
    old, new = cell.image(), cell.image(properties={"os_type": "windows", "kernel_id": "k"})
    instance = cell.instance(image_ref=old, system_metadata={"image_os_type": "linux", "image_x": "1", "own": "kept"})

    cell.api.rebuild(cell.context(), instance, new, "pw", [["/a", "AAAA"]], display_name="other", tag=None)

    order, arguments = host.heard()
    assert order == "rebuild_instance"
    assert (arguments["image_ref"], arguments["orig_image_ref"], arguments["new_pass"]) == (new, old, "pw")
    assert arguments["orig_sys_metadata"] == {"image_os_type": "linux", "image_x": "1", "own": "kept"}
    stored = cell.stored(instance)
    assert (stored.image_ref, stored.kernel_id, stored.display_name) == (new, "k", "other")
    assert (stored.system_metadata["image_os_type"], stored.system_metadata["own"]) == ("windows", "kept")
    assert "image_x" not in stored.system_metadata
    assert stored.task_state == task_states.REBUILDING


@pytest.mark.parametrize(("kwargs", "error"), [
    ({"preserve_ephemeral": True}, exception.Invalid), ({"host": "elsewhere"}, exception.Invalid),
    ({"metadata": {"": ""}}, exception.InvalidMetadata)])
def test_a_rebuild_that_makes_no_sense_changes_nothing(cell, kwargs, error):
    instance = cell.instance()

    with pytest.raises(error):
        cell.api.rebuild(cell.context(), instance, cell.image(), None, **kwargs)

    assert cell.stored(instance).task_state is None


def test_a_rebuild_that_was_not_sent_leaves_the_old_image(cell):
    instance = cell.instance(system_metadata={"image_os_type": "linux"})

    with pytest.raises(exception.RpcUnavailable):
        cell.api.rebuild(cell.context(), instance, cell.image(), None)

    stored = cell.stored(instance)
    assert (stored.image_ref, stored.task_state) == ("image-1", None)
    assert stored.system_metadata == {"image_os_type": "linux"}


def test_an_instance_of_a_dead_host_is_evacuated(cell):
    cell.add_host("h1", up=False)
    target = cell.add_host("h2")
    instance = cell.instance()

    cell.api.evacuate(cell.admin(), instance, "h2", True, "pw")

    order, arguments = target.heard()
    assert order == "rebuild_instance"
    assert (arguments["recreate"], arguments["on_shared_storage"], arguments["image_ref"]) == (True, True, None)
    assert arguments["migration"]["migration_type"] == "evacuation"
    (migration,) = cell.api.get_migrations(cell.admin(), {"instance_uuid": instance.uuid})
    assert (migration.status, migration.source_compute, migration.dest_compute) == ("accepted", "h1", "h2")


@pytest.mark.parametrize(("source_up", "target", "error"), [
    (True, "h2", exception.ComputeServiceUnavailable), (False, "never-seen", exception.HostNotFound),
    (False, "api!elsewhere@h2", exception.Invalid)])
def test_an_evacuation_that_makes_no_sense_is_refused(cell, source_up, target, error):
    cell.add_host("h1", up=source_up)
    cell.add_host("h2")
    instance = cell.instance()

    with pytest.raises(error):
        cell.api.evacuate(cell.admin(), instance, target, True)

    assert cell.stored(instance).task_state is None


def test_an_evacuation_that_was_not_sent_is_recorded_as_failed(cell):
    cell.add_host("h1", up=False, serves=False)
    cell.add_host("h2", serves=False)
    instance = cell.instance()

    with pytest.raises(exception.RpcUnavailable):
        cell.api.evacuate(cell.admin(), instance, "h2", True)

    (migration,) = cell.api.get_migrations(cell.admin(), {"instance_uuid": instance.uuid})
    assert migration.status == "error"
    assert cell.stored(instance).task_state is None


def test_a_live_migration_is_checked_by_the_scheduler(cell, scheduler):
    instance = cell.instance()

    cell.api.live_migrate(cell.admin(), instance, True, False, "api@h2")

    order, arguments = scheduler.heard()
    assert (order, arguments["dest"], arguments["block_migration"]) == ("live_migration", "h2", True)
    assert cell.stored(instance).task_state == task_states.MIGRATING


def test_a_rescue_says_what_it_is_booted_from(cell):
    host = cell.add_host("h1")
    image_id = cell.image()
    instance = cell.instance()

    cell.api.rescue(cell.context(), instance, "pw", image_id, clean_shutdown=False)

    order, arguments = host.heard()
    assert (order, arguments["rescue_password"]) == ("rescue_instance", "pw")
    assert (arguments["rescue_image_ref"], arguments["clean_shutdown"]) == (image_id, False)


def test_what_boots_from_a_volume_is_not_rescued(cell):
    with pytest.raises(exception.InstanceNotRescuable):
        cell.api.rescue(cell.context(), cell.instance(image_ref=""))


def test_a_snapshot_inherits_what_its_image_said(cell):
    host = cell.add_host("h1")
    instance = cell.instance(system_metadata={"image_os_type": "linux", "image_min_ram": "512",
                                              "image_disk_format": "vhd", "image_bittorrent": "x"})

    image = cell.api.snapshot(cell.context(), instance, "snap", {"mine": "1"})

    order, arguments = host.heard()
    assert (order, arguments["image_id"], arguments["image_type"]) == ("snapshot_instance", image["id"], "snapshot")
    assert (image["status"], image["min_ram"], image["min_disk"]) == ("queued", 512, 20)
    assert image["properties"] == {"os_type": "linux", "mine": "1", "instance_uuid": instance.uuid,
                                   "user_id": "alice", "image_type": "snapshot"}
    assert cell.stored(instance).task_state == task_states.IMAGE_SNAPSHOT
    assert cell.actions_of(instance) == ["createImage"]


def test_a_backup_says_how_many_are_kept(cell):
    host = cell.add_host("h1")

    image = cell.api.backup(cell.context(), cell.instance(), "b", "daily", 3)

    arguments = host.heard()[1]
    assert (arguments["backup_type"], arguments["rotation"], arguments["image_type"]) == ("daily", 3, "backup")
    assert image["properties"]["backup_type"] == "daily"
    with pytest.raises(exception.RotationRequiredForBackup):
        cell.api.backup(cell.context(), cell.instance(), "b", "daily", None)


def test_a_snapshot_that_was_not_ordered_leaves_no_image(cell):
    instance = cell.instance()

    with pytest.raises(exception.RpcUnavailable):
        cell.api.snapshot(cell.context(), instance, "snap")

    assert cell.services.image_api.detail(cell.admin()) == []
    assert cell.stored(instance).task_state is None


def test_a_new_password_is_set(cell):
    host = cell.add_host("h1")
    instance = cell.instance()

    cell.api.set_admin_password(cell.context(), instance, "new")

    assert host.heard()[1]["new_pass"] == "new"


@pytest.mark.parametrize(("operation", "arguments", "order"), [
    ("inject_file", ("/etc/motd", "hi"), "inject_file"), ("add_fixed_ip", ("net",), "add_fixed_ip_to_instance"),
    ("remove_fixed_ip", ("10.0.0.2",), "remove_fixed_ip_from_instance"), ("reset_network", (), "reset_network"),
    ("inject_network_info", (), "inject_network_info"), ("attach_interface", ("net", None, None), "attach_interface"),
    ("detach_interface", ("vif",), "detach_interface"), ("get_diagnostics", (), "get_diagnostics"),
    ("get_console_output", (10,), "get_console_output")])
def test_what_changes_no_state_is_passed_on(cell, operation, arguments, order):
    host = cell.add_host("h1")
    host.answers[order] = {"answer": 1}

    getattr(cell.api, operation)(cell.context(), cell.instance(), *arguments)

    assert host.heard()[0] == order


def test_the_raw_console_is_for_the_cell_above(cell):
    host = cell.add_host("h1")
    host.answers["get_vnc_console"] = {"token": "t", "host": "h", "port": 1, "access_url": "u"}

    assert cell.api.get_vnc_connect_info(cell.context(), cell.instance(), "novnc")["token"] == "t"
