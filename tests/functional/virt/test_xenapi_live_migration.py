import contextlib
import threading

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.virt.xenapi.tasks import TaskTimeout
from nova_lite.xensim import Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_bench import IMAGE_B, PLUGINS, disk_digest, make_network_info, vbds


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    simulator = Simulator(hosts=2, state_dir=str(tmp_path_factory.mktemp("pool")), name="pool")
    simulator.start()
    session = XenAPISession(simulator.url, simulator.username, simulator.password)
    sr_ref = session.call_xenapi("SR.create", session.host_ref, {"server": "10.0.0.5", "serverpath": "/srv"}, "0",
                                 "Shared storage", "", "nfs", "user", True, {})
    session.call_xenapi("pool.set_default_SR", session.call_xenapi("pool.get_all")[0], sr_ref)
    session.close()
    yield simulator
    simulator.stop()


@pytest.fixture
def source(pool, make_bench):
    yield make_bench(at=pool)
    pool.control.clear()


@pytest.fixture
def destination(pool, make_bench, source):
    bench = make_bench(connection_url=pool.urls[1], at=None)
    bench.simulator = pool
    return bench


class Manager:
    """Remembers which of the two ends the driver called."""

    def __init__(self):
        self.called = []

    def post(self, context, instance, dest, block_migration, migrate_data):
        self.called.append("post")

    def recover(self, context, instance, dest, block_migration, migrate_data):
        self.called.append("recover")


def migrate(source, instance, migrate_data):
    manager = Manager()
    with contextlib.suppress(exception.MigrationError):
        source.driver.live_migration(None, instance, "compute-2", manager.post, manager.recover, False, migrate_data)
    return manager.called


def test_a_member_of_a_pool_manages_its_own_host_through_the_master(source, destination):
    assert destination.vmops._session.is_slave
    assert destination.vmops._session.host_ref != source.vmops._session.host_ref
    instance = destination.spawn()
    assert destination.vm(instance)["resident_on"] == destination.vmops._session.host_ref
    assert instance["name"] in destination.vmops.list_instances()
    assert instance["name"] not in source.vmops.list_instances()


def test_a_vm_moves_to_the_other_host_of_its_pool(source, destination):
    instance = source.spawn()
    data = {"block_migration": False, "destination_host_ref": destination.vmops._session.host_ref}

    called = migrate(source, instance, data)
    destination.driver.post_live_migration_at_destination(None, instance, make_network_info())

    assert called == ["post"]
    vm = destination.vm(instance)
    assert vm["resident_on"] == destination.vmops._session.host_ref
    assert vm["other_config"]["nova_host"] == destination.vmops._session.host_uuid


def test_a_guest_that_runs_at_its_destination_is_taken_over_although_its_affinity_cannot_be_set(source, destination):
    instance = source.spawn()
    migrate(source, instance, {"block_migration": False,
                               "destination_host_ref": destination.vmops._session.host_ref})
    source.simulator.control.fail("VM.set_affinity", error=["INTERNAL_ERROR", "planted"])

    destination.driver.post_live_migration_at_destination(None, instance, make_network_info())

    assert destination.vm(instance)["other_config"]["nova_host"] == destination.vmops._session.host_uuid


def test_the_source_does_not_destroy_what_moved_away(source, destination):
    instance = source.spawn()
    migrate(source, instance, {"block_migration": False, "destination_host_ref": destination.vmops._session.host_ref})
    source.vmops.destroy(instance, make_network_info())
    assert destination.vm(instance)["power_state"] == "Running"


def test_a_migration_that_fails_is_recovered_from_once(source, destination):
    instance = source.spawn()
    source.simulator.control.fail("VM.pool_migrate", error=["INTERNAL_ERROR", "planted"])
    called = migrate(source, instance, {"destination_host_ref": destination.vmops._session.host_ref})
    assert called == ["recover"]
    assert source.vm(instance)["resident_on"] == source.vmops._session.host_ref


def test_a_source_outside_the_pool_needs_its_disks_moved(destination):
    with pytest.raises(exception.MigrationPreCheckError):
        destination.driver.check_can_live_migrate_destination(
            None, {}, {"hypervisor_hostname": "stranger"}, {}, block_migration=False)


