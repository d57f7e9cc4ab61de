"""Pools of several hosts: joining, emptying a host, a master that is lost while work is under way."""

import shutil
import threading

import pytest

from nova_lite import exception
from nova_lite.objects import task_states
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.xensim import Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_bench import PLUGINS, make_instance
from tests.fixtures.xen_probe import XenProbe


class Aggregate(dict):
    """An aggregate with its metadata, kept by the compute service above."""

    def __init__(self, compute, **metadata):
        super().__init__(id=1, name="pool-1", hosts=["compute-1"],
                         metadata={"hypervisor_pool": "true", "operational_state": "active", **metadata})
        compute.aggregate_metadata_add = lambda context, aggregate, metadata, set_delete=False: (
            self["metadata"].update(metadata))
        compute.aggregate_get_by_host = lambda context, host, key=None: [self]
        compute.admin_context = lambda: None


@pytest.fixture
def make_pool(tmp_path):
    simulators = []
    plugins = shutil.copytree(PLUGINS, tmp_path / "plugins", ignore=shutil.ignore_patterns("__*"))
    xenhost = plugins / "xenhost.py"
    xenhost.write_text(xenhost.read_text().replace("START_PAUSE_S = 23, 10", "START_PAUSE_S = 23, 0.1"))

    def make(name="pool", hosts=2, listen="127.0.0.1:0"):
        simulator = Simulator(hosts=hosts, state_dir=str(tmp_path / name), name=name, plugins=str(plugins))
        simulator.start(listen)
        simulators.append(simulator)
        if hosts > 1:
            share_storage(simulator)
        return simulator

    yield make
    for simulator in simulators:
        simulator.stop()


def share_storage(simulator):
    """Make a repository that all hosts of the pool see the default one."""
    api = XenProbe(simulator.url).api
    pool_ref = api.pool.get_all()[0]
    api.pool.set_default_SR(pool_ref, api.SR.create(
        api.pool.get_master(pool_ref), {"server": "10.0.0.5", "serverpath": "/srv"}, "0", "Shared storage", "", "nfs",
        "user", True, {}))


def manage(make_bench, pool, number, **options):
    """Return a driver for one host of the pool."""
    bench = make_bench(connection_url=pool.urls[number], **options)
    bench.simulator = pool
    return bench


def test_a_host_joins_the_pool_of_its_aggregate(make_pool, make_bench):
    master, joining = manage(make_bench, make_pool("west", 1), 0), make_pool("east", 1)
    master.conf.set_override("host", "compute-1")
    aggregate = Aggregate(master.compute, master_compute="compute-1")
    host_uuid = joining.toolstack.db.get("host", joining.toolstack.master_ref, "uuid")
    slave = {"url": joining.url, "user": "root", "secret_ref": "connection_password",
             "xenhost_uuid": host_uuid}
    try:
        master.driver.add_to_aggregate(None, aggregate, "compute-2", slave_info=slave)
    finally:
        master.conf.clear_override("host")

    assert len(master.api("host.get_all")) == 2 and aggregate["metadata"]["compute-2"] == host_uuid


def test_a_host_with_another_password_does_not_join_and_no_password_is_told(make_pool, make_bench):
    master, joining = manage(make_bench, make_pool("west", 1), 0), make_pool("east", 1)
    joining.control.failed_login_delay(0)
    joining.control.fail("session.login_with_password", error=["SESSION_AUTHENTICATION_FAILED", "root", "no"])
    master.conf.set_override("host", "compute-1")
    aggregate = Aggregate(master.compute, master_compute="compute-1")
    try:
        with pytest.raises(exception.AggregateError, match="refused to log in"):
            master.driver.add_to_aggregate(None, aggregate, "compute-2", slave_info={
                "url": joining.url, "user": "root", "secret_ref": "connection_password"})
    finally:
        master.conf.clear_override("host")
    assert len(master.api("host.get_all")) == 1


def updates_of(bench, uuid):
    return [(updates["host"], updates["task_state"]) for found, updates in bench.compute.updates
            if found == uuid and "host" in updates]


def aggregate_with_a_guest(make_pool, make_bench):
    """Return a pool, the drivers of its two hosts, which are an aggregate, and an instance on the first."""
    pool = make_pool()
    first, second = manage(make_bench, pool, 0), manage(make_bench, pool, 1)
    first.conf.set_override("host", "compute-1")
    Aggregate(first.compute, **{"compute-1": first.vmops._session.host_uuid,
                                "compute-2": second.vmops._session.host_uuid})
    return pool, first, second, first.spawn()


