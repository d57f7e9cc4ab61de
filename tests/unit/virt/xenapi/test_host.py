import pytest

from nova_lite.virt.xenapi.host import _supported
from nova_lite.virt.xenapi.host_devices import HostDevices
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.xensim import HostPlan, Simulator


def test_resources_are_read_from_the_host(bench):
    resources = bench.driver.get_available_resource(None)
    metrics = next(iter(bench.api("host_metrics.get_all_records").values()))
    assert resources["memory_mb"] == int(metrics["memory_total"]) >> 20
    assert 0 < resources["memory_mb_used"] < resources["memory_mb"]
    assert resources["local_gb"] > 0 and resources["vcpus"] == 0
    assert (resources["hypervisor_type"], resources["hypervisor_version"]) == ("xen", 0)
    assert bench.driver.get_available_nodes() == [resources["hypervisor_hostname"]]
    assert bench.driver.get_available_resource(resources["hypervisor_hostname"]) == resources
    assert bench.driver.get_available_resource("another") == {}


def test_figures_of_the_host_are_read_once_in_a_while(bench):
    bench.driver.get_host_stats()
    bench.simulator.control.reset_calls()
    bench.driver.get_host_stats()
    assert bench.calls() == []


def test_figures_of_host_and_storage_are_read_in_one_call(bench):
    before = bench.driver.get_host_stats(refresh=True)
    bench.simulator.control.reset_calls()
    assert bench.driver.get_host_stats(refresh=True)["disk_total"] == before["disk_total"]
    assert not {"host.get_record", "SR.get_record"} & set(bench.calls())


def test_figures_are_read_from_a_host_that_has_no_events(bench):
    before = bench.driver.get_host_stats(refresh=True)
    bench.simulator.control.fail("event.from", error=["MESSAGE_METHOD_UNKNOWN", "event.from"], count=1000)
    bench.simulator.control.reset_calls()
    assert bench.driver.get_host_stats(refresh=True)["disk_total"] == before["disk_total"]
    assert {"host.get_record", "SR.get_record"} <= set(bench.calls())


def test_the_host_is_enabled_and_disabled(bench):
    assert bench.driver.set_host_enabled("h", False) == "disabled"
    assert bench.api("host.get_enabled", bench.vmops._session.host_ref) is False
    assert bench.driver.set_host_enabled("h", True) == "enabled"
    assert bench.driver.get_host_stats(refresh=True)["enabled"] is True


def test_capabilities_become_architecture_and_type():
    assert _supported(["xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p"]) == [
        ("x86_64", "xapi", "xen"), ("i686", "xapi", "hvm")]


def test_running_instances_are_summed_up(bench):
    instance = bench.spawn()
    assert bench.driver.get_per_instance_usage()[instance["uuid"]] == {"uuid": instance["uuid"], "memory_mb": 128}
    bench.vmops.power_off(instance)
    assert instance["uuid"] not in bench.driver.get_per_instance_usage()


def test_a_volume_connector_names_address_and_host(bench):
    connector = bench.driver.get_volume_connector(None)
    assert connector["ip"] == "127.0.0.1" and connector["host"]


@pytest.mark.parametrize(("field", "older", "expected"), [
    ("iqn:field", "iqn:older", "iqn:field"), ("", "iqn:older", "iqn:older"), ("iqn:field", None, "iqn:field")])
def test_the_initiators_name_is_where_the_hosts_release_keeps_it(bench, field, older, expected):
    db, host_ref = bench.simulator.toolstack.db, bench.vmops._session.host_ref
    with db.lock:
        before = dict(db.get("host", host_ref, "other_config")), db.get("host", host_ref, "iscsi_iqn")
        other_config = {**before[0], "iscsi_iqn": older} if older else {
            key: value for key, value in before[0].items() if key != "iscsi_iqn"}
        db.set("host", host_ref, iscsi_iqn=field, other_config=other_config)
    bench.driver.get_host_stats(refresh=True)
    found = bench.driver.get_volume_connector(None)["initiator"]
    with db.lock:
        db.set("host", host_ref, other_config=before[0], iscsi_iqn=before[1])
    assert found == expected


def test_the_graphical_console_is_reached_with_a_session_of_its_own(bench):
    instance = bench.spawn()
    console = bench.driver.get_vnc_console(instance)
    vm_ref = bench.vmops.finder.require(instance)
    assert console["internal_access_path"].startswith(f"/console?ref={vm_ref}&session_id=OpaqueRef:")
    assert console["port"] == bench.vmops._session.host_endpoint.port


def test_processors_in_use_and_the_model_of_the_processor_are_told(bench):
    before = bench.driver.get_host_stats(refresh=True)["vcpus_used"]
    instance = bench.spawn()
    stats = bench.driver.get_host_stats(refresh=True)
    assert stats["vcpus_used"] == before + 1
    assert stats["cpu_model"]["topology"] == {"sockets": 1, "cores": 8, "threads": 2}
    assert "sse2" in stats["cpu_model"]["features"]
    bench.vmops.power_off(instance)
    assert bench.driver.get_host_stats(refresh=True)["vcpus_used"] == before


def test_devices_that_dom0_leaves_alone_are_listed_and_read_once(bench):
    db, host_ref = bench.simulator.toolstack.db, bench.vmops._session.host_ref
    with db.lock:
        network = next(pci for pci in db.select("PCI", host=host_ref) if pci["class_id"] == "0200")
        db.set("PCI", network.ref, driver_name="pciback")
    devices = HostDevices(bench.vmops._session)
    record = bench.api("host.get_record", host_ref)
    found = devices.figures(record)
    bench.simulator.control.reset_calls()
    assert devices.figures(record) == found and bench.calls() == []
    assert found == {"vgpu_stats": {}, "pci_passthrough_devices": [
        {"dev_id": "pci_0000_18_00_0", "address": "0000:18:00.0", "vendor_id": "8086", "product_id": "1572",
         "dev_type": "type-PCI", "label": "label_8086_1572"}]}
    assert devices.figures({**record, "PCIs": [], "PGPUs": []})["pci_passthrough_devices"] == []


def test_virtual_gpus_are_counted_by_group_and_type():
    with Simulator(plan=HostPlan(gpus=2)) as simulator:
        session = XenAPISession(simulator.url, simulator.username, simulator.password)
        record = session.call_xenapi("host.get_record", session.host_ref)
        (types,) = HostDevices(session).figures(record)["vgpu_stats"].values()
        session.close()
    assert {each["type_name"]: (each["total"], each["remaining"], each["max_heads"]) for each in types.values()} == {
        "NVIDIA A16-2Q": (16, 16, 4), "NVIDIA A16-4Q": (8, 8, 4), "NVIDIA A16-16Q": (2, 2, 4)}
