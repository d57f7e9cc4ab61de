"""One case for each error code that a client can provoke: the code and its arguments, exactly.

A case is a function that prepares its own objects and returns the call that is refused, its arguments, and what the
refusal says after its code, which is the function's name in capitals (what follows two underscores only tells cases
of one code apart).
"""

import inspect

import pytest
import XenAPI

from nova_lite.xensim import HostPlan, Simulator
from tests.fixtures.xensim import logged_in
from tests.unit.xensim.conftest import Client

NULL = "OpaqueRef:NULL"
GIB = 1024**3


@pytest.fixture(scope="module")
def simulator():
    with Simulator(plan=HostPlan(memory_mib=16 * 1024, cpus=2, nics=2)) as running:
        running.control.failed_login_delay(0)
        yield running


@pytest.fixture(scope="module")
def c(simulator):
    with logged_in(simulator) as session:
        yield Client(session)


def refused(client, call, *arguments):
    with pytest.raises(XenAPI.Failure) as error:
        client.session.xenapi_request(call, arguments)
    return error.value.details


def internal_network(c):
    return c.api.network.get_by_name_label("Host internal management network")[0]


def sr(c, label):
    return c.api.SR.get_by_name_label(label)[0]


def template(c):
    return c.api.VM.get_by_name_label("Other install media")[0]


def running_with_disk(c, **fields):
    """Return (VM, VBD, VDI) of a running VM; `fields` are the VBD's."""
    vm, vdi = c.vm(), c.vdi()
    vbd = c.vbd(vm, vdi, **fields)
    c.api.VM.start(vm, False, False)
    return vm, vbd, vdi


def cd(c, vm, **fields):
    return c.vbd(vm, NULL, type="CD", mode="RO", empty=True, **fields)


