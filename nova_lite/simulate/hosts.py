"""Hosts that take builds through the port of the host scheduler and do nothing but keep rows and count memory."""

from collections.abc import Iterable
from typing import Any

from nova_lite import exception, objects
from nova_lite.db import models
from nova_lite.objects import power_state, vm_states

_SERVICES = models.Service.__table__.c
_NODES = models.ComputeNode.__table__.c
_BUILD_S = (0.5, 6.0)
_BEAT_S = 20.0
_LOCAL = frozenset(("id", "created_at", "updated_at", "deleted", "deleted_at", "cell_name", "revision",
                    "replicated_revision", "fault", "ec2_ids", "host", "node", "launched_on", "launched_at"))


class LightHosts:
    """The hosts of one cell. They, and their scheduler, run on when the cell's `nova-cells` crashes."""

    def __init__(self, cell):
        self._cell = cell
        self._world = cell.world
        self._owner = f"{cell.name} hosts"
        self.alive: dict[str, bool] = {}
        self.built: list[str] = []
        self._nodes: dict[str, dict[str, Any]] = {}  # rows of compute nodes by host, as hosts know their own
        self._service_ids: dict[str, int] = {}

    def add(self, names: Iterable[str], memory_mb: int) -> None:
        """Add hosts that are alive and empty."""
        ctxt, db = self._cell.context(), self._cell.db
        with db.writer(ctxt):
            for name in names:
                service = db.service_create(ctxt, {"host": name, "binary": "nova-compute", "topic": "compute",
                                                   "report_count": 0, "disabled": False,
                                                   "last_seen_up": self._cell.clock.utcnow().replace(tzinfo=None)})
                self._nodes[name] = db.compute_node_create(ctxt, {
                    "host": name, "hypervisor_hostname": name, "service_id": service["id"], "memory_mb": memory_mb,
                    "memory_mb_used": 0, "free_ram_mb": memory_mb, "local_gb": 4000, "local_gb_used": 0,
                    "free_disk_gb": 4000, "vcpus": 64, "vcpus_used": 0, "hypervisor_type": "xen",
                    "hypervisor_version": 8, "cpu_info": "{}", "running_vms": 0, "current_workload": 0})
                self._service_ids[name] = service["id"]
                self.alive[name] = True
        self._world.spawn(self._owner, self._beat, delay_s=self._world.random.uniform(0, _BEAT_S))

    def build_instances(self, ctxt: Any, instances: Any, **_kwargs: Any) -> None:
        """As the port: make the rows that are missing, then have hosts build them."""
        rows = [self._row(ctxt, template) for template in instances]
        for row in rows:
            self._world.spawn(self._owner, self._build, row.uuid, delay_s=self._world.random.uniform(*_BUILD_S))

    def free_mb(self) -> int:
        """Return the memory that is free on hosts that are alive, as they have told it."""
        return sum(max(0, node["free_ram_mb"]) for name, node in self._nodes.items() if self.alive[name])

    def release(self, instance: Any) -> None:
        """Take note that an instance is gone from its host."""
        if instance.host:
            self._take(instance.host, -instance.memory_mb)

    def _row(self, ctxt: Any, template: Any) -> Any:
        try:
            return objects.Instance.get_by_uuid(ctxt, template["uuid"])
        except exception.InstanceNotFound:
            row = objects.Instance(ctxt)
            for name, value in template.items():
                if name not in _LOCAL:
                    setattr(row, name, value)
            row.vm_state = vm_states.BUILDING
            row.create()
            return row

    def _build(self, uuid: str) -> None:
        ctxt = self._cell.context()
        try:
            instance = objects.Instance.get_by_uuid(ctxt, uuid, expected_attrs=[])
        except exception.InstanceNotFound:
            return
        if instance.host or instance.vm_state != vm_states.BUILDING:
            return
        host = self._host_for(instance.memory_mb)
        if host is None:
            self._hand_back(ctxt, uuid)
            return
        self.built.append(uuid)
        instance.host = instance.node = instance.launched_on = host
        instance.launched_at = self._cell.clock.utcnow()
        instance.vm_state, instance.task_state = vm_states.ACTIVE, None
        instance.power_state = power_state.RUNNING
        with self._cell.db.writer(ctxt):
            self._take(host, instance.memory_mb)
            instance.save()

    def _hand_back(self, ctxt: Any, uuid: str) -> None:
        while not self._cell.is_up:  # the order waits in the cell's broker
            self._world.sleep(1.0)
        self._world.spawn(self._cell.name, self._cell.manager.own_methods.build_failed, ctxt, [uuid],
                          "No valid host was found.")

    def _host_for(self, memory_mb: int) -> str | None:
        fits = [name for name, node in self._nodes.items()
                if self.alive[name] and node["free_ram_mb"] >= memory_mb]
        return max(fits, key=lambda name: self._nodes[name]["free_ram_mb"]) if fits else None

    def _take(self, host: str, memory_mb: int) -> None:
        node = self._nodes[host]
        changed = {"free_ram_mb": node["free_ram_mb"] - memory_mb,
                   "memory_mb_used": node["memory_mb_used"] + memory_mb}
        node.update(changed)
        with self._cell.db.writer(self._cell.context()) as session:
            session.update_rows(models.ComputeNode, _NODES.id == node["id"], **changed)

    def _beat(self) -> None:
        """Have all hosts that are alive say so, at once."""
        ctxt, db = self._cell.context(), self._cell.db
        while True:
            alive = [self._service_ids[name] for name, is_alive in self.alive.items() if is_alive]
            with db.writer(ctxt) as session:
                session.update_rows(models.Service, _SERVICES.id.in_(alive), last_seen_up=session.now,
                                    report_count=_SERVICES.report_count + 1)
            self._world.sleep(_BEAT_S)
