"""A tree of seven cells on three levels, a story of builds and changes in it, and everything that can go wrong."""

import contextlib
import random
import uuid

from nova_lite import exception, objects
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.simulate.cell import SimulatedCell
from nova_lite.simulate.hosts import LightHosts
from nova_lite.simulate.network import Network
from nova_lite.simulate.world import World
from tests.fixtures.services import make_database

PARENTS = {"top": None, "a": "top", "b": "top", "a1": "a", "a2": "a", "b1": "b", "b2": "b"}
WITH_HOSTS = ("a", "a1", "a2", "b1", "b2")
MEMORY_MB = (512, 1024, 2048)

_CHAOS_S = 90.0
_CALM_S = 300.0
_SLICE_S = 15.0
_LOST_S = 60
_LONGEST_DELAY_S = 120.0
_MOST_SKEW_S = 60.0


class Compute:
    """The compute API of a cell: it does at once, or a moment later, what the layers below would."""

    def __init__(self, cell):
        self._cell = cell

    def delete(self, ctxt, instance):
        self._cell.hosts.release(instance)
        instance.destroy()
        self._cell.destroyed.add(instance.uuid)

    force_delete = delete

    def pause(self, ctxt, instance):
        self._change(ctxt, instance, vm_states.ACTIVE, task_states.PAUSING, vm_states.PAUSED, power_state.PAUSED)

    def unpause(self, ctxt, instance):
        self._change(ctxt, instance, vm_states.PAUSED, task_states.UNPAUSING, vm_states.ACTIVE, power_state.RUNNING)

    def _change(self, ctxt, instance, needed, task_state, vm_state, power):
        if instance.vm_state != needed or instance.task_state is not None:
            raise exception.InstanceInvalidState(attr="vm_state", instance_uuid=instance.uuid,
                                                 state=instance.vm_state, method=task_state)
        instance.task_state = task_state
        instance.save(expected_task_state=[None])
        self._cell.world.spawn(f"{self._cell.name} hosts", self._finish, instance.uuid, vm_state, power,
                               delay_s=self._cell.world.random.uniform(0.1, 3.0))

    def _finish(self, instance_uuid, vm_state, power):
        try:
            instance = objects.Instance.get_by_uuid(self._cell.context(), instance_uuid)
        except exception.InstanceNotFound:
            return
        instance.vm_state, instance.power_state, instance.task_state = vm_state, power, None
        instance.save()


class WatchedHosts(LightHosts):
    """Hosts that note when they are asked for what their cell knows to be deleted."""

    def build_instances(self, ctxt, instances, **kwargs):
        for one in instances:
            if one["uuid"] in self._cell.told_deleted:
                self._cell.broken.append(f"{one['uuid']} is built in {self._cell.name}, which knows that it is deleted")
        super().build_instances(ctxt, instances, **kwargs)


class ChaosCell(SimulatedCell):
    """A cell and what the test notes of it."""

    hosts_class = WatchedHosts
    report_every_s = 10.0
    recount_every_s = 10

    def __init__(self, *args, **kwargs):
        self.destroyed = set()
        self.told_deleted = set()
        self.broken = []  # what was never to happen
        self.heals = True
        self.skew_s = 0.0
        self._seen = {}
        super().__init__(*args, **kwargs)
        self._note(self.db, "tombstone_create", lambda ctxt, uuid, *_: self.told_deleted.add(uuid))

    def start(self):
        super().start()
        self._note(self.runner.replica, "update", self._look_back)

    def periodic_tasks(self, manager):
        return [(task, spacing_s) for task, spacing_s in super().periodic_tasks(manager)
                if self.heals or task != manager._heal_instances]

    def _note(self, thing, name, note):
        method = getattr(thing, name)

        def noted(*args, **kwargs):
            result = method(*args, **kwargs)
            note(*args, **kwargs)
            return result

        setattr(thing, name, noted)

    def _look_back(self, _ctxt, updates):
        """Changes of an instance are numbered: what the top believes must never become an older one."""
        for row in self.db.instance_get_all_by_uuids(self.context(), [update.instance.uuid for update in updates],
                                                     columns_to_join=["system_metadata"]):
            number, before = int(row["system_metadata"].get("number", 0)), self._seen.get(row["uuid"], 0)
            self._seen[row["uuid"]] = max(number, before)
            if number < before:
                self.broken.append(f"{row['uuid']} went from change {before} back to {number}")

    def instances(self):
        """Return {uuid: instance} of all rows, deleted ones too."""
        ctxt = self.context(read_deleted="yes")
        rows = objects.InstanceList.get_by_filters(ctxt, {}, expected_attrs=[])
        return {one.uuid: one for one in rows}