def test_a_host_that_the_check_refuses_is_named_by_its_code_alone(source, destination):
    instance = source.spawn()
    check = {"migrate_data": {
        "block_migration": True, "migrate_send_data": {"session_id": "secret"},
        "destination_sr_ref": destination.vmops.storage.for_guests().ref,
        "vif_uuid_map": {"": destination.vmops.vif_driver.networks.by_bridge("xenbr0")}}}
    source.simulator.control.fail("VM.assert_can_migrate", error=["VM_HAS_VGPU", "secret"])
    with pytest.raises(exception.MigrationPreCheckError, match="VM_HAS_VGPU") as raised:
        source.driver.check_can_live_migrate_source(None, instance, check)
    assert "secret" not in str(raised.value)


def test_a_host_of_the_pool_that_cannot_take_the_vm_refuses_it_before_it_moves(source, destination):
    instance = source.spawn()
    check = {"migrate_data": {"block_migration": False,
                              "destination_host_ref": destination.vmops._session.host_ref}}
    assert source.driver.check_can_live_migrate_source(None, instance, check) == check["migrate_data"]
    destination.driver.set_host_enabled("compute-2", False)
    try:
        with pytest.raises(exception.MigrationPreCheckError, match="HOST_DISABLED"):
            source.driver.check_can_live_migrate_source(None, instance, check)
    finally:
        destination.driver.set_host_enabled("compute-2", True)


def test_maintenance_moves_every_instance_away(source, destination):
    instance = source.spawn()
    try:
        assert source.driver.host_maintenance_mode("compute-1", True) == "on_maintenance"
        assert source.vm(instance)["resident_on"] == destination.vmops._session.host_ref
        assert source.api("host.get_enabled", source.vmops._session.host_ref) is False
    finally:
        assert source.driver.host_maintenance_mode("compute-1", False) == "off_maintenance"


def test_an_unknown_host_is_no_reason_to_destroy(source):
    with pytest.raises(XenAPI.Failure):
        source.api("VM.get_record", "OpaqueRef:none")


def set_live(simulator, metrics_ref, is_live):
    with simulator.toolstack.lock:
        simulator.toolstack.db.set("host_metrics", metrics_ref, live=is_live)


def test_an_instance_whose_host_died_is_taken_over_with_its_disk(source, destination):
    instance = source.spawn()
    root = source.api("VM.get_record", source.vmops.finder.require(instance))["VBDs"][0]
    vdi = source.api("VBD.get_VDI", root)
    metrics = source.api("host.get_metrics", source.vmops._session.host_ref)
    set_live(source.simulator, metrics, False)
    try:
        assert destination.driver.instance_on_disk(instance)
        destination.spawn(instance)
    finally:
        set_live(source.simulator, metrics, True)

    vm = destination.vm(instance)
    assert vm["resident_on"] == destination.vmops._session.host_ref
    assert destination.api("VBD.get_VDI", vm["VBDs"][0]) == vdi


@pytest.fixture(scope="module")
def other_pool(tmp_path_factory):
    with Simulator(state_dir=str(tmp_path_factory.mktemp("other")), name="other", plugins=str(PLUGINS)) as simulator:
        yield simulator


@pytest.fixture
def elsewhere(other_pool, make_bench):
    yield make_bench(at=other_pool)
    other_pool.control.clear()


def move_with_disks(bench, elsewhere, instance, manager, block_device_info=None):
    """Go through the steps of a live migration to another pool, as the compute service does."""
    source_info = {"hypervisor_hostname": bench.driver.get_available_nodes()[0]}
    check = elsewhere.driver.check_can_live_migrate_destination(None, instance, source_info, {}, None)
    data = bench.driver.check_can_live_migrate_source(None, instance, check)
    data = elsewhere.driver.pre_live_migration(None, instance, block_device_info, make_network_info(), None, data)
    with contextlib.suppress(exception.MigrationError):
        bench.driver.live_migration(None, instance, "compute-2", manager.post, manager.recover, True, data)
    if manager.called == ["post"]:
        elsewhere.driver.post_live_migration_at_destination(None, instance, make_network_info(), True)


def test_a_vm_moves_to_another_pool_with_its_disk(bench, elsewhere):
    instance, manager = bench.spawn(), Manager()
    bench.compute.updates.clear()

    move_with_disks(bench, elsewhere, instance, manager)

    vm = elsewhere.vm(instance)
    assert manager.called == ["post"] and bench.vm(instance) is None
    assert vm["power_state"] == "Running"
    assert vm["other_config"]["nova_host"] == elsewhere.vmops._session.host_uuid
    root = vbds(elsewhere, vm)["0"]["VDI"]
    assert disk_digest(elsewhere, root, IMAGE_B) == bench.image["os_hash_value"]
    progress = bench.compute.progress
    assert progress == sorted(progress) and all(0 <= percent <= 100 for percent in progress)


