"""One or more compute services of a cell: real database, real message transport, fake hypervisors."""

import contextlib
import io
import uuid

from nova_lite import image, network, objects
from nova_lite.compute.manager import ComputeManager
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states
from nova_lite.rpc import Rpc
from tests.fixtures.services import make_services
from tests.unit.compute.volume_shelf import VolumeShelf


class RecordingNotifier:
    """Keeps what would have been published."""

    def __init__(self):
        self.sent = []
        self._publisher = None

    def prepare(self, publisher_id):
        prepared = RecordingNotifier()
        prepared.sent, prepared._publisher = self.sent, publisher_id
        return prepared

    def info(self, ctxt, event_type, payload):
        self.sent.append((self._publisher, "INFO", event_type, payload))

    def error(self, ctxt, event_type, payload):
        self.sent.append((self._publisher, "ERROR", event_type, payload))

    def events(self):
        """Names of the usage notifications so far, without their common prefix."""
        prefix = "compute.instance."
        return [event.removeprefix(prefix) for _, _, event, _ in self.sent if event.startswith(prefix)]

    def payload(self, event):
        return next(payload for _, _, name, payload in self.sent if name == f"compute.instance.{event}")


class RecordingComputeAPI:
    """The user-level compute API, as far as the manager calls it."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda context, instance, *args, **kwargs: self.calls.append((name, instance.uuid))


class World:
    """A cell with one compute host, `here`; `add_host` adds more on the same database and broker."""

    def __init__(self, directory, *, cidr="10.1.0.0/28", grouped=None, **options):
        overrides = {**{(None, name): value for name, value in options.items()}, **(grouped or {})}
        self.services = make_services(directory, cell_name="here", overrides={
            (None, "host"): "here", (None, "compute_driver"): "fake.FakeDriver", **overrides})
        self.conf, self.clock, self.db = self.services.conf, self.services.clock, self.services.db
        self.rpc = Rpc(self.conf, clock=self.clock)
        self.notifier = RecordingNotifier()
        self.compute_api = RecordingComputeAPI()
        self.shelf = VolumeShelf()
        self.services = self.services.with_(
            notifier=self.notifier, rpc=self.rpc, compute_api=self.compute_api, network_api=network.load(self.conf),
            volume_api=self.shelf, image_api=image.load(self.conf))
        self.context = RequestContext("alice", "blue", is_admin=True).bind(self.services)
        self.network = self.db.network_create(
            self.context, {"label": "net", "cidr": cidr, "bridge": "xenbr0"})
        self.image = self.services.image_api.create(
            self.context, {"name": "small", "disk_format": "raw", "container_format": "bare", "properties": {}},
            io.BytesIO(b"a disk"))
        self.flavor = objects.Flavor.get_by_flavor_id(self.context, "1")
        self._servers = []
        self.compute = self.add_host("here")

    def add_host(self, host):
        """Return the compute manager of a new host, with its service record and resources."""
        services = self.services.with_(host=host)
        self.db.service_create(self.context, {"host": host, "binary": "nova-compute", "topic": "compute",
                                              "report_count": 0})
        compute = ComputeManager(services=services)
        compute.driver.set_nodes([f"{host}-node"])
        compute.update_available_resource(self.context)
        return compute

    def serve(self, compute):
        """Let the host answer messages."""
        server = self.rpc.server("compute", [compute], server_name=compute.host, bind=compute.services)
        server.start()
        self._servers.append(server)

    def close(self):
        for server in self._servers:
            server.stop()
            server.wait(5)
        self.compute.stop()
        self.rpc.close()
        self.db.dispose()

    # --- Instances ---

    def create(self, **values):
        """Return a new row, scheduled and not yet built."""
        instance = objects.Instance(self.context, **{
            "uuid": str(uuid.uuid4()), "user_id": "alice", "project_id": "blue", "display_name": "machine",
            "vm_state": vm_states.BUILDING, "task_state": task_states.SCHEDULING, "image_ref": self.image["id"],
            "memory_mb": self.flavor.memory_mb, "vcpus": self.flavor.vcpus, "root_gb": self.flavor.root_gb,
            "ephemeral_gb": 0, "instance_type_id": self.flavor.id, "flavor": self.flavor, "metadata": {},
            "system_metadata": {}, **values})
        instance.create()
        self.record_action(instance, "create")
        return instance

    def record_action(self, instance, action):
        self.db.action_start(self.context, {
            "action": action, "instance_uuid": instance.uuid, "request_id": self.context.request_id,
            "user_id": "alice", "project_id": "blue", "start_time": self.clock.utcnow().replace(tzinfo=None)})

    def boot(self, **values):
        """Return a running instance; nothing is left in the notifier."""
        instance = self.create(**values)
        self.compute.run_instance(self.context, instance=instance.to_legacy_dict())
        self.notifier.sent.clear()
        return self.reload(instance)

    def reload(self, instance):
        return objects.Instance.get_by_uuid(self.context, instance.uuid)

    def busy(self, instance, task_state, **values):
        """Put the instance into a task state, as the API does before it sends a message."""
        self.db.instance_update(self.context, instance.uuid, {"task_state": task_state, **values})
        return self.reload(instance)

    def guest(self, instance, compute=None):
        """Return the guest at the hypervisor, None without one."""
        return (compute or self.compute).driver.instances.get(instance.name)

    def faults(self, instance):
        return self.db.instance_fault_get_by_instance_uuids(self.context, [instance.uuid])[instance.uuid]

    def events(self, instance):
        """Return {event: result} of the instance's actions."""
        return {event["event"]: event["result"] for action in self.db.actions_get(self.context, instance.uuid)
                for event in self.db.action_events_get(self.context, action["id"])}

    @contextlib.contextmanager
    def failing(self, method, error, compute=None, before=None):
        """Have a driver's method raise `error` (after calling `before`)."""
        driver = (compute or self.compute).driver

        def fail(*args, **kwargs):
            if before is not None:
                before()
            raise error

        original = getattr(driver, method)
        setattr(driver, method, fail)
        try:
            yield
        finally:
            setattr(driver, method, original)