def test_instances_follow_their_vms_out_of_a_host_in_maintenance(make_pool, make_bench):
    _, first, second, instance = aggregate_with_a_guest(make_pool, make_bench)
    try:
        assert first.driver.host_maintenance_mode("compute-1", True) == "on_maintenance"
    finally:
        first.conf.clear_override("host")

    assert updates_of(first, instance["uuid"]) == [("compute-2", task_states.MIGRATING), ("compute-2", None)]
    assert first.vm(instance)["resident_on"] == second.vmops._session.host_ref
    wait_until(lambda: instance["name"] in second.driver.list_instances(), "the second host sees it")


def test_defect_28_a_vm_that_a_later_host_takes_counts_as_moved(make_pool, make_bench):
    pool = make_pool(hosts=3)
    first = manage(make_bench, pool, 0)
    instance = first.spawn()
    pool.control.fail("VM.pool_migrate", error=["INTERNAL_ERROR", "planted"])
    assert first.driver.host_maintenance_mode("compute-1", True) == "on_maintenance"
    assert first.vm(instance)["resident_on"] != first.vmops._session.host_ref


def test_a_host_that_cannot_take_a_vm_is_not_tried_and_its_service_hears_nothing(make_pool, make_bench):
    pool, first, second, instance = aggregate_with_a_guest(make_pool, make_bench)
    pool.control.fail("VM.assert_can_migrate", error=["VM_HAS_PCI_ATTACHED", "vm"])
    try:
        with pytest.raises(exception.NoValidHost):
            first.driver.host_maintenance_mode("compute-1", True)
    finally:
        first.conf.clear_override("host")
    assert updates_of(first, instance["uuid"]) == [("compute-1", None)]
    assert "Async.VM.pool_migrate" not in pool.control.calls()


def test_a_host_nobody_takes_the_vms_of_stays_theirs(make_pool, make_bench):
    pool = make_pool()
    first = manage(make_bench, pool, 0)
    first.conf.set_override("host", "compute-1")
    Aggregate(first.compute, **{record["hostname"]: record["uuid"]
                                for record in first.api("host.get_all_records").values()})
    instance = first.spawn()
    pool.control.fail("VM.pool_migrate", error=["INTERNAL_ERROR", "planted"])
    try:
        with pytest.raises(exception.NoValidHost, match=instance["name"]):
            first.driver.host_maintenance_mode("compute-1", True)
    finally:
        first.conf.clear_override("host")
    assert updates_of(first, instance["uuid"])[-1] == ("compute-1", None)


def test_a_member_follows_the_pool_to_a_new_master(make_pool, make_bench):
    pool = make_pool()
    member = manage(make_bench, pool, 1)
    instance = member.spawn()
    member.api("pool.designate_new_master", member.vmops._session.host_ref)

    member.vmops.pause(instance)

    assert member.vm(instance)["power_state"] == "Paused"
    assert member.spawn()


def test_a_master_that_dies_with_builds_under_way_is_replaced_and_later_builds_work(make_pool, make_bench):
    pool = make_pool()
    member = manage(make_bench, pool, 1)
    master = next(ref for ref in member.api("host.get_all") if ref != member.vmops._session.host_ref)
    member.spawn()
    pool.control.delay("VM.start_on", 0.5)
    failures = []

    def build():
        try:
            member.spawn()
        except (HypervisorUnavailable, exception.NovaException) as error:
            failures.append(error)

    building = threading.Thread(target=build)
    building.start()
    wait_until(lambda: "Async.VM.start_on" in pool.control.calls()[-3:] or not building.is_alive(), "a start is asked")
    pool.control.kill_host(master)
    with pool.toolstack.lock:
        pool.toolstack.promote(member.vmops._session.host_ref)
    building.join()

    assert len(failures) <= 1
    instance = member.spawn()
    assert member.vm(instance)["power_state"] == "Running"
    assert not member.vmops._session.is_slave
    wait_until(lambda: member.vmops.cache.synced and instance["name"] in member.driver.list_instances(), "it is seen")