class Cases:
    """Each static method: (client, simulator) -> (call, arguments, what follows the code)."""

    @staticmethod
    def handle_invalid(c, _):
        return "VM.start", ["OpaqueRef:x", False, False], ["VM", "OpaqueRef:x"]

    @staticmethod
    def handle_invalid__host(c, _):
        return "host.get_record", ["OpaqueRef:x"], ["host", "OpaqueRef:x"]

    @staticmethod
    def uuid_invalid(c, _):
        return "VDI.get_by_uuid", ["x"], ["VDI", "x"]

    @staticmethod
    def vm_bad_power_state(c, _):
        vm = c.vm()
        return "VM.hard_reboot", [vm], [vm, "running, paused", "halted"]

    @staticmethod
    def other_operation_in_progress(c, simulator):
        vm = c.vm()
        simulator.control.delay("VM.start", 60)
        task, token = c.api.Async.VM.start(vm, False, False), ""
        while not c.api.VM.get_current_operations(vm):
            token = c.events(["VM"], token, 10)["token"]
        return "VM.clone", [vm, "x"], ["VM", vm, "start", task]

    @staticmethod
    def operation_not_allowed(c, _):
        vm, vbd, _ = running_with_disk(c)
        uuids = c.api.VBD.get_uuid(vbd), c.api.VM.get_uuid(vm)
        return "VBD.destroy", [vbd], ["VBD '{}' still attached to '{}'".format(*uuids)]

    @staticmethod
    def operation_blocked(c, _):
        vm = c.vm(blocked_operations={"start": "locked"})
        return "VM.start", [vm, False, False], [vm, "locked"]

    @staticmethod
    def vm_is_template(c, _):
        return "VM.start", [template(c), False, False], [template(c), "start"]

    @staticmethod
    def vm_is_snapshot(c, _):
        snapshot = c.api.VM.snapshot(c.vm(), "s", [])
        return "VM.start", [snapshot, False, False], [snapshot, "start"]

    @staticmethod
    def vm_lacks_feature(c, simulator):
        vm = c.hvm()
        simulator.control.guest(vm, ["no-drivers"])
        c.api.VM.start(vm, False, False)
        return "VM.suspend", [vm], [vm]

    @staticmethod
    def vm_hvm_required(c, _):
        vm = c.vm()
        return "VTPM.create", [vm, False], [vm]

    @staticmethod
    def vm_missing_pv_drivers(c, simulator):
        vm = c.hvm()
        simulator.control.guest(vm, ["no-drivers"])
        c.api.VM.start(vm, False, False)
        return "VBD.plug", [c.vbd(vm, c.vdi())], [vm]

    @staticmethod
    def vm_is_immobile(c, _):
        vm = c.hvm(platform={"nomigrate": "true"})
        c.api.VM.start(vm, False, False)
        return "VM.suspend", [vm], [vm]

    @staticmethod
    def vm_is_using_nested_virt(c, _):
        vm = c.hvm(platform={"nested-virt": "true"})
        c.api.VM.start(vm, False, False)
        return "VM.checkpoint", [vm, "x"], [vm]

    @staticmethod
    def vm_has_pci_attached(c, _):
        vm = c.vm(other_config={"pci": "0/0000:18:00.0"})
        c.api.VM.start(vm, False, False)
        return "VM.suspend", [vm], [vm]

    @staticmethod
    def vm_non_suspendable(c, simulator):
        vm = c.started()
        simulator.control.guest_writes(vm, "data/cant_suspend_reason", "busy")
        simulator.control.guest_writes(vm, "control/feature-suspend", "1")
        return "VM.suspend", [vm], [vm, "busy"]

    @staticmethod
    def device_already_attached(c, _):
        _, vbd, _ = running_with_disk(c)
        return "VBD.plug", [vbd], [vbd]

    @staticmethod
    def device_already_attached__vif(c, _):
        vm = c.vm()
        vif = c.vif(vm)
        c.api.VM.start(vm, False, False)
        return "VIF.plug", [vif], [vif]

    @staticmethod
    def device_already_detached(c, _):
        vbd = c.vbd(c.started(), c.vdi())
        return "VBD.unplug", [vbd], [vbd]

    @staticmethod
    def device_already_exists(c, _):
        vm = c.vm()
        c.vbd(vm, c.vdi(), "1")
        with pytest.raises(XenAPI.Failure) as error:
            c.vbd(vm, c.vdi(), "xvdb")
        assert error.value.details == ["DEVICE_ALREADY_EXISTS", "xvdb"]
        c.vif(vm, "2")
        return "VIF.create", [vif_record(c, vm, "2")], ["2"]

    @staticmethod
    def invalid_device(c, _):
        return "VIF.create", [vif_record(c, c.vm(), "eth0")], ["eth0"]

    @staticmethod
    def device_detach_rejected(c, simulator):
        vm, vbd, _ = running_with_disk(c)
        simulator.control.guest(vm, ["holds-devices"])
        return "VBD.unplug", [vbd], ["VBD", vbd, "Device in use; refusing to close"]

    @staticmethod
    def device_detach_timeout(c, simulator):
        vm, vbd, _ = running_with_disk(c)
        simulator.control.guest(vm, ["hanging"])
        return "VBD.unplug", [vbd], ["VBD", vbd]

    @staticmethod
    def device_attach_timeout(c, simulator):
        vm = c.started()
        simulator.control.guest(vm, ["hanging"])
        vif = c.vif(vm)
        return "VIF.plug", [vif], ["VIF", vif]

    @staticmethod
    def vm_failed_shutdown_acknowledgment(c, simulator):
        vm = c.started()
        simulator.control.guest(vm, ["ignores-shutdown"])
        return "VM.clean_shutdown", [vm], [vm]

    @staticmethod
    def vm_shutdown_timeout(c, simulator):
        vm = c.started()
        simulator.control.guest(vm, ["hanging"])
        return "VM.clean_reboot", [vm], [vm, "1200"]

    @staticmethod
    def vbd_not_removable_media(c, _):
        return "VBD.eject", [c.vbd(c.vm(), c.vdi())], None

    @staticmethod
    def vbd_is_empty(c, _):
        drive = cd(c, c.vm())
        return "VBD.eject", [drive], [drive]

    @staticmethod
    def vbd_not_empty(c, _):
        drive, iso = cd(c, c.vm()), c.api.SR.get_VDIs(sr(c, "XenServer Tools"))[0]
        c.api.VBD.insert(drive, iso)
        return "VBD.insert", [drive, iso], [drive]

    @staticmethod
    def vbd_not_unpluggable(c, _):
        _, vbd, _ = running_with_disk(c)
        c.api.VBD.set_unpluggable(vbd, False)
        return "VBD.unplug", [vbd], [vbd]

    @staticmethod
    def vbd_cds_must_be_readonly(c, _):
        return "VBD.set_mode", [cd(c, c.vm()), "RW"], []

    @staticmethod
    def disk_vbd_must_be_readwrite_for_hvm(c, _):
        vm = c.hvm()
        vbd = c.vbd(vm, c.vdi(), mode="RO")
        return "VM.start", [vm, False, False], [vbd]

    @staticmethod
    def vdi_in_use(c, _):
        _, _, vdi = running_with_disk(c)
        return "VDI.destroy", [vdi], [vdi, "destroy"]

    @staticmethod
    def vdi_in_use__by_another_vm(c, _):
        _, _, vdi = running_with_disk(c)
        other = c.vm()
        c.vbd(other, vdi)
        return "VM.start", [other, False, False], [vdi]

    @staticmethod
    def vdi_in_use__by_vms_of_the_host(c, _):
        config = {"server": "nas", "serverpath": "/vdi-in-use"}
        shared = c.api.SR.create(c.host(), config, "0", "nas", "", "nfs", "user", True, {})
        vm, vdi = c.vm(), c.vdi(sr=shared)
        c.vbd(vm, vdi)
        c.api.VM.start(vm, False, False)
        return "PBD.unplug", [c.api.SR.get_PBDs(shared)[0]], [vdi]

    @staticmethod
    def vdi_readonly(c, _):
        vm, vdi = c.vm(), c.vdi(read_only=True)
        return "VBD.create", [vbd_record(vm, vdi)], [vdi]

    @staticmethod
    def vdi_not_managed(c, _):
        vm, source = c.vm(), c.vdi()
        c.api.VDI.snapshot(source)
        records = c.api.VDI.get_all_records()
        parent = c.api.VDI.get_sm_config(source)["vhd-parent"]
        base = next(ref for ref, each in records.items() if each["uuid"] == parent)
        vbd = c.vbd(vm, base, mode="RO")
        return "VM.start", [vm, False, False], [vbd]

    @staticmethod
    def vdi_is_sharable(c, _):
        vdi = c.vdi(sharable=True)
        return "VDI.set_on_boot", [vdi, "reset"], [vdi]

    @staticmethod
    def vdi_cbt_enabled(c, _):
        vdi = c.vdi()
        c.api.VDI.enable_cbt(vdi)
        return "VDI.set_on_boot", [vdi, "reset"], [vdi]

    @staticmethod
    def vdi_no_cbt_metadata(c, _):
        snapshot = c.api.VDI.snapshot(c.vdi())
        return "VDI.data_destroy", [snapshot], [snapshot]

    @staticmethod
    def vdi_incompatible_type(c, _):
        vdi = c.vdi(type="redo_log")
        return "VBD.create", [vbd_record(c.vm(), vdi)], [vdi, "redo_log"]

    @staticmethod
    def vdi_has_rrds(c, _):
        vdi = c.vdi(type="rrd")
        return "VDI.destroy", [vdi], [vdi]

    @staticmethod
    def vdi_too_small(c, _):
        source, target = c.vdi(size_mib=8), c.vdi(size_mib=4)
        return "VDI.copy", [source, NULL, NULL, target], [target, str(8 << 20)]

    @staticmethod
    def sr_has_pbd(c, _):
        return "SR.forget", [c.default_sr()], [c.default_sr()]

    @staticmethod
    def sr_has_no_pbds(c, _):
        new = c.api.SR.introduce("", "new", "", "ext", "user", False, {})
        return "SR.scan", [new], [new]

    @staticmethod
    def sr_indestructible(c, _):
        new = c.api.SR.introduce("", "new", "", "ext", "user", False, {})
        c.api.SR.set_other_config(new, {"indestructible": "true"})
        return "SR.destroy", [new], [new]

    @staticmethod
    def sr_operation_not_supported(c, _):
        tools = sr(c, "XenServer Tools")
        return "VDI.snapshot", [c.api.SR.get_VDIs(tools)[0]], [tools]

    @staticmethod
    def sr_not_empty(c, _):
        new = c.api.SR.create(c.host(), {"device": "/dev/sdx"}, "0", "new", "", "ext", "user", False, {})
        c.vdi(sr=new)
        c.api.PBD.unplug(c.api.SR.get_PBDs(new)[0])
        return "SR.destroy", [new], []

    @staticmethod
    def sr_unknown_driver(c, _):
        return "SR.introduce", ["", "x", "", "tape", "user", False, {}], ["tape"]

    @staticmethod
    def sr_device_in_use(c, _):
        return "SR.create", [c.host(), {"device": "/dev/sda3"}, "0", "x", "", "ext", "user", False, {}], []

    @staticmethod
    def sr_backend_failure_44(c, _):
        new = c.api.SR.create(c.host(), {"device": "/dev/sdy"}, str(8 << 20), "x", "", "lvm", "user", False, {})
        return "VDI.create", [vdi_record(new, 1 * GIB)], ["", "There is insufficient space", ""]

    @staticmethod
    def sr_backend_failure_79(c, _):
        vdi = c.vdi(size_mib=8)
        return "VDI.resize", [vdi, str(4 << 20)], ["", "VDI Invalid size [opterr=shrinking not allowed]", ""]

    @staticmethod
    def pbd_exists(c, _):
        (pbd,) = c.api.SR.get_PBDs(c.default_sr())
        record = {"host": c.host(), "SR": c.default_sr(), "device_config": {}, "other_config": {}}
        return "PBD.create", [record], [c.default_sr(), c.host(), pbd]

    @staticmethod
    def location_not_unique(c, _):
        location = c.api.VDI.get_location(c.vdi())
        arguments = [location, "", "", c.default_sr(), "user", False, False, {}, location]
        return "VDI.introduce", arguments, [c.default_sr(), location]

    @staticmethod
    def value_not_supported(c, _):
        config = {"SRmaster": "true"}
        record = {"host": c.host(), "SR": c.default_sr(), "device_config": config, "other_config": {}}
        return "PBD.create", [record], ["SRmaster", "true", "The SRmaster key is reserved"]

    @staticmethod
    def invalid_value(c, _):
        return "VM.set_VCPUs_max", [c.vm(), "0"], ["VCPUs_max", "0"]

    @staticmethod
    def invalid_value__expression(c, _):
        return "VM.get_all_records_where", ["field"], None

    @staticmethod
    def map_duplicate_key(c, _):
        vm = c.vm(other_config={"a": "1"})
        return "VM.add_to_other_config", [vm, "a", "2"], ["VM", "other_config", vm, "a"]

    @staticmethod
    def mac_invalid(c, _):
        return "VIF.create", [{**vif_record(c, c.vm(), "0"), "MAC": "00:11"}], ["00:11"]

    @staticmethod
    def mac_still_exists(c, _):
        records = c.api.PIF.get_all_records()
        pif, mac = next((ref, each["MAC"]) for ref, each in records.items() if each["device"] == "eth1")
        return "PIF.forget", [pif], [mac]

    @staticmethod
    def mac_does_not_exist(c, _):
        return "PIF.introduce", [c.host(), "00:16:3e:ff:ff:ff", "eth9", True], ["00:16:3e:ff:ff:ff"]

    @staticmethod
    def memory_constraint_violation(c, _):
        return "VM.set_memory_dynamic_range", [c.vm(), "2", "1"], None

    @staticmethod
    def host_not_enough_free_memory(c, _):
        vm = c.vm(memory_mib=100_000)
        needed = int(c.api.VM.get_memory_dynamic_min(vm)) + int(c.api.VM.get_memory_overhead(vm))
        return "VM.start", [vm, False, False], [str(needed), c.api.host.compute_free_memory(c.host())]

    @staticmethod
    def vm_requires_sr(c, _):
        vm = c.vm()
        config = {"server": "nas", "serverpath": "/vm-requires-sr"}
        shared = c.api.SR.create(c.host(), config, "0", "nas", "", "nfs", "user", True, {})
        c.vbd(vm, c.vdi(sr=shared))
        c.api.PBD.unplug(c.api.SR.get_PBDs(shared)[0])
        return "VM.start", [vm, False, False], [vm, shared]

    @staticmethod
    def vm_host_incompatible_virtual_hardware_platform_version(c, _):
        vm = c.vm()
        c.api.VM.set_hardware_platform_version(vm, "9")
        return "VM.start", [vm, False, False], [c.host(), "0, 1, 2", vm, "9"]

    @staticmethod
    def vm_no_suspend_sr(c, _):
        vm, host, pool = c.started(), c.host(), c.api.pool.get_all()[0]
        kept = c.api.host.get_suspend_image_sr(host), c.api.pool.get_suspend_image_SR(pool)
        c.api.host.set_suspend_image_sr(host, NULL)
        c.api.pool.set_suspend_image_SR(pool, NULL)
        details = refused(c, "VM.suspend", vm)
        c.api.host.set_suspend_image_sr(host, kept[0])
        c.api.pool.set_suspend_image_SR(pool, kept[1])
        return details, None, [vm]

    @staticmethod
    def xenapi_missing_plugin(c, _):
        return "host.call_plugin", [c.host(), "nothing", "x", {}], ["nothing"]

    @staticmethod
    def network_contains_vif(c, _):
        network = c.api.network.create({"name_label": "n", "other_config": {}})
        vm = c.vm()
        vif = c.vif(vm, network=network)
        c.api.VM.start(vm, False, False)
        return "network.destroy", [network], [vif]

    @staticmethod
    def network_contains_pif(c, _):
        return "network.destroy", [c.network()], c.api.network.get_PIFs(c.network())

    @staticmethod
    def cannot_destroy_system_network(c, _):
        return "network.destroy", [internal_network(c)], [internal_network(c)]

    @staticmethod
    def bootloader_failed(c, _):
        vm = c.vm(PV_bootloader="eliloader")
        return "VM.start", [vm, False, False], [vm, "the VM has no repository to install from"]

    @staticmethod
    def unknown_bootloader(c, _):
        vm = c.vm(PV_bootloader="lilo")
        return "VM.start", [vm, False, False], [vm, "lilo"]

    @staticmethod
    def task_cancelled(c, simulator):
        simulator.control.delay("VM.clone", 60)
        task = c.api.Async.VM.clone(c.vm(), "copy")
        c.api.task.cancel(task)
        return c.finished(task)["error_info"], None, [task]

    @staticmethod
    def feature_requires_hvm(c, _):
        return "VM.set_shadow_multiplier_live", [c.started(), 2.0], ["shadow memory"]

    @staticmethod
    def host_not_disabled(c, _):
        return "host.reboot", [c.host()], []

    @staticmethod
    def host_disabled(c, _):
        vm = c.vm()
        c.api.host.disable(c.host())
        details = refused(c, "VM.start", vm, False, False)
        c.api.host.enable(c.host())
        return details, None, [c.host()]

    @staticmethod
    def licence_restriction(c, _):
        c.api.host.apply_edition(c.host(), "free", False)
        details = refused(c, "pool.enable_ha", [], {})
        c.api.host.apply_edition(c.host(), "trial", False)
        return details, None, ["HA"]

    @staticmethod
    def ha_too_few_hosts(c, _):
        return "pool.enable_ha", [[], {}], []

    @staticmethod
    def only_provision_template(c, _):
        return "VM.provision", [c.vm()], []

    @staticmethod
    def only_revert_snapshot(c, _):
        return "VM.revert", [c.vm()], []

    @staticmethod
    def vm_cannot_delete_default_template(c, _):
        return "VM.destroy", [template(c)], [template(c)]

    @staticmethod
    def message_method_unknown(c, _):
        return "VM.fly", ["x"], ["VM.fly"]

    @staticmethod
    def message_parameter_count_mismatch(c, _):
        return "VM.pause", [], ["VM.pause", "1", "0"]

    @staticmethod
    def message_removed(c, _):
        return "VDI.resize_online", [c.vdi(), "1"], []

    @staticmethod
    def message_deprecated(c, _):
        return "VDI.force_unlock", [c.vdi()], []

    @staticmethod
    def session_not_registered(c, _):
        return "event.next", [], [c.session._session]

    @staticmethod
    def event_subscription_parse_failure(c, _):
        return "event.from", [["VM/"], "", 0.0], ["VM/"]

    @staticmethod
    def event_from_token_parse_failure(c, _):
        return "event.from", [["VM"], "x", 0.0], ["x"]