def test_what_an_earlier_move_left_at_the_destination_is_removed_before_the_next_one(bench, elsewhere):
    instance, manager = bench.spawn(), Manager()
    elsewhere.spawn(instance)
    elsewhere.driver.power_off(instance)
    marks = bench.vmops.disks.marks(instance["uuid"], "root")
    with Undo("leave a disk behind") as undo:
        loose = elsewhere.vmops.disks.blank(instance["name"], 1 << 20, marks, undo)

    move_with_disks(bench, elsewhere, instance, manager)

    assert manager.called == ["post"]
    assert elsewhere.vm(instance)["power_state"] == "Running"
    assert loose not in elsewhere.api("VDI.get_all")


def test_a_vm_that_has_moved_is_taken_over_although_its_task_never_ended(bench, elsewhere, monkeypatch):
    session, instance, manager = bench.vmops._session, bench.spawn(), Manager()
    call_task = session.call_task

    def lose_sight(method, *args, **kwargs):
        call_task(method, *args, **kwargs)
        raise TaskTimeout(task=method, timeout_s=1)

    monkeypatch.setattr(session, "call_task", lose_sight)
    move_with_disks(bench, elsewhere, instance, manager)

    assert manager.called == ["post"]
    assert elsewhere.vm(instance)["power_state"] == "Running"


@pytest.fixture
def connection(request):
    name = request.node.name
    return {"driver_volume_type": "iscsi", "data": {
        "volume_id": name, "target_portal": "10.0.0.9:3260", "target_iqn": f"iqn.test:{name}", "target_lun": 0}}


def test_volumes_are_not_copied_but_connected_at_the_destination(bench, elsewhere, connection):
    instance = bench.spawn()
    mapping = {"block_device_mapping": [{"connection_info": connection, "mount_device": "/dev/xvdc"}]}
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    check = elsewhere.driver.check_can_live_migrate_destination(None, instance, {}, {}, True)

    data = elsewhere.driver.pre_live_migration(None, instance, mapping, make_network_info(), None,
                                               check["migrate_data"])

    (sr_uuid, sr_ref), = data["sr_uuid_map"].items()
    assert elsewhere.api("SR.get_uuid", sr_ref) == sr_uuid and elsewhere.api("SR.get_type", sr_ref) == "iscsi"
    disks = vbds(bench, bench.vm(instance))
    sent_to = bench.vmops.live_migrations._vdi_map(disks, data)
    assert sent_to == {disks["0"]["VDI"]: data["destination_sr_ref"], disks["2"]["VDI"]: sr_ref}


def test_a_host_that_keeps_volumes_where_they_are_is_asked_first(bench, elsewhere, connection):
    instance = bench.spawn()
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    bench.vmops._session._xsm_sr_check_relaxed = False
    with pytest.raises(exception.MigrationError, match="relax-xsm-sr-check"):
        move_with_disks(bench, elsewhere, instance, Manager())


def test_a_migration_can_be_cancelled_and_the_vm_stays(bench, elsewhere):
    instance, manager = bench.spawn(), Manager()
    bench.simulator.control.delay("VM.migrate_send", 5)
    moving = threading.Thread(target=move_with_disks, args=(bench, elsewhere, instance, manager))
    moving.start()
    wait_until(lambda: bench.vmops.live_migrations._tasks, "the migration began")

    bench.driver.live_migration_abort(instance)
    moving.join()

    assert manager.called == ["recover"]
    assert bench.vm(instance)["power_state"] == "Running"
    with pytest.raises(exception.InstanceInvalidState):
        bench.driver.live_migration_abort(instance)


def test_a_host_of_the_pool_connects_volumes_that_another_one_uses(source, destination, connection):
    instance = source.spawn()
    source.driver.attach_volume(connection, instance, "/dev/xvdc")
    mapping = {"block_device_mapping": [{"connection_info": connection, "mount_device": "/dev/xvdc"}]}

    data = destination.driver.pre_live_migration(None, instance, mapping, make_network_info(), None, {
        "block_migration": False, "destination_host_ref": destination.vmops._session.host_ref})

    assert migrate(source, instance, data) == ["post"]
    destination.driver.post_live_migration_at_destination(None, instance, make_network_info())
    assert vbds(destination, destination.vm(instance))["2"]["currently_attached"]