@pytest.fixture
def inside_its_host(make_pool, make_bench):
    """A master, and a host that wants to join it whose compute service is one of its own guests."""
    west = make_pool("west", 1)
    # Hosts of a pool have one port in common, as those of XenServer do.
    east = make_pool("east", 1, "127.0.0.2:" + west.url.rpartition(":")[2])
    master, joining = manage(make_bench, west, 0), manage(make_bench, east, 0)
    compute = joining.spawn()
    slave = {"url": joining.simulator.url, "user": "root", "secret_ref": "connection_password",
             "xenhost_uuid": joining.vmops._session.host_uuid, "compute_uuid": joining.vm(compute)["uuid"]}
    master.conf.set_override("host", "compute-1")
    yield master, joining, compute, slave
    master.conf.clear_override("host")


def test_a_host_whose_compute_service_is_its_own_guest_joins_and_leaves_while_that_guest_is_down(inside_its_host):
    master, joining, compute, slave = inside_its_host
    aggregate = Aggregate(master.compute, master_compute="compute-1")
    joined_uuid = joining.vmops._session.host_uuid
    master.simulator.control.fail("VM.start", error=["HOST_NOT_LIVE"])  # it takes a while to be one of the pool

    master.driver.add_to_aggregate(None, aggregate, "compute-2", slave_info=slave)

    assert aggregate["metadata"]["compute-2"] == joined_uuid
    calls = joining.simulator.control.calls()
    assert calls.index("VM.clean_shutdown") < calls.index("pool.join_force")
    assert master.vm(compute)["power_state"] == "Running"
    assert master.vm(compute)["resident_on"] == master.api("host.get_by_uuid", joined_uuid)

    master.compute.aggregate_metadata_delete = lambda context, aggregate, key: aggregate["metadata"].pop(key)
    master.driver.remove_from_aggregate(None, aggregate, "compute-2", slave_info=slave)
    assert master.vm(compute)["power_state"] == "Halted"
    assert len(master.api("host.get_all")) == 1 and "compute-2" not in aggregate["metadata"]


def test_the_service_of_a_host_that_joined_goes_on_with_its_instances_at_the_new_master(inside_its_host, make_bench):
    master, joining, compute, slave = inside_its_host
    # It looks after the host from outside; the default repository of the pool is to be the master's own.
    service = manage(make_bench, joining.simulator, 0, sr_matching_filter="other-config:i18n-key=local-storage")
    master.driver.add_to_aggregate(None, Aggregate(master.compute, master_compute="compute-1"), "compute-2",
                                   slave_info=slave)
    service.driver.cleanup_host("compute-2")

    service.driver.init_host("compute-2")

    session = service.driver.vmops._session
    assert session.is_slave and session.host_uuid == joining.vmops._session.host_uuid
    assert service.driver.list_instances() == [compute["name"]]
    service.driver.reboot(None, compute, [], "HARD")
    instance = make_instance()
    service.driver.spawn(None, instance, service.image, [], None, [], {})
    assert master.vm(instance)["resident_on"] == session.host_ref


def test_a_guest_that_went_down_for_a_join_that_fails_runs_again(inside_its_host):
    master, joining, compute, slave = inside_its_host
    joining.simulator.control.fail("pool.join_force", error=["JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS"])
    aggregate = Aggregate(master.compute, master_compute="compute-1")
    with pytest.raises(exception.AggregateError, match="JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS"):
        master.driver.add_to_aggregate(None, aggregate, "compute-2", slave_info=slave)
    assert joining.vm(compute)["power_state"] == "Running"
    assert len(master.api("host.get_all")) == 1


def test_a_member_whose_address_tells_nothing_is_known_by_the_aggregate_of_its_pool(make_pool, make_bench):
    pool = make_pool()
    expected = manage(make_bench, pool, 1).vmops._session
    with pool.toolstack.lock:
        for pif in pool.toolstack.db.rows("PIF"):
            pool.toolstack.db.set("PIF", pif.ref, IP="")
    with pytest.raises(HypervisorUnavailable, match="0 hosts of its pool"):
        manage(make_bench, pool, 1)

    def remembered():
        return expected.host_uuid

    session = XenAPISession(pool.urls[1], pool.username, pool.password, remembered_host=remembered)
    assert (session.host_ref, session.host_uuid, session.is_slave) == (expected.host_ref, expected.host_uuid, True)
    session.close()


def test_a_driver_asks_the_aggregates_for_its_host(make_pool, make_bench):
    bench = manage(make_bench, make_pool(), 1)
    Aggregate(bench.compute, **{bench.conf.host: "uuid-of-ours"})
    assert bench.driver._uuid_in_aggregate() == "uuid-of-ours"
    Aggregate(bench.compute)
    assert bench.driver._uuid_in_aggregate() is None
