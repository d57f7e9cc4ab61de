"""Every method of the driver interface, through the driver, on a simulated host."""

import inspect
import pathlib

import pytest

from nova_lite import exception
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.virt.driver import ComputeDriver
from nova_lite.virt.xenapi import XenAPIDriver
from nova_lite.xensim import Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_bench import GIB, MIB, make_instance, make_network_info, vbds

# What is tested in files of its own, by the name of the file.
ELSEWHERE = {
    "test_xenapi_agent": {"set_admin_password", "inject_file", "reset_network"},
    "test_xenapi_live_migration": {
        "check_can_live_migrate_destination", "check_can_live_migrate_source", "pre_live_migration", "live_migration",
        "post_live_migration_at_destination", "instance_on_disk", "live_migration_abort"},
    "test_xenapi_migrate": {"finish_revert_migration"},
    "test_xenapi_pools": {"add_to_aggregate", "remove_from_aggregate", "host_maintenance_mode"},
    "test_xenapi_volumes": {"attach_volume", "detach_volume"},
}
# The interface's own answer is the one for XenServer.
INHERITED = {"emit_event", "macs_for_instance", "node_is_available"}

scenarios: dict = {}


def exercises(*methods):
    def register(scenario):
        scenarios[scenario] = set(methods)
        return scenario
    return register


@pytest.fixture
def driver(bench):
    return bench.driver


def spawned(bench, **changes):
    instance, network_info = make_instance(**changes), make_network_info()
    bench.driver.spawn(None, instance, bench.image, [], "password", network_info, None)
    return instance, network_info


def state(bench, instance):
    return bench.driver.get_info(instance)["state"]


