import contextlib
import hashlib
import io
import itertools
import random
import uuid

import pytest

from nova_lite import conf as nova_conf
from nova_lite.objects import network_model as model
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi import XenAPIDriver
from nova_lite.xensim import Simulator

MIB = 1024 * 1024
GIB = 1024 * MIB
COUNTED = ("VM", "VDI", "VBD", "VIF")


class ImageStore:
    """The image port, in memory."""

    def __init__(self):
        self.images = {}

    def add(self, content, **meta):
        image_id = str(uuid.uuid4())
        meta = {"id": image_id, "name": "image", "status": "active", "size": len(content), "disk_format": "raw",
                "container_format": "bare", "min_ram": 0, "min_disk": 0, "properties": {},
                "os_hash_value": hashlib.sha256(content).hexdigest(), **meta}
        self.images[image_id] = (meta, content)
        return meta

    def show(self, context, image_id):
        return self.images[image_id][0]

    def open(self, context, image_id):
        return contextlib.closing(io.BytesIO(self.images[image_id][1]))

    def update(self, context, image_id, meta, data=None):
        content = data.read() if data is not None else self.images[image_id][1]
        self.images[image_id] = ({**self.images[image_id][0], **meta, "size": len(content)}, content)


class Compute(VirtAPI):
    """The compute service above the driver: remembers what it is told."""

    def __init__(self):
        self.updates = []
        self.faults = []
        self.waited_for = []

    def instance_update(self, context, instance_uuid, updates):
        self.updates.append((instance_uuid, updates))
        return {"uuid": instance_uuid, **updates}

    def instance_fault_create(self, context, instance, exception, exc_info=None):
        self.faults.append(exception)

    def agent_build_get_by_triple(self, context, hypervisor, os, architecture):
        return None

    def wait_vifs_active(self, context, instance, vif_ids, timeout_s):
        self.waited_for.append(vif_ids)

    @property
    def progress(self):
        return [updates["progress"] for _, updates in self.updates if "progress" in updates]


class Bench:
    """A driver against a simulated host, and what a test needs to look at both."""

    def __init__(self, simulator, conf, virtapi, images):
        self.simulator = simulator
        self.conf = conf
        self.compute = virtapi
        self.images = images
        self.driver = XenAPIDriver(virtapi, conf=conf, image_api=images)
        self.driver.init_host("compute-1")
        self.vmops = self.driver.vmops
        self.api = self.vmops._session.call_xenapi
        self.image = images.add(random.Random(5).randbytes(3 * MIB))

    def spawn(self, instance=None, image=None, network_info=None, **kwargs):
        instance = instance or make_instance()
        self.vmops.spawn(None, instance, self.image if image is None else image,
                         make_network_info() if network_info is None else network_info, **kwargs)
        return instance

    def vm(self, instance, suffix=""):
        refs = self.api("VM.get_by_name_label", instance["name"] + suffix)
        return self.api("VM.get_record", refs[0]) if refs else None

    def counts(self):
        return {name: len(self.api(f"{name}.get_all")) for name in COUNTED}

    def calls(self):
        """The calls since reset_calls, without the long poll's."""
        return [call for call in self.simulator.control.calls() if not is_background(call)]

    def close(self):
        self.driver.cleanup_host("compute-1")


def is_background(call):
    return call in ("event.from", "session.login_with_password", "session.logout")


numbers = itertools.count(1)


def make_instance(**changes):
    number = next(numbers)
    flavor = {"id": 1, "name": "m1.test", "memory_mb": 128, "vcpus": 1, "root_gb": 1, "ephemeral_gb": 0, "swap": 0,
              "flavorid": "1", "rxtx_factor": 1.0, "vcpu_weight": None, "extra_specs": {}}
    flavor.update(changes.pop("flavor", {}))
    return {"id": number, "uuid": str(uuid.uuid4()), "name": f"instance-{number:08x}", "hostname": f"host-{number}",
            "os_type": "linux", "architecture": "x86_64", "vm_mode": None, "image_ref": None, "kernel_id": None,
            "ramdisk_id": None, "root_gb": flavor["root_gb"], "ephemeral_gb": flavor["ephemeral_gb"],
            "auto_disk_config": False, "metadata": {"color": "blue"}, "system_metadata": {}, "flavor": flavor,
            "user_id": "u", "project_id": "p", "key_data": None, "config_drive": "", **changes}


def make_network_info(count=1, bridge="xenbr0"):
    vifs = []
    for number in range(1, count + 1):
        subnet = model.Subnet(
            cidr="192.168.1.0/24", gateway=model.IP(address="192.168.1.1", type="gateway"),
            dns=[model.IP(address="192.168.1.3", type="dns"), model.IP(address="192.168.1.3", type="dns")],
            ips=[model.FixedIP(address=f"192.168.1.{100 + number}")],
            routes=[model.Route(cidr="10.0.0.0/8", gateway=model.IP(address="192.168.1.254", type="gateway"))])
        six = model.Subnet(cidr="2001:db8:0:1::/64", gateway=model.IP(address="fe80::1", type="gateway"),
                           ips=[model.FixedIP(address="2001:db8:0:1:dcad:beff:feef:1")])
        network = model.Network(id=str(uuid.uuid4()), bridge=bridge, label="public", subnets=[subnet, six])
        address = "02:00:" + random.randbytes(4).hex(":")
        vifs.append(model.VIF(id=str(uuid.uuid4()), address=address, network=network, type="bridge", rxtx_cap=0))
    return model.NetworkInfo(vifs)


@pytest.fixture(scope="module")
def shared_simulator(tmp_path_factory):
    simulator = Simulator(state_dir=str(tmp_path_factory.mktemp("xensim")))
    simulator.start()
    yield simulator
    simulator.stop()


@pytest.fixture
def simulator(shared_simulator):
    yield shared_simulator
    shared_simulator.control.clear()


@pytest.fixture
def make_conf(simulator, tmp_path):
    def make(**options):
        overrides = {("xenserver", "connection_url"): simulator.url,
                     ("xenserver", "connection_username"): simulator.username,
                     ("xenserver", "connection_password"): simulator.password,
                     ("xenserver", "vhd_coalesce_poll_interval"): 0.05,
                     ("xenserver", "introduce_vdi_retry_wait"): 0,
                     ("xenserver", "task_timeout"): 30, ("xenserver", "call_timeout"): 30,
                     (None, "state_path"): str(tmp_path)}
        overrides.update({("xenserver" if not name.startswith("default__") else None,
                           name.removeprefix("default__")): value for name, value in options.items()})
        return nova_conf.load(prog="nova_lite", config_files=[], config_dirs=[], overrides=overrides)
    return make


@pytest.fixture
def make_bench(simulator, make_conf):
    with contextlib.ExitStack() as stack:
        def make(at=None, **options):
            if at is not None:
                options["connection_url"] = at.url
            bench = Bench(at or simulator, make_conf(**options), Compute(), ImageStore())
            stack.callback(bench.close)
            return bench
        yield make


@pytest.fixture
def bench(make_bench):
    return make_bench()
