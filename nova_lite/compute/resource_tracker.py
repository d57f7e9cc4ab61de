"""What one node has, what its instances and migrations take of it, and the claims that keep builds from racing."""

import threading
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils import importutils

from nova_lite import exception, objects
from nova_lite.compute.claims import ArrivalClaim, Claim, Limits, NopClaim, ResizeClaim
from nova_lite.context import RequestContext, Services, get_admin_context
from nova_lite.objects import task_states, vm_states

LOG = logging.getLogger(__name__)

PERSIST_INTERVAL_S = 5
_REQUIRED = ("vcpus", "memory_mb", "local_gb", "cpu_info", "vcpus_used", "memory_mb_used", "local_gb_used")
_RESIZE_TASKS = (task_states.RESIZE_PREP, task_states.RESIZE_MIGRATING, task_states.RESIZE_MIGRATED,
                 task_states.RESIZE_FINISH)
_FOOTPRINT = ("uuid", "vm_state", "task_state", "os_type", "project_id", "memory_mb", "root_gb", "ephemeral_gb",
              "vcpus")
# Migrations in these states hold nothing here beyond what their instance row says.
_SETTLED = frozenset({"accepted", "preparing", "running", "completed", "done", "error", "confirmed", "reverted"})


class ResourceTracker:
    """Usage of one node, from instance rows and migrations; the hypervisor's own used figures are not believed.

    `compute_node` is None while tracking is off: the driver reports no resources, or the service has no record yet.
    Usage changes under a lock; the row is written outside of it, the newest view last.
    """

    def __init__(self, host: str, driver: Any, nodename: str, services: Services) -> None:
        self.host = host
        self.driver = driver
        self.nodename = nodename
        self.compute_node: dict[str, Any] | None = None
        self.stats = importutils.import_class(services.conf.compute_stats_class)()
        self.tracked_instances: dict[str, dict[str, Any]] = {}
        self.tracked_migrations: dict[str, tuple[Any, Mapping[str, Any]]] = {}
        self.arrivals: dict[str, dict[str, Any]] = {}
        self._services = services
        self._lock = threading.RLock()
        self._write_lock = threading.Lock()
        self._written_at_s: float | None = None
        self._dirty = False
        self._row: objects.ComputeNode | None = None  # as it was written last

    @property
    def disabled(self) -> bool:
        return self.compute_node is None

    # --- Claims ---

    def instance_claim(self, context: RequestContext, instance_ref: objects.Instance,
                       limits: Limits | None = None) -> NopClaim:
        """Take room for a build and write host, node and launched_on to the instance.

        Returns a scope that gives the room back when left by an exception. Raises ComputeResourcesUnavailable.
        """
        if instance_ref.host or instance_ref.node:
            LOG.warning("Instance %s is claimed here while it is on host %s, node %s",
                        instance_ref.uuid, instance_ref.host, instance_ref.node)
        with self._lock:
            claim = NopClaim() if self.disabled else self._claim(instance_ref, limits)
        with claim:
            self._own(instance_ref, self.host, self.nodename)
        self.persist(context)
        return claim

    def _claim(self, instance: objects.Instance, limits: Limits | None) -> Claim:
        claim = Claim(instance, self, overhead_mb=self._overhead_mb(instance))
        if not claim.test(self.compute_node, limits):
            raise exception.ComputeResourcesUnavailable()
        self._track(instance)
        return claim

    def abort_instance_claim(self, instance: objects.Instance) -> None:
        """Give back the room of a build that failed, and let the row forget that it is here."""
        with self._lock:
            self._forget(instance["uuid"])
        self._disown(instance)
        self._persist_abort()

    def resize_claim(self, context: RequestContext, instance_ref: objects.Instance, instance_type: objects.Flavor,
                     limits: Limits | None = None) -> NopClaim:
        """Take room for a resize or migration that arrives here; the scope has the new `migration` record.

        Raises ComputeResourcesUnavailable.
        """
        with self._lock:
            if self.disabled:
                claim = NopClaim()
            else:
                claim = ResizeClaim(instance_ref, instance_type, self, overhead_mb=self._overhead_mb(instance_type))
                if not claim.test(self.compute_node, limits):
                    raise exception.ComputeResourcesUnavailable()
                self._hold(instance_ref["uuid"], None, instance_type)
        with claim:
            claim.migration = self._create_migration(context.elevated(), instance_ref, instance_type)
        with self._lock:
            if instance_ref["uuid"] in self.tracked_migrations:
                self.tracked_migrations[instance_ref["uuid"]] = (claim.migration, instance_type)
        self.persist(context)
        return claim

    def abort_resize_claim(self, instance_uuid: str, instance_type: Mapping[str, Any]) -> None:
        """Give back the room of a resize that failed, when it is the one that is tracked."""
        with self._lock:
            held = self.tracked_migrations.get(instance_uuid)
            if held is not None and held[1]["id"] == instance_type["id"]:
                self._release(instance_uuid)
        self._persist_abort()

    def arrival_claim(self, context: RequestContext, instance: objects.Instance) -> ArrivalClaim:
        """Take room for a guest that is about to arrive by live migration, once, within the allocation ratios.

        The room is kept until `arrival_ended`, or until an audit finds the migration over. Raises
        ComputeResourcesUnavailable.
        """
        claim = ArrivalClaim(instance, self, overhead_mb=self._overhead_mb(instance))
        with self._lock:
            if not self.disabled and instance.uuid not in self.arrivals:
                limits = {"memory_mb": self.compute_node["memory_mb"] * self._services.conf.ram_allocation_ratio}
                if not claim.test(self.compute_node, limits):
                    raise exception.ComputeResourcesUnavailable()
                self.arrivals[instance.uuid] = self._footprint(instance)
                self._use_sizes(self.arrivals[instance.uuid], 1)
        self.persist(context)
        return claim

    def arrival_ended(self, instance: Mapping[str, Any]) -> None:
        """Give back the room kept for an arrival: the guest is here and counts itself, or will not come."""
        with self._lock:
            sizes = self.arrivals.pop(instance["uuid"], None)
            if sizes is not None and not self.disabled:
                self._use_sizes(sizes, -1)
        self._persist_abort()

    def track(self, context: RequestContext, instance: Mapping[str, Any]) -> None:
        """Count an instance that has come here otherwise than by a claim."""
        with self._lock:
            if not self.disabled:
                self._track(instance)
        self.persist(context)

    def forget(self, context: RequestContext, instance: Mapping[str, Any]) -> None:
        """Count an instance no longer: it has left."""
        with self._lock:
            self._forget(instance["uuid"])
        self.persist(context)

    # --- What happens to instances and migrations later ---

    def update_usage(self, context: RequestContext, instance: Mapping[str, Any]) -> None:
        """Take over a change of a tracked instance; DELETED gives its room back."""
        with self._lock:
            if self.disabled or instance["uuid"] not in self.tracked_instances:
                return
            if instance["vm_state"] == vm_states.DELETED:
                self._forget(instance["uuid"])
            else:
                self._track(instance)
        self._persist_soon(context)

    def confirm_resize(self, context: RequestContext, migration: Any, status: str = "confirmed") -> None:
        """Close the migration and audit the node."""
        self._close(context, migration, status)

    def revert_resize(self, context: RequestContext, migration: Any, status: str = "reverted") -> None:
        """Close the migration (or this side of it) and audit the node."""
        self._close(context, migration, status)

    def _close(self, context: RequestContext, migration: Any, status: str) -> None:
        migration.status = status
        migration.save()
        try:
            self.update_available_resource(context)
        except Exception:  # the move has ended however the audit does; the periodic one counts again
            LOG.exception("Could not count the resources of node %s after migration %s", self.nodename, migration.id)

    # --- The audit ---

    def update_available_resource(self, context: RequestContext) -> None:
        """Count everything again from the rows of this node and write the result.

        Raises InvalidInput when the driver's report lacks a figure.
        """
        resources = self.driver.get_available_resource(self.nodename)
        if not resources:
            LOG.info("Node %s reports no resources: claims are not checked", self.nodename)
            self.compute_node = None
            return
        _require(resources)
        with self._lock:
            self._start_over(resources)
            for instance in objects.InstanceList.get_by_host_and_node(context, self.host, self.nodename):
                if instance.vm_state != vm_states.DELETED:
                    self._track(instance)
            self._count_migrations(context)
            self._count_arrivals(context)
            self._count_orphans()
        LOG.info("Node %s: %s MB of memory used, %s MB free; %s GB of disk used, %s GB free; %s vcpus used",
                 self.nodename, self.compute_node["memory_mb_used"], self.compute_node["free_ram_mb"],
                 self.compute_node["local_gb_used"], self.compute_node["free_disk_gb"],
                 self.compute_node["vcpus_used"])
        self.persist(context)

    def _start_over(self, resources: Mapping[str, Any]) -> None:
        conf = self._services.conf
        self.compute_node = {
            **_as_columns(resources),
            "memory_mb_used": conf.reserved_host_memory_mb,
            "local_gb_used": conf.reserved_host_disk_mb // 1024,
            "vcpus_used": 0,
            "current_workload": 0,
            "running_vms": 0,
            "host_ip": conf.my_ip,
        }
        self._row = None
        self.stats.clear()
        self.tracked_instances.clear()
        self.tracked_migrations.clear()
        self._balance()

    def _count_migrations(self, context: RequestContext) -> None:
        migrations = objects.MigrationList.get_in_progress_by_host_and_node(context, self.host, self.nodename)
        newest: dict[str, Any] = {}
        for migration in sorted(migrations, key=lambda each: (each.updated_at or each.created_at, each.id)):
            if migration.instance_uuid and migration.status not in _SETTLED:
                newest[migration.instance_uuid] = migration
        if newest:
            for instance in objects.InstanceList.get_by_filters(context, {"uuid": list(newest), "deleted": False}):
                self._count_migration(context, instance, newest[instance.uuid])

    def _count_migration(self, context: RequestContext, instance: objects.Instance, migration: Any) -> None:
        if not _is_resizing(instance):
            LOG.warning("Migration %s of instance %s is in progress, but the instance is %s/%s",
                        migration.id, instance.uuid, instance.vm_state, instance.task_state)
            return
        flavor = self._flavor_held(context, instance, migration)
        if flavor is not None:
            self._hold(instance.uuid, migration, flavor)

    def _flavor_held(self, context: RequestContext, instance: objects.Instance, migration: Any) -> Any:
        """Return the flavor for which a migration keeps room here beside the instance's own, or None."""
        here = (self.host, self.nodename)
        incoming = (migration.dest_compute, migration.dest_node) == here
        outgoing = (migration.source_compute, migration.source_node) == here
        tracked = instance.uuid in self.tracked_instances
        new, old = migration.new_instance_type_id, migration.old_instance_type_id
        if incoming and outgoing:
            wanted = new if instance.instance_type_id == old else old
        elif incoming and not tracked:
            wanted = new
        elif outgoing and not tracked:
            wanted = old
        else:
            return None
        return self._flavor(context, instance, wanted)

    def _flavor(self, context: RequestContext, instance: objects.Instance, flavor_id: int) -> Any:
        for flavor in (instance.new_flavor, instance.old_flavor, instance.flavor):
            if flavor is not None and flavor.id == flavor_id:
                return flavor
        try:
            return objects.Flavor.get_by_id(context, flavor_id)
        except exception.InstanceTypeNotFound:
            LOG.warning("Flavor %s of a migration of instance %s is gone; its room is not counted",
                        flavor_id, instance.uuid)
            return None

    def _count_arrivals(self, context: RequestContext) -> None:
        if not self.arrivals:
            return
        under_way = {migration.instance_uuid for migration in objects.MigrationList.get_by_filters(context, {
            "instance_uuid": list(self.arrivals), "dest_compute": self.host, "status": ["preparing", "running"]})}
        for uuid, sizes in list(self.arrivals.items()):
            if uuid in under_way and uuid not in self.tracked_instances:
                self._use_sizes(sizes, 1)
            else:
                del self.arrivals[uuid]

    def _count_orphans(self) -> None:
        for uuid, usage in self.driver.get_per_instance_usage().items():
            known = uuid in self.tracked_instances or uuid in self.tracked_migrations or uuid in self.arrivals
            if not known:
                LOG.warning("Guest %s runs on node %s, but no instance of it is known here; it uses %s MB",
                            uuid, self.nodename, usage["memory_mb"])
                self._use(usage["memory_mb"], 0)

    # --- Arithmetic; under the lock ---

    def _track(self, instance: Mapping[str, Any]) -> None:
        footprint = self._footprint(instance)
        before = self.tracked_instances.get(footprint["uuid"])
        if before is not None:
            self._use_sizes(before, -1)
        self.tracked_instances[footprint["uuid"]] = footprint
        self._use_sizes(footprint, 1)
        self.stats.update_stats_for_instance(footprint)
        self._balance()

    def _footprint(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        return {**{key: instance[key] for key in _FOOTPRINT}, "overhead_mb": self._overhead_mb(instance)}

    def _forget(self, uuid: str) -> None:
        footprint = self.tracked_instances.pop(uuid, None)
        if footprint is None or self.compute_node is None:
            return
        self._use_sizes(footprint, -1)
        self.stats.update_stats_for_instance({**footprint, "vm_state": vm_states.DELETED})
        self._balance()

    def _hold(self, uuid: str, migration: Any, flavor: Mapping[str, Any]) -> None:
        if uuid in self.tracked_migrations:
            self._release(uuid)
        self.tracked_migrations[uuid] = (migration, flavor)
        self._use_flavor(flavor, 1)

    def _release(self, uuid: str) -> None:
        _, flavor = self.tracked_migrations.pop(uuid)
        if self.compute_node is not None:
            self._use_flavor(flavor, -1)

    def _use_flavor(self, flavor: Mapping[str, Any], sign: int) -> None:
        self._use_sizes({**{key: flavor[key] for key in ("memory_mb", "root_gb", "ephemeral_gb")},
                         "overhead_mb": self._overhead_mb(flavor)}, sign)
        self.stats.update_stats_for_migration(flavor, sign)
        self._balance()

    def _use_sizes(self, sizes: Mapping[str, Any], sign: int) -> None:
        memory_mb = (sizes["memory_mb"] or 0) + sizes["overhead_mb"]
        self._use(sign * memory_mb, sign * ((sizes["root_gb"] or 0) + (sizes["ephemeral_gb"] or 0)))

    def _use(self, memory_mb: int, disk_gb: int) -> None:
        self.compute_node["memory_mb_used"] += memory_mb
        self.compute_node["local_gb_used"] += disk_gb
        self._balance()

    def _balance(self) -> None:
        node = self.compute_node
        node["free_ram_mb"] = node["memory_mb"] - node["memory_mb_used"]
        node["free_disk_gb"] = node["local_gb"] - node["local_gb_used"]
        node["running_vms"] = self.stats.num_instances
        node["vcpus_used"] = self.stats.num_vcpus_used
        node["current_workload"] = self.stats.calculate_workload()
        self._dirty = True

    def _overhead_mb(self, sizes: Mapping[str, Any]) -> int:
        return self.driver.estimate_instance_overhead(sizes).get("memory_mb", 0)

    # --- Rows ---

    def persist(self, context: RequestContext) -> None:
        """Write the usage as it is now. Without a service record tracking is switched off."""
        with self._write_lock:
            with self._lock:
                if self.disabled:
                    return
                view = dict(self.compute_node)
                stats = {key: str(count) for key, count in self.stats.items()}
                self._dirty = False
            self._write(context, view, stats)
            self._written_at_s = self._services.clock.monotonic()

    def _persist_abort(self) -> None:
        """Write that room is free again; whoever gives it back has no context, and often an error to report."""
        try:
            self.persist(get_admin_context().bind(self._services))
        except Exception:  # the next claim or audit writes it
            LOG.exception("Could not write the usage of node %s", self.nodename)

    def _persist_soon(self, context: RequestContext) -> None:
        """Write at most every few seconds; what is left out then is written by the next claim or audit."""
        now_s = self._services.clock.monotonic()
        if self._written_at_s is None or now_s - self._written_at_s >= PERSIST_INTERVAL_S:
            self.persist(context)

    def _write(self, context: RequestContext, view: dict[str, Any], stats: dict[str, str]) -> None:
        context = context.elevated()
        known = {name: value for name, value in view.items() if name in objects.ComputeNode.fields and name != "id"}
        values = {**known, "stats": stats}
        if self._row is not None:
            self._row.update(values)
            if self._row.report(context):
                return
        node = self._row = self._record(context)
        if node is None:
            return
        node.update(values)
        if "id" in node:
            node.save(prune_stats=True)
        else:
            node.create()

    def _record(self, context: RequestContext) -> objects.ComputeNode | None:
        """Return the row of the node, a new one when there is none; None (and tracking off) without a service."""
        try:
            return objects.ComputeNode.get_by_host_and_nodename(context, self.host, self.nodename)
        except exception.ComputeHostNotFound:
            pass
        try:
            service = self._services.db.service_get_by_compute_host(context, self.host)
        except exception.ComputeHostNotFound:
            LOG.warning("Host %s has no service record yet: the resources of node %s are not tracked",
                        self.host, self.nodename)
            self.compute_node = None
            return None
        return objects.ComputeNode(context, host=self.host, hypervisor_hostname=self.nodename,
                                   service_id=service["id"])

    def _own(self, instance: objects.Instance, host: str, node: str) -> None:
        instance.host, instance.node, instance.launched_on = host, node, host
        instance.save()

    def _disown(self, instance: objects.Instance) -> None:
        instance.host = instance.node = instance.launched_on = None
        try:
            instance.save()
        except exception.InstanceNotFound:
            LOG.debug("Instance %s is gone and needs no owner", instance.uuid)

    def _create_migration(self, context: RequestContext, instance: objects.Instance,
                          flavor: objects.Flavor) -> objects.Migration:
        same = instance.instance_type_id == flavor.id
        migration = objects.Migration(
            context, instance_uuid=instance.uuid, source_compute=instance.host, source_node=instance.node,
            dest_compute=self.host, dest_node=self.nodename, dest_host=self.driver.get_host_ip_addr(),
            old_instance_type_id=instance.instance_type_id, new_instance_type_id=flavor.id,
            migration_type="migration" if same else "resize", status="pre-migrating")
        migration.create()
        return migration


def _as_columns(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return a driver's figures as the columns take them: text of structures, a number of a version."""
    columns = dict(resources)
    columns["cpu_info"] = str(columns["cpu_info"])
    columns["hypervisor_version"] = int(float(columns.get("hypervisor_version") or 0))
    supported = columns.get("supported_instances")
    if supported is not None and not isinstance(supported, str):
        columns["supported_instances"] = jsonutils.dumps(supported)
    return columns


def _require(resources: Mapping[str, Any]) -> None:
    missing = [key for key in _REQUIRED if key not in resources]
    if missing:
        raise exception.InvalidInput(reason=f"the driver does not report {', '.join(missing)}")


def _is_resizing(instance: objects.Instance) -> bool:
    """Tell whether a resize of the instance is under way or waits for its confirmation; it may have been stopped."""
    if instance.vm_state == vm_states.RESIZED:
        return True
    return (instance.vm_state in (vm_states.ACTIVE, vm_states.STOPPED, vm_states.ERROR)
            and instance.task_state in _RESIZE_TASKS)
