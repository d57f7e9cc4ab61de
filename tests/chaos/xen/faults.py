"""One driver beside a simulated host, and what is done to instances while calls fail."""

import contextlib
import itertools

from nova_lite import concurrency, exception
from nova_lite import conf as nova_conf
from tests.fixtures.xen_bench import Bench, Compute, ImageStore, make_instance, make_network_info

volumes = itertools.count(1)
COUNTED = ("VM", "VBD", "VIF", "SR", "PBD")
LARGER = {"root_gb": 2, "memory_mb": 256, "vcpus": 2, "ephemeral_gb": 0, "swap": 0, "vcpu_weight": None}


NAP_S = 0.02


class HurriedClock(concurrency.Clock):
    """Real time, in which sleeping takes next to none: hosts that come back have to do that meanwhile."""

    def __init__(self):
        self._skipped_s = 0.0

    def monotonic(self):
        return super().monotonic() + self._skipped_s

    def time(self):
        return super().time() + self._skipped_s

    def sleep(self, seconds):
        nap_s = min(seconds, NAP_S)
        super().sleep(nap_s)
        self._skipped_s += seconds - nap_s


class HurriedBench(Bench):
    """A bench whose driver does not sleep."""

    def __init__(self, simulator, **options):
        conf = nova_conf.load(prog="nova_lite", config_files=[], config_dirs=[])
        for name, value in {"connection_url": simulator.url, "connection_password": simulator.password,
                            "vhd_coalesce_poll_interval": 0.01, "introduce_vdi_retry_wait": 0, "task_timeout": 4,
                            "call_timeout": 20, "running_timeout": 8, "num_vbd_unplug_retries": 1, **options}.items():
            conf.set_override(name, value, "xenserver")
        self.clock = HurriedClock()
        super().__init__(simulator, conf, Compute(), ImageStore(), clock=self.clock)

    def spawn_warm(self):
        """Have the image cached."""
        instance = self.spawn()
        self.driver.destroy(instance, make_network_info())


def left(bench):
    """Return what is on the host; disks that are there to stay do not count.

    Nor do tasks: one whose making was not answered is ended when the service starts next.
    """
    found = {name: len(bench.api(f"{name}.get_all")) for name in COUNTED}
    disks = bench.api("VDI.get_all_records").values()
    found["disks"] = sorted(vdi["name_label"] for vdi in disks
                            if vdi["managed"] and not (vdi["name_label"].startswith("Glance Image")
                                                       and "image-id" in vdi["other_config"]))
    return found


class Act:
    """What is done to an instance of a bench."""

    # What it leaves when it fails is taken up where it is done again.
    is_carried_on = False

    def __init__(self, bench):
        self.bench = bench
        self.instance = make_instance()
        self.prepare()

    def prepare(self):
        self.bench.spawn(self.instance)

    def run(self):
        raise NotImplementedError

    def end(self):
        """Remove the instance."""
        self.bench.driver.destroy(self.instance, make_network_info())


class Spawn(Act):
    def prepare(self):
        """Nothing is there yet."""

    def run(self):
        self.bench.spawn(self.instance)


class ColdSpawn(Spawn):
    def prepare(self):
        number = next(volumes)
        self.image = self.bench.images.add(number.to_bytes(4, "big") * (1 << 18))

    def run(self):
        self.bench.spawn(self.instance, self.image)


class Rescue(Act):
    def run(self):
        self.bench.driver.rescue(None, self.instance, make_network_info(), self.bench.image, None)


class Unrescue(Act):
    is_carried_on = True

    def prepare(self):
        super().prepare()
        self.bench.driver.rescue(None, self.instance, make_network_info(), self.bench.image, None)

    def run(self):
        with contextlib.suppress(exception.InstanceNotInRescueMode):
            self.bench.driver.unrescue(self.instance, make_network_info())


class Snapshot(Act):
    is_carried_on = True

    def run(self):
        self.bench.driver.snapshot(None, self.instance, self.bench.images.add(b"")["id"], lambda **states: None)


class Attach(Act):
    def prepare(self):
        super().prepare()
        number = next(volumes)
        self.connection = {"driver_volume_type": "iscsi", "data": {
            "volume_id": f"v{number}", "target_portal": "10.0.0.9:3260", "target_iqn": f"iqn.faults:{number}",
            "target_lun": 0}}
        self.bench.simulator.control.iscsi_target("10.0.0.9", f"iqn.faults:{number}", {"0": 1 << 30})

    def run(self):
        self.bench.driver.attach_volume(self.connection, self.instance, "/dev/xvdf")


class Detach(Attach):
    is_carried_on = True

    def prepare(self):
        super().prepare()
        self.bench.driver.attach_volume(self.connection, self.instance, "/dev/xvdf")

    def run(self):
        self.bench.driver.detach_volume(self.connection, self.instance, "/dev/xvdf")

    def end(self):
        self.run()
        super().end()


class Offer(Act):
    """The source's part of a resize."""

    def run(self):
        self.bench.driver.migrate_disk_and_power_off(None, self.instance, "127.0.0.1", LARGER, make_network_info())

    def end(self):
        self.bench.driver.finish_revert_migration(self.instance, make_network_info())
        super().end()


class Destroy(Act):
    is_carried_on = True

    def run(self):
        self.bench.driver.destroy(self.instance, make_network_info())


ACTS = {"spawn": Spawn, "cold spawn": ColdSpawn, "rescue": Rescue, "unrescue": Unrescue, "snapshot": Snapshot,
        "attach": Attach, "detach": Detach, "offer for a resize": Offer, "destroy": Destroy}
