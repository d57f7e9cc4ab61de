import pytest

from tests.fixtures.xensim import logged_in
from tests.fixtures.xensim import xensim as xensim_fixture

xensim = xensim_fixture


class Client:
    """A logged-in XenAPI client with short ways to make the objects that tests need."""

    def __init__(self, session):
        self.session = session
        self.api = session.xenapi

    def host(self):
        return self.api.host.get_all()[0]

    def default_sr(self):
        return self.api.pool.get_default_SR(self.api.pool.get_all()[0])

    def network(self):
        return self.api.network.get_by_name_label("Pool-wide network associated with eth0")[0]

    def vm(self, name="vm", memory_mib=256, **fields):
        memory = str(memory_mib * 1024 * 1024)
        record = {
            "name_label": name, "name_description": "", "user_version": "0", "is_a_template": False,
            "affinity": "OpaqueRef:NULL", "memory_static_min": "0", "memory_static_max": memory,
            "memory_dynamic_min": memory, "memory_dynamic_max": memory, "VCPUs_params": {}, "VCPUs_max": "1",
            "VCPUs_at_startup": "1", "actions_after_shutdown": "destroy", "actions_after_reboot": "restart",
            "actions_after_crash": "destroy", "PV_bootloader": "pygrub", "PV_kernel": "", "PV_ramdisk": "",
            "PV_args": "", "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "",
            "HVM_boot_params": {}, "platform": {}, "PCI_bus": "", "other_config": {}, "recommendations": "",
        }  # fmt: skip
        return self.api.VM.create({**record, **fields})

    def hvm(self, name="vm", **fields):
        policy = {"HVM_boot_policy": "BIOS order", "HVM_boot_params": {"order": "dc"}, "PV_bootloader": ""}
        return self.vm(name, **policy, **fields)

    def vdi(self, size_mib=4, sr=None, **fields):
        record = {
            "name_label": "disk", "name_description": "", "SR": sr or self.default_sr(),
            "virtual_size": str(size_mib * 1024 * 1024), "type": "User", "sharable": False, "read_only": False,
            "other_config": {},
        }  # fmt: skip
        return self.api.VDI.create({**record, **fields})

    def vbd(self, vm, vdi, userdevice="autodetect", **fields):
        record = {
            "VM": vm, "VDI": vdi, "userdevice": userdevice, "bootable": False, "mode": "RW", "type": "disk",
            "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
        }  # fmt: skip
        return self.api.VBD.create({**record, **fields})

    def vif(self, vm, device="0", mac="", network=None, **fields):
        record = {
            "VM": vm, "network": network or self.network(), "device": device, "MAC": mac, "MTU": "1500",
            "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
        }  # fmt: skip
        return self.api.VIF.create({**record, **fields})

    def started(self, name="vm", **fields):
        vm = self.vm(name, **fields)
        self.api.VM.start(vm, False, False)
        return vm

    def events(self, classes, token="", timeout=0.0):
        return self.session.xenapi_request("event.from", (classes, token, float(timeout)))

    def finished(self, task):
        """Wait for a task; return its record."""
        token = ""
        while True:
            record = self.api.task.get_record(task)
            if record["status"] != "pending":
                return record
            token = self.events([f"task/{task}"], token, 10.0)["token"]


@pytest.fixture
def client(xensim):
    with logged_in(xensim) as session:
        yield Client(session)
