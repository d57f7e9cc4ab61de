"""A cell whose compute services manage real driver's hosts: what one process of the chaos tests holds."""

import io
import json
import logging
import pathlib
import random
import time
import uuid

from nova_lite import concurrency, exception, image, network, objects
from nova_lite.compute.api import API
from nova_lite.compute.manager import ComputeManager
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.rpc import Rpc
from tests.fixtures.services import make_conf, make_services
from tests.unit.compute.volume_shelf import VolumeShelf
from tests.unit.compute.world import RecordingNotifier

MIB = 1024 * 1024
WAIT_S = 60
PORTAL = "10.0.0.9:3260"


class Targets(VolumeShelf):
    """Volumes that are iSCSI targets named after them; their states are files that every process of a cell sees."""

    def __init__(self, directory):
        super().__init__()
        self._directory = pathlib.Path(directory)

    def get(self, context, volume_id):
        try:
            return json.loads((self._directory / volume_id).read_text())
        except FileNotFoundError:
            return {"id": volume_id, "status": "available", "instance_uuid": None, "mountpoint": None}

    def _change(self, volume_id, **changes):
        written = self._directory / f"{volume_id}.new"
        written.write_text(json.dumps({**self.get(None, volume_id), **changes}))
        written.rename(self._directory / volume_id)

    def _set(self, volume_id, status):
        self._change(volume_id, status=status)

    def attach(self, context, volume, instance_uuid, mountpoint):
        self._change(volume["id"], status="in-use", instance_uuid=instance_uuid, mountpoint=mountpoint)

    def detach(self, context, volume):
        self._change(volume["id"], status="available", instance_uuid=None, mountpoint=None)

    def initialize_connection(self, context, volume, connector):
        return {"driver_volume_type": "iscsi", "data": {
            "volume_id": volume["id"], "target_portal": PORTAL, "target_iqn": f"iqn.chaos:{volume['id']}",
            "target_lun": 0}}

    def terminate_connection(self, context, volume, connector):
        """Nothing is kept about it."""


def confs(directory, urls):
    """Return {host: configuration} of one cell."""
    return {host: make_conf(directory, cell_name="here", overrides={
        (None, "host"): host, (None, "compute_driver"): "xenapi.XenAPIDriver", (None, "vif_plugging_timeout"): 0,
        (None, "transport_url"): "memory://local/chaos", (None, "shutdown_timeout"): 0,
        (None, "resume_guests_state_on_host_boot"): False,
        ("xenserver", "connection_url"): url, ("xenserver", "connection_password"): "xensim",
        ("xenserver", "vhd_coalesce_poll_interval"): 0.02, ("xenserver", "introduce_vdi_retry_wait"): 0,
        ("xenserver", "task_timeout"): 60, ("xenserver", "call_timeout"): 60,
        ("xenserver", "num_vbd_unplug_retries"): 2}) for host, url in urls.items()}