class ChaosTree:
    """The cells by name, the requests that were made, and switches for all faults."""

    def __init__(self, seed, directory, *, instances=200, heals=True, change_every_s=0.9, calm_s=_CALM_S,
                 hasty=0.0):
        random.seed(seed)
        self.seed = seed
        self.world = World(seed)
        self.random = self.world.random
        self.network = Network(self.world)
        self.requested = []  # uuids
        self.destroyed_at_top = set()
        self.unwanted = set()  # what users have asked to delete
        self.instances = instances
        self.heals = heals
        self.change_every_s = change_every_s
        self.calm_s = calm_s
        self.hasty = hasty  # share of requests that their users regret at once
        self.is_calm = True
        self.last_arrival_s = 0.0  # of what was delayed
        self.cut = set()  # pairs of neighbours that cannot reach each other
        self.network.faults = self._faults
        self.cells = {
            name: ChaosCell(self.world, self.network, name, directory, is_top=parent is None,
                             make_database=make_database, compute_api=Compute,
                             options={("cells", "lost_build_timeout"): _LOST_S, ("cells", "outbox_poll_interval"): 3.0})
            for name, parent in PARENTS.items()}
        for name, parent in PARENTS.items():
            if parent is not None:
                self.cells[parent].meet(name, is_parent=False)
                self.cells[name].meet(parent, is_parent=True)
        for name in WITH_HOSTS:
            self.cells[name].hosts.add([f"{name}-host{number}" for number in (1, 2)], 32 * 1024)
        for cell in self.cells.values():
            cell.heals = heals
            cell.skew_s = cell.clock.step_s = self.random.uniform(-_MOST_SKEW_S, _MOST_SKEW_S)  # for good
            cell.start()
        self.world.run(5)

    @property
    def top(self):
        return self.cells["top"]

    def close(self):
        for cell in self.cells.values():
            self.world.kill(cell.name)
            self.world.kill(f"{cell.name} hosts")
            cell.db.dispose()
        self.world.kill("story")

    # -- the whole

    def play(self):
        """Let the story run among faults, then end all faults and wait until nothing moves any more."""
        self.is_calm = False
        self.world.spawn("story", self._requests)
        for work, spacing_s in ((self._act, 0.7), (self._spontaneous, self.change_every_s), (self._partition, 12.0),
                                (self._crash, 11.0), (self._step_a_clock, 15.0), (self._kill_a_host, 40.0)):
            self.world.spawn("story", self._again_and_again, work, spacing_s)
        self.world.run(_CHAOS_S)
        self.calm()

    def calm(self):
        """End all faults; wait until the cells agree, or for as long as it takes to be sure that they will not."""
        self.is_calm = True
        self.world.kill("story")
        self.cut.clear()
        for cell in self.cells.values():
            cell.clock.step_s = cell.skew_s
            if not cell.is_up:
                cell.start()
        self.world.run(max(0.0, self.last_arrival_s - self.world.now_s))
        end_s = self.world.now_s + self.calm_s
        while self.world.now_s < end_s:
            self.world.run(_SLICE_S)
            if not self.complaints():
                return

    def complaints(self):
        from tests.chaos import invariants

        return invariants.complaints(self)

    # -- what users and hosts do

    def _again_and_again(self, work, spacing_s):
        while True:
            self.world.sleep(self.random.expovariate(1 / spacing_s))
            work()

    def _requests(self):
        while len(self.requested) < self.instances:
            if self.top.is_up:
                uuids = self.build(min(self.random.choice((1, 1, 2, 3)), self.instances - len(self.requested)))
                if self.random.random() < self.hasty:
                    self.world.spawn("story", self._regret, uuids, delay_s=0.001)
            self.world.sleep(self.random.expovariate(self.instances / _CHAOS_S * 0.7))

    def build(self, count=1):
        """Ask the top for instances; returns their uuids."""
        ctxt, memory_mb = self.top.context(), self.random.choice(MEMORY_MB)
        flavor = objects.Flavor(id=2, name="m1.small", memory_mb=memory_mb, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0,
                                flavorid="2", rxtx_factor=1.0, vcpu_weight=None, disabled=False, is_public=True,
                                extra_specs={})
        rows = []
        for _ in range(count):
            row = objects.Instance(
                ctxt, uuid=str(uuid.UUID(int=self.random.getrandbits(128), version=4)), user_id="u", project_id="p",
                display_name="vm", hostname="vm", vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING,
                memory_mb=memory_mb, vcpus=1, root_gb=1, ephemeral_gb=0, flavor=flavor, image_ref="image",
                system_metadata={}, metadata={})
            row.create()
            rows.append(row)
        self.requested.extend(row.uuid for row in rows)
        kwargs = {"instances": rows, "image": {}, "filter_properties": {"instance_type": flavor},
                  "admin_password": None, "injected_files": [], "requested_networks": None, "security_groups": [],
                  "block_device_mapping": objects.BlockDeviceMappingList(objects=[])}
        self.world.spawn("top", self.top.manager.build_instances, ctxt, kwargs)
        return [row.uuid for row in rows]

    def _regret(self, uuids):
        ctxt = self.top.context()
        for one in objects.InstanceList.get_by_filters(ctxt, {"uuid": uuids, "deleted": False}):
            if self.top.is_up:
                self.delete(ctxt, one)

    def _act(self):
        """A user wants something done with one of the instances."""
        if not self.requested or not self.top.is_up:
            return
        ctxt = self.top.context()
        try:
            instance = objects.Instance.get_by_uuid(ctxt, self.random.choice(self.requested))
        except exception.InstanceNotFound:
            return
        wish = self.random.choice(("pause", "unpause", "delete"))
        if wish == "delete":
            self.delete(ctxt, instance)
        elif instance.cell_name and instance.task_state is None:
            self._hope(instance, task_states.PAUSING if wish == "pause" else task_states.UNPAUSING)
            getattr(self.top.runner, f"{wish}_instance")(ctxt, instance)

    def delete(self, ctxt, instance):
        """As the compute API of a top cell does: in the instance's cell, or everywhere if that is not known yet."""
        self.unwanted.add(instance.uuid)
        if instance.cell_name:
            self._hope(instance, task_states.DELETING)
            self.top.runner.terminate_instance(ctxt, instance)
            return
        with contextlib.suppress(exception.RpcError):  # some cell could not be told
            self.top.runner.instance_delete_everywhere(ctxt, instance, "hard")
        try:
            self.top.db.instance_destroy(ctxt, instance.uuid, constraint={"cell_name": [None, ""]})
        except exception.ConstraintNotMet:  # a cell has it by now
            instance.refresh()
            self.delete(ctxt, instance)
            return
        self.destroyed_at_top.add(instance.uuid)

    def _hope(self, instance, task_state):
        """The top shows at once what it has asked for. If the order is lost, only healing can take that back."""
        if self.heals:
            instance.task_state = task_state
            instance.save(replicate=False)

    def _spontaneous(self):
        """Something changes on a host."""
        cell = self.cells[self.random.choice(WITH_HOSTS)]
        live = sorted(set(cell.hosts.built) - cell.destroyed)
        if not live:
            return
        instance = objects.Instance.get_by_uuid(cell.context(), self.random.choice(live))
        if self.random.random() < 0.3:
            objects.InstanceFault(cell.context(), instance_uuid=instance.uuid, code=500, host=instance.host,
                                  message=f"fault {self.random.getrandbits(32)}", details="planted").create()
            return
        instance.progress = self.random.randrange(100)
        number = int(instance.system_metadata.get("number", 0)) + 1
        instance.system_metadata = {**instance.system_metadata, "number": str(number)}
        instance.save()

    # -- what goes wrong

    def _faults(self, source, target):
        if frozenset((source, target)) in self.cut:
            raise exception.RpcUnavailable(topic="cells.intercell", reason="partition")
        latency_s = self.network.latency_s()
        if self.is_calm:
            return [latency_s]
        dice = self.random.random()
        if dice < 0.06:
            return []
        if dice < 0.12:
            return [latency_s, latency_s + self.random.expovariate(1 / 2.0)]
        if dice < 0.25:
            return [latency_s + self.random.expovariate(1 / 3.0)]
        if dice < 0.26:
            return [self._long_delay_s()]
        if dice < 0.265:
            return [latency_s, self._long_delay_s()]
        return [latency_s]

    def _long_delay_s(self):
        """Return how long a message lies about that comes when nobody thinks of it any more."""
        delay_s = self.random.uniform(10.0, _LONGEST_DELAY_S)
        self.last_arrival_s = max(self.last_arrival_s, self.world.now_s + delay_s)
        return delay_s

    def _partition(self):
        child = self.random.choice([name for name, parent in PARENTS.items() if parent])
        edge = frozenset((child, PARENTS[child]))
        self.cut.add(edge)
        self.world.after(self.random.uniform(2, 15), self.cut.discard, edge)

    def _crash(self):
        cell = self.cells[self.random.choice(sorted(self.cells))]
        if cell.is_up:
            self.world.after(0, self._crash_now, cell)

    def _crash_now(self, cell):
        if cell.is_up:
            cell.crash()
            self.world.after(self.random.uniform(1, 12), lambda: cell.is_up or cell.start())

    def _step_a_clock(self):
        cell = self.cells[self.random.choice(sorted(self.cells))]
        cell.clock.step_s = cell.skew_s + self.random.choice((-90.0, -5.0, 5.0, 90.0))
        self.world.after(self.random.uniform(5, 20), setattr, cell.clock, "step_s", cell.skew_s)

    def _kill_a_host(self):
        hosts = self.cells[self.random.choice(WITH_HOSTS)].hosts
        name = self.random.choice(sorted(hosts.alive))
        if sum(hosts.alive.values()) > 1:
            hosts.alive[name] = False