def public(cls):
    return {name for name, _ in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


def test_every_method_of_the_interface_is_exercised():
    covered = set().union(*scenarios.values(), *ELSEWHERE.values(), INHERITED)
    assert public(ComputeDriver) - covered == set()
    assert not {name for name in INHERITED if name in vars(XenAPIDriver)}


@pytest.mark.parametrize("file", ELSEWHERE)
def test_what_is_exercised_elsewhere_is_asked_of_the_driver_itself(file):
    text = pathlib.Path(__file__).with_name(f"{file}.py").read_text()
    assert {name for name in ELSEWHERE[file] if f"driver.{name}(" not in text} == set()


@exercises("spawn", "list_instances", "list_instance_uuids", "get_num_instances", "instance_exists", "get_info",
           "get_power_states", "get_per_instance_usage", "destroy")
def test_an_instance_appears_in_every_list_and_leaves_them(bench, driver):
    number = driver.get_num_instances()
    instance, network_info = spawned(bench)
    uuid = instance["uuid"]

    assert driver.get_num_instances() == number + 1 and driver.instance_exists(instance["name"])
    assert instance["name"] in driver.list_instances() and uuid in driver.list_instance_uuids()
    assert driver.get_power_states()[uuid] == state(bench, instance) == power_state.RUNNING
    assert driver.get_per_instance_usage()[uuid]["memory_mb"] == 128

    driver.destroy(instance, network_info)
    assert not driver.instance_exists(instance["name"]) and uuid not in driver.list_instance_uuids()
    with pytest.raises(exception.InstanceNotFound):
        driver.get_info(instance)
    driver.destroy(instance, network_info)  # what is gone is gone


@exercises("pause", "unpause", "suspend", "resume", "power_off", "power_on", "reboot", "soft_delete", "restore",
           "resume_state_on_host_boot")
def test_power_operations_lead_to_their_states(bench, driver):
    instance, network_info = spawned(bench)
    driver.pause(instance)
    assert state(bench, instance) == power_state.PAUSED
    driver.unpause(instance)
    driver.suspend(instance)
    assert state(bench, instance) == power_state.SUSPENDED
    driver.resume(instance, network_info)
    driver.reboot(None, instance, network_info, "SOFT")
    driver.reboot(None, instance, network_info, "HARD")
    assert state(bench, instance) == power_state.RUNNING
    driver.power_off(instance)
    assert state(bench, instance) == power_state.SHUTDOWN
    driver.power_on(None, instance, network_info)
    driver.soft_delete(instance)
    assert state(bench, instance) == power_state.SHUTDOWN
    driver.restore(instance)
    assert state(bench, instance) == power_state.RUNNING
    driver.power_off(instance)
    driver.resume_state_on_host_boot(None, instance, network_info)
    assert state(bench, instance) == power_state.RUNNING


@exercises("rescue", "unrescue")
def test_an_instance_is_rescued_and_returns(bench, driver):
    instance, network_info = spawned(bench)
    driver.rescue(None, instance, network_info, bench.image, "password")
    assert bench.vm(instance, "-rescue")["power_state"] == "Running"
    assert state(bench, instance) == power_state.SHUTDOWN
    driver.unrescue(instance, network_info)
    assert state(bench, instance) == power_state.RUNNING


@exercises("snapshot")
def test_an_instance_becomes_an_image(bench, driver):
    instance, _ = spawned(bench)
    image = bench.images.add(b"", status="queued")
    states = []
    driver.snapshot(None, instance, image["id"], lambda **change: states.append(change["task_state"]))
    assert states == ["image_pending_upload", "image_uploading"]
    assert bench.images.show(None, image["id"])["disk_format"] == "vhd"


@exercises("migrate_disk_and_power_off", "finish_migration", "confirm_migration")
def test_an_instance_is_resized(bench, driver):
    instance, network_info = spawned(bench)
    larger = {**instance["flavor"], "root_gb": 2, "memory_mb": 256}
    disk_info = driver.migrate_disk_and_power_off(None, instance, "127.0.0.1", larger, network_info)
    moved = {**instance, "flavor": larger, "root_gb": 2}
    driver.finish_migration(None, {}, moved, disk_info, network_info, bench.image, True)
    driver.confirm_migration({}, moved, network_info)
    assert driver.get_info(moved)["max_mem"] == 256 << 10
    assert bench.vm(instance, "-orig") is None


@exercises("attach_interface", "detach_interface", "plug_vifs", "unplug_vifs", "inject_network_info", "legacy_nwinfo")
def test_interfaces_come_and_go(bench, driver):
    instance, _ = spawned(bench)
    more = make_network_info()
    assert driver.legacy_nwinfo() is False
    driver.plug_vifs(instance, more)
    driver.attach_interface(instance, bench.image, more)
    macs = {bench.api("VIF.get_MAC", ref) for ref in bench.vm(instance)["VIFs"]}
    assert more[0]["address"] in macs and len(macs) == 2
    driver.inject_network_info(instance, more)
    assert any(more[0]["address"].replace(":", "") in key for key in bench.vm(instance)["xenstore_data"])
    driver.detach_interface(instance, more)
    driver.unplug_vifs(instance, more)
    assert len(bench.vm(instance)["VIFs"]) == 1


@exercises("change_instance_metadata")
def test_metadata_reaches_the_guest(bench, driver):
    instance, _ = spawned(bench)
    driver.change_instance_metadata(None, instance, {"color": ["-"], "shape": ["+", "round"]})
    assert bench.vmops.read_from_param_xenstore(instance)["vm-data/user-metadata/shape"] == "round"
    assert "vm-data/user-metadata/color" not in bench.vmops.read_from_param_xenstore(instance)


@exercises("refresh_security_group_rules", "refresh_security_group_members", "refresh_instance_security_rules",
           "refresh_provider_fw_rules", "ensure_filtering_rules_for_instance", "unfilter_instance",
           "filter_defer_apply_on", "filter_defer_apply_off")
def test_packet_filters_are_passed_on(bench, driver):
    instance, network_info = spawned(bench)
    heard = []

    class Filters(type(bench.vmops.firewall_driver)):
        def __getattribute__(self, name):
            if not name.startswith("_") and callable(getattr(type(self), name, None)):
                heard.append(name)
            return super().__getattribute__(name)

    bench.vmops.firewall_driver.__class__ = Filters
    driver.filter_defer_apply_on()
    driver.refresh_security_group_rules(1)
    driver.refresh_security_group_members(1)
    driver.refresh_instance_security_rules(instance)
    driver.refresh_provider_fw_rules()
    driver.ensure_filtering_rules_for_instance(instance, network_info)
    driver.unfilter_instance(instance, network_info)
    driver.filter_defer_apply_off()
    assert heard == ["filter_defer_apply_on", "refresh_security_group_rules", "refresh_security_group_members",
                     "refresh_instance_security_rules", "refresh_provider_fw_rules",
                     "ensure_instance_filter", "unfilter_instance", "filter_defer_apply_off"]


@exercises("get_console_output", "get_vnc_console", "get_spice_console", "get_console_pool_info")
def test_consoles_are_where_they_are_told_to_be(bench, driver):
    instance, _ = spawned(bench)
    console = driver.get_vnc_console(instance)
    assert set(console) == {"host", "port", "internal_access_path"}
    assert driver.get_console_pool_info("xvp")["address"] == "127.0.0.1"
    with pytest.raises(exception.ConsoleTypeInvalid):
        driver.get_spice_console(instance)
    bench.simulator.control.fail("host.call_plugin", error=["XENAPI_MISSING_PLUGIN", "console.py"])
    with pytest.raises(exception.ConsoleNotAvailable):
        driver.get_console_output(instance)


@exercises("get_diagnostics", "get_all_bw_counters", "estimate_instance_overhead")
def test_figures_are_read_from_the_host(bench, driver):
    instance, network_info = spawned(bench)
    diagnostics = driver.get_diagnostics(instance)
    assert {"last_update", "cpu0", "memory", "vif_0_tx", "vif_0_rx"} <= set(diagnostics)
    assert float(diagnostics["memory"]) >= 0
    assert driver.estimate_instance_overhead(instance["flavor"])["memory_mb"] << 20 == int(
        bench.vm(instance)["memory_overhead"])

    bench.vmops._session.plugin_version = None  # the host's metrics, not the counters of dom0
    driver.get_all_bw_counters([instance])
    clock = bench.vmops._session.clock
    clock.time = lambda: type(clock).time(clock) + 60
    bench.vmops.metrics._read_until -= 600
    counter, = driver.get_all_bw_counters([instance])
    assert (counter["uuid"], counter["mac_address"]) == (instance["uuid"], network_info[0]["address"])
    assert counter["bw_in"] > 0 and counter["bw_out"] > 0
    again, = driver.get_all_bw_counters([instance])
    assert again["bw_in"] >= counter["bw_in"]


@exercises("block_stats", "interface_stats", "get_all_volume_usage")
def test_devices_are_counted_from_the_first_look_on(bench, driver):
    instance, network_info = spawned(bench, flavor={"swap": 64})
    name, mac = instance["name"], network_info[0]["address"]
    assert driver.block_stats(name, "vda")[:4] == driver.interface_stats(name, mac)[:1] * 4 == [0] * 4
    let_ten_minutes_pass(bench)

    disk, swap = driver.block_stats(name, "xvda"), driver.block_stats(name, "/dev/xvdc")
    received, *unknown, sent, _, _, _ = driver.interface_stats(name, "0")
    usage, = driver.get_all_volume_usage(None, [
        {"instance": instance, "instance_bdms": [{"volume_id": "v", "device_name": "/dev/vdc"}]}])

    assert min(disk[:4]) > 0 and disk[4] == -1 and received > 0 and sent > 0 and unknown == [-1] * 3
    assert disk[1] > disk[0] and disk[:4] != swap[:4]
    assert (usage["volume"], usage["instance"]) == ("v", instance)
    counted = [usage[figure] for figure in ("rd_req", "rd_bytes", "wr_req", "wr_bytes")]
    assert all(now >= before for now, before in zip(counted, swap, strict=False))
    assert driver.block_stats(name, "vdp")[:4] == driver.block_stats("no-such-instance", "vda")[:4] == [0] * 4


def let_ten_minutes_pass(bench):
    """Have the host's figures of the last ten minutes not been read yet."""
    counters = bench.vmops.device_counters
    for sums in (counters._disks, counters._interfaces):
        sums._read_until -= 600


@exercises("init_host", "cleanup_host", "get_available_resource", "get_available_nodes", "get_host_stats",
           "get_host_ip_addr", "get_host_uptime", "get_volume_connector", "set_host_enabled")
def test_the_host_tells_about_itself(bench, driver):
    node, = driver.get_available_nodes()
    assert driver.get_available_resource(node)["hypervisor_hostname"] == node
    assert driver.get_host_stats(refresh=True)["host_hostname"] == node
    assert driver.get_host_ip_addr() == "127.0.0.1" and driver.get_volume_connector(None)["host"] == node
    assert "up" in driver.get_host_uptime("h")
    assert driver.set_host_enabled("h", False) == "disabled"
    assert driver.set_host_enabled("h", True) == "enabled"
    driver.cleanup_host("h")
    driver.init_host("h")
    assert driver.get_available_nodes() == [node]


@exercises("host_power_action")
def test_guests_are_shut_down_before_their_host(make_bench, tmp_path):
    with Simulator(state_dir=str(tmp_path / "alone")) as simulator:
        bench = make_bench(at=simulator)
        instance, _ = spawned(bench)
        with pytest.raises(NotImplementedError, match="startup"):
            bench.driver.host_power_action("h", "startup")
        simulator.control.fail("host.reboot", error=["INTERNAL_ERROR", "planted"])
        with pytest.raises(Exception, match="planted"):
            bench.driver.host_power_action("h", "reboot")
        assert bench.vm(instance)["power_state"] == "Halted"
        assert bench.driver.host_power_action("h", "reboot") == "reboot"


@exercises("poll_rebooting_instances", "manage_image_cache", "get_instance_disk_info", "undo_aggregate_operation",
           "check_can_live_migrate_destination_cleanup", "register_event_listener")
def test_what_is_asked_from_time_to_time(bench, driver):
    instance, _ = spawned(bench)
    heard, undone = [], []
    driver.register_event_listener(heard.append)
    bench.compute.admin_context = lambda: None
    driver.poll_rebooting_instances(60, [instance])
    assert state(bench, instance) == power_state.RUNNING
    driver.manage_image_cache(None, [instance])
    assert driver.get_instance_disk_info(instance["name"]) is None
    bench.compute.aggregate_metadata_add = lambda *args: None
    driver.undo_aggregate_operation(None, undone.append, {"id": 1}, "host")
    assert undone == ["host"]
    driver.check_can_live_migrate_destination_cleanup(None, {})
    bench.simulator.control.guest_stops(bench.vmops.finder.require(instance))
    wait_until(lambda: heard and heard[-1].get_name() == "Stopped", "the stop is told")


@exercises("settle_interrupted")
def test_what_broke_off_is_carried_through_and_the_state_it_leads_to_told(bench, driver):
    instance, network_info = spawned(bench)
    driver.rescue(None, instance, network_info, bench.image, None)
    assert driver.settle_interrupted(instance, task_states.RESCUING) == vm_states.RESCUED
    assert driver.settle_interrupted(instance, task_states.UNRESCUING) == vm_states.ACTIVE
    assert bench.vm(instance, "-rescue") is None and state(bench, instance) == power_state.RUNNING
    assert driver.settle_interrupted(instance, task_states.IMAGE_UPLOADING) is None


def test_swap_ephemeral_and_iso_disks_come_through_the_driver_too(bench, driver):
    instance, _ = spawned(bench, flavor={"swap": 64, "ephemeral_gb": 1})
    found = vbds(bench, bench.vm(instance))
    assert set(found) == {"0", "2", "4"}
    assert bench.api("VDI.get_virtual_size", found["2"]["VDI"]) == str(64 * MIB)
    assert bench.api("VDI.get_virtual_size", found["4"]["VDI"]) == str(GIB)


def test_what_is_missing_without_the_plugins_is_told_once(make_bench, tmp_path, caplog):
    with Simulator(state_dir=str(tmp_path / "bare")) as simulator:
        bench = make_bench(at=simulator)
        bench.driver.get_available_nodes()
        told = [record.getMessage() for record in caplog.records if "dom0 plugins" in record.getMessage()]
        assert len(told) == 1 and "guest agents" in told[0]
        assert bench.vm(bench.spawn())["power_state"] == "Running"