class Site:
    """The compute services of a cell, `a` and `b` say, each on a pool of its own; all in this process."""

    def __init__(self, directory, confs_by_host, db=None):
        logging.disable(logging.CRITICAL)
        first = next(iter(confs_by_host.values()))
        services = make_services(directory, cell_name="here", conf=first, clock=concurrency.Clock(), db=db)
        self.db = services.db
        self.rpc = Rpc(first, clock=services.clock)
        services = services.with_(
            notifier=RecordingNotifier(), rpc=self.rpc, network_api=network.load(first), image_api=image.load(first),
            volume_api=Targets(directory))
        self.services = services.with_(compute_api=API(services))
        self.context = RequestContext("alice", "blue", is_admin=True).bind(self.services)
        self._confs = confs_by_host
        self.hosts = {host: self._manager(host) for host in confs_by_host}
        self._servers = {}

    def _manager(self, host):
        return ComputeManager(services=self.services.with_(conf=self._confs[host], host=host))

    def furnish(self):
        """Fill the cell's database once: services, a network, an image."""
        for host in self.hosts:
            self.db.service_create(self.context, {"host": host, "binary": "nova-compute", "topic": "compute",
                                                  "report_count": 0})
        self.db.network_create(self.context, {"label": "net", "cidr": "10.1.0.0/16", "bridge": "xenbr0"})

    def start(self, hosts=("a", "b")):
        """Start the compute services of these hosts that do not run, as daemons do: recover, count resources, listen.

        In life one service dies and the others go on; here all of them died. The one that the other's recovery talks
        to comes first.
        """
        for host in hosts:
            if host in self._servers:
                continue
            manager = self.hosts[host]
            manager.init_host()
            manager.pre_start_hook()
            self._servers[host] = self.rpc.server("compute", [manager], server_name=host, bind=manager.services)
            self._servers[host].start()

    def stop(self):
        """End the services, as a daemon that is told to."""
        for host in list(self._servers):
            self._stop(host)
        self.rpc.close()

    def _stop(self, host):
        server = self._servers.pop(host)
        server.stop()
        server.wait()
        self.hosts[host].stop()

    def restart(self, host):
        """End the service of one host, and start it again; the others go on."""
        self._stop(host)
        self.hosts[host] = self._manager(host)
        self.start([host])

    # --- Things to work with ---

    def image(self, seed=1):
        content = random.Random(seed).randbytes(2 * MIB)
        return self.services.image_api.create(self.context, {
            "name": f"disk-{seed}", "disk_format": "raw", "container_format": "bare", "properties": {}},
            io.BytesIO(content))["id"]

    def flavor(self, root_gb=1, ephemeral_gb=0, swap=0):
        """Return a flavor like m1.tiny, which has one GB here; it is made when asked for first."""
        name = f"chaos.{root_gb}.{ephemeral_gb}.{swap}"
        try:
            return objects.Flavor.get_by_flavor_id(self.context, name)
        except exception.FlavorNotFound:
            self.db.flavor_create(self.context, {
                "name": name, "flavorid": name, "memory_mb": 64 * root_gb, "vcpus": 1, "root_gb": root_gb,
                "ephemeral_gb": ephemeral_gb, "swap": swap, "rxtx_factor": 1.0, "is_public": True})
            return objects.Flavor.get_by_flavor_id(self.context, name)

    def create(self, image_id, flavor=None, **values):
        """Return a new row, scheduled and not yet built."""
        flavor = flavor or self.flavor()
        instance = objects.Instance(
            self.context, uuid=str(uuid.uuid4()), user_id="alice", project_id="blue", display_name="machine",
            hostname="machine", vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, image_ref=image_id,
            memory_mb=flavor.memory_mb, vcpus=flavor.vcpus, root_gb=flavor.root_gb, ephemeral_gb=flavor.ephemeral_gb,
            instance_type_id=flavor.id, flavor=flavor, metadata={}, system_metadata={}, os_type="linux", **values)
        instance.create()
        return instance

    def create_from_volume(self, volume_id):
        """Return a new row of an instance that boots from a volume."""
        instance = self.create("", root_device_name="/dev/xvda")
        objects.BlockDeviceMapping(
            self.context, instance_uuid=instance.uuid, source_type="volume", destination_type="volume", boot_index=0,
            device_name="/dev/xvda", volume_id=volume_id, delete_on_termination=False).create()
        return instance

    def load(self, instance_uuid):
        return objects.Instance.get_by_uuid(self.context, instance_uuid)

    def state(self, instance_uuid):
        """Return (vm_state, task_state, host) of an instance; ('deleted', None, None) when it is gone."""
        instance = objects.Instance.get_by_uuid(self.context.elevated(read_deleted="yes"), instance_uuid)
        if instance.deleted:
            return "deleted", None, None
        return instance.vm_state, instance.task_state, instance.host

    def busy(self, instance_uuid, task_state):
        """Put the instance into a task state, as the API does before it sends a message."""
        self.db.instance_update(self.context, instance_uuid, {"task_state": task_state})
        return self.load(instance_uuid)

    def settle(self, instance_uuid):
        """Wait until the instance has no task; return its state."""
        deadline = time.monotonic() + WAIT_S
        while True:
            state = self.state(instance_uuid)
            if state[1] is None or time.monotonic() > deadline:
                return state
            time.sleep(0.01)

    # --- What users ask for ---

    def boot(self, image_id):
        return self.build(self.create(image_id).uuid)

    def build(self, instance_uuid):
        self.hosts["a"].run_instance(self.context, instance=self.load(instance_uuid).to_legacy_dict())
        return instance_uuid

    def order(self, instance_uuid, method, task_state, **arguments):
        """Have the host do what needs no more than a task state before its message."""
        instance = self.busy(instance_uuid, task_state)
        getattr(self.of(instance_uuid), method)(self.context, instance=instance, **arguments)

    def of(self, instance_uuid):
        """Return the manager that has the instance."""
        return self.hosts[self.load(instance_uuid).host or "a"]

    def rescue(self, instance_uuid, image_id):
        self.order(instance_uuid, "rescue_instance", task_states.RESCUING, rescue_image_ref=image_id)

    def unrescue(self, instance_uuid):
        self.order(instance_uuid, "unrescue_instance", task_states.UNRESCUING)

    def rebuild(self, instance_uuid, image_id, new_image_id):
        self.db.instance_update(self.context, instance_uuid, {"image_ref": new_image_id})
        self.order(instance_uuid, "rebuild_instance", task_states.REBUILDING, orig_image_ref=image_id,
                   image_ref=new_image_id, injected_files=[], new_pass="secret")

    def attach_interface(self, instance_uuid):
        self.of(instance_uuid).attach_interface(self.context, self.load(instance_uuid), None, None)

    def detach_interface(self, instance_uuid, port_id):
        self.of(instance_uuid).detach_interface(self.context, self.load(instance_uuid), port_id)

    def interfaces(self, instance_uuid):
        """Return the ports of an instance; its guest has an interface for each, and no other."""
        instance = self.load(instance_uuid)
        network_info = self.services.network_api.get_instance_nw_info(self.context, instance)
        vmops = self.of(instance_uuid).driver.vmops
        found = vmops._session.records_where("VIF", VM=vmops.finder.require(instance)).values()
        have, want = {vif["MAC"] for vif in found}, {vif["address"] for vif in network_info}
        assert have == want, f"the guest has interfaces {have}, the network service knows {want}"
        return [vif["id"] for vif in network_info]

    def snapshot(self, instance_uuid):
        made = self.services.image_api.create(self.context, {"name": "snapshot"})["id"]
        instance = self.busy(instance_uuid, task_states.IMAGE_SNAPSHOT)
        self.of(instance_uuid).snapshot_instance(self.context, made, instance)

    def attach(self, instance_uuid, volume_id):
        self.services.volume_api.reserve_volume(self.context, volume_id)
        self.of(instance_uuid).attach_volume(self.context, volume_id, "/dev/xvdf", self.load(instance_uuid))

    def detach(self, instance_uuid, volume_id):
        self.services.volume_api.begin_detaching(self.context, volume_id)
        self.of(instance_uuid).detach_volume(self.context, volume_id, self.load(instance_uuid))

    def delete(self, instance_uuid):
        instance = self.busy(instance_uuid, task_states.DELETING)
        (self.hosts.get(instance.host) or self.hosts["a"]).terminate_instance(self.context, instance)

    def resize(self, instance_uuid, root_gb=2):
        """Move the instance from its host to the other one, with a larger disk."""
        instance = self.busy(instance_uuid, task_states.RESIZE_PREP)
        self.other(instance.host).prep_resize(self.context, None, instance, self.flavor(root_gb))
        return self.settle(instance_uuid)

    def other(self, host):
        return self.hosts["b" if host == "a" else "a"]

    def migration_of(self, instance_uuid):
        return objects.MigrationList.get_by_filters(
            self.context, {"instance_uuid": instance_uuid, "migration_type": "resize"}).objects[-1]

    def confirm(self, instance_uuid):
        migration = self._migration_in(instance_uuid, "confirming")
        self.hosts[migration.source_compute].confirm_resize(self.context, self.load(instance_uuid),
                                                            migration=migration)

    def _migration_in(self, instance_uuid, status):
        """Put the record of a resize into a state, as the API does before it sends a message."""
        migration = self.migration_of(instance_uuid)
        migration.status = status
        migration.save()
        return migration

    def revert(self, instance_uuid):
        migration = self._migration_in(instance_uuid, "reverting")
        instance = self.busy(instance_uuid, task_states.RESIZE_REVERTING)
        self.hosts[migration.dest_compute].revert_resize(self.context, instance, migration=migration)
        return self.settle(instance_uuid)

    # --- What operators do about a machine that is in error ---

    def reboot(self, instance_uuid):
        """Say that it works, and reboot it hard; return its state then."""
        return self._mend(instance_uuid, vm_states.ACTIVE, "reboot", "HARD")

    def take_back(self, instance_uuid):
        """Say that it was resized, and revert that."""
        return self._mend(instance_uuid, vm_states.RESIZED, "revert_resize")

    def _mend(self, instance_uuid, vm_state, remedy, *arguments):
        compute_api = self.services.compute_api
        compute_api.update_state(self.context, self.load(instance_uuid), vm_state)
        getattr(compute_api, remedy)(self.context, self.load(instance_uuid), *arguments)
        return self.settle(instance_uuid)

    def is_running(self, instance_uuid):
        """Ask the host of an instance whether its guest runs."""
        instance = self.load(instance_uuid)
        return self.hosts[instance.host].driver.get_info(instance)["state"] == power_state.RUNNING

    # --- Moves of running machines ---

    def live_migrate(self, instance_uuid):
        instance = self.busy(instance_uuid, task_states.MIGRATING)
        here = self.hosts[instance.host]
        destination = self.other(instance.host)
        try:
            data = destination.check_can_live_migrate_destination(self.context, instance, True, False)
        except Exception:  # whatever the check says, the scheduler that asked for it lets the instance be
            self.busy(instance_uuid, None)
            raise
        here.live_migration(self.context, destination.host, instance, True, data)
        return self.settle(instance_uuid)