def vif_record(c, vm, device):
    return {
        "VM": vm, "network": c.network(), "device": device, "MAC": "", "MTU": "1500", "other_config": {},
        "qos_algorithm_type": "", "qos_algorithm_params": {},
    }  # fmt: skip


def vbd_record(vm, vdi):
    return {
        "VM": vm, "VDI": vdi, "userdevice": "0", "bootable": False, "mode": "RW", "type": "Disk", "empty": False,
        "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
    }  # fmt: skip


def vdi_record(repository, size):
    return {
        "name_label": "", "name_description": "", "SR": repository, "virtual_size": str(size), "type": "user",
        "sharable": False, "read_only": False, "other_config": {},
    }  # fmt: skip


NAMES = [name for name, _ in inspect.getmembers(Cases, inspect.isfunction)]


@pytest.mark.parametrize("name", NAMES)
def test_the_error_is_exactly_the_one_that_clients_know(c, simulator, name):
    code = name.partition("__")[0].upper()
    call, arguments, rest = getattr(Cases, name)(c, simulator)

    details = call if arguments is None else refused(c, call, *arguments)
    simulator.control.clear()
    control_domain = c.api.host.get_control_domain(c.host())
    for vm in c.api.host.get_resident_VMs(c.host()):
        if vm != control_domain:
            c.api.VM.hard_shutdown(vm)

    assert details == [code, *(details[1:] if rest is None else rest)]
