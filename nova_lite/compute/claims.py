"""Claims: room on a node that is taken before an instance is there, and given back when it does not arrive."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from oslo_log import log as logging

if TYPE_CHECKING:
    from nova_lite.compute.resource_tracker import ResourceTracker

LOG = logging.getLogger(__name__)

Limits = Mapping[str, float | None]

# (what, unit, attribute of the claim, key of the total, key of what is used, key of the limit)
_CHECKS = (
    ("memory", "MB", "memory_mb", "memory_mb", "memory_mb_used", "memory_mb"),
    ("disk", "GB", "disk_gb", "local_gb", "local_gb_used", "disk_gb"),
    ("CPU", "VCPUs", "vcpus", "vcpus", "vcpus_used", "vcpu"),
)


class NopClaim:
    """A claim of nothing, for drivers that report no resources. A scope: leaving it by an exception aborts it."""

    disk_gb = 0
    memory_mb = 0
    vcpus = 0

    def __init__(self, migration: Any = None) -> None:
        self.migration = migration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        if exc_type is not None:
            self.abort()

    def abort(self) -> None:
        """Give the room back."""


class Claim(NopClaim):
    """Room for an instance about to be built here; sizes are those of the instance."""

    def __init__(self, instance: Any, tracker: "ResourceTracker", *, overhead_mb: int = 0) -> None:
        super().__init__()
        self.instance = instance
        self.tracker = tracker
        self._size(instance, overhead_mb)

    def _size(self, sizes: Mapping[str, Any], overhead_mb: int) -> None:
        self.disk_gb = (sizes["root_gb"] or 0) + (sizes["ephemeral_gb"] or 0)
        self.memory_mb = (sizes["memory_mb"] or 0) + overhead_mb
        self.vcpus = sizes["vcpus"] or 0

    def abort(self) -> None:
        LOG.debug("Aborting the claim of instance %s", self.instance["uuid"])
        self.tracker.abort_instance_claim(self.instance)

    def test(self, resources: Mapping[str, Any], limits: Limits | None = None) -> bool:
        """Return whether memory, disk and CPU fit under `limits` (None or absent: no limit).

        The limits are the scheduler's, possibly above the total; the total is only logged.
        """
        limits = limits or {}
        return all(
            self._fits(what, unit, getattr(self, size), resources[total], resources[used], limits.get(limit))
            for what, unit, size, total, used, limit in _CHECKS
        )

    def _fits(self, what: str, unit: str, requested: float, total: float, used: float, limit: float | None) -> bool:
        uuid = self.instance["uuid"]
        LOG.debug("Instance %s asks %s %s of %s; total %s, used %s", uuid, requested, unit, what, total, used)
        if limit is None:
            return True
        free = limit - used
        if requested > free:
            LOG.info("Instance %s does not fit: %s %s of %s asked, %s free", uuid, requested, unit, what, free)
            return False
        return True


class ResizeClaim(Claim):
    """Room for a resize or migration that arrives here; sizes are those of the new flavor."""

    def __init__(
        self,
        instance: Mapping[str, Any],
        instance_type: Mapping[str, Any],
        tracker: "ResourceTracker",
        *,
        overhead_mb: int = 0,
    ) -> None:
        super().__init__(instance, tracker)
        self.instance_type = instance_type
        self._size(instance_type, overhead_mb)

    def abort(self) -> None:
        LOG.debug("Aborting the resize claim of instance %s", self.instance["uuid"])
        self.tracker.abort_resize_claim(self.instance["uuid"], self.instance_type)


class ArrivalClaim(Claim):
    """Room for a guest that arrives by live migration; sizes are those of the instance."""

    def abort(self) -> None:
        LOG.debug("Aborting the arrival claim of instance %s", self.instance["uuid"])
        self.tracker.arrival_ended(self.instance)
