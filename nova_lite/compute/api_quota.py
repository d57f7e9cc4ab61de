"""How operations on instances count against the quota of their project."""

from collections.abc import Mapping
from typing import Any

from nova_lite import exception, quota
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Flavor, Instance, task_states, vm_states

# The flavor is switched already, but the quota of the old one is what the instance still holds.
_SWITCHED = (task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH)

Reservations = list[str] | None


class Quotas:
    """Reserves, commits and rolls back; in a cell with parents the engine does nothing of it."""

    def __init__(self, services: Services) -> None:
        self._db = services.db
        self._engine = quota.QuotaEngine(services)

    # -- limits of one request --

    def check_metadata(self, context: RequestContext, count: int) -> None:
        """Raise MetadataLimitExceeded."""
        try:
            self._engine.limit_check(context, metadata_items=count)
        except exception.OverQuota as error:
            raise exception.MetadataLimitExceeded(allowed=error.kwargs["quotas"]["metadata_items"]) from error

    def check_injected_files(self, context: RequestContext, count: int, longest_path_b: int,
                             longest_content_b: int) -> None:
        """Raise OnsetFileLimitExceeded, OnsetFilePathLimitExceeded or OnsetFileContentLimitExceeded."""
        for error_class, limits in (
                (exception.OnsetFileLimitExceeded, {"injected_files": count}),
                (exception.OnsetFilePathLimitExceeded, {"injected_file_path_bytes": longest_path_b}),
                (exception.OnsetFileContentLimitExceeded, {"injected_file_content_bytes": longest_content_b})):
            try:
                self._engine.limit_check(context, None, **limits)
            except exception.OverQuota as error:
                raise error_class() from error

    def check_keypairs(self, context: RequestContext, count: int) -> None:
        """Raise KeypairLimitExceeded when a user's `count`th key pair is one too many."""
        try:
            self._engine.limit_check(context, key_pairs=count)
        except exception.OverQuota as error:
            raise exception.KeypairLimitExceeded() from error

    def check_security_groups(self, context: RequestContext, **counts: int) -> None:
        """Raise SecurityGroupLimitExceeded when so many `security_groups` or `security_group_rules` are too many."""
        try:
            self._engine.limit_check(context, None, **counts)
        except exception.OverQuota as error:
            raise exception.SecurityGroupLimitExceeded() from error

    # -- what is counted --

    def reserve_instances(self, context: RequestContext, flavor: Flavor, min_count: int, max_count: int,
                          project_id: str | None = None) -> tuple[int, Reservations]:
        """Return (how many instances may be made, reservations): `max_count`, or fewer down to `min_count`.

        Raises TooManyInstances.
        """
        try:
            return max_count, self._reserve(context, project_id, **_needs(flavor, max_count))
        except exception.OverQuota as error:
            allowed = _headroom(error, flavor)
            if not min_count <= allowed < max_count:
                raise _too_many(error, _needs(flavor, min_count)) from error
            return self.reserve_instances(context, flavor, min_count, allowed, project_id)

    def _reserve(self, context: RequestContext, project_id: str | None, **deltas: int) -> Reservations:
        """Reserve; before anybody is refused, usage is counted anew.

        It may be more than there is: what a cell below could not do, or a process that died, has left it so.
        """
        try:
            return self._engine.reserve(context, project_id=project_id, **deltas)
        except exception.OverQuota:
            project_id = project_id or context.project_id
            if project_id is None:
                raise
            self._engine.expire(context)
            self._db.quota_usage_refresh(context.elevated(), project_id, list(deltas))
            return self._engine.reserve(context, project_id=project_id, **deltas)

    def reserve_release(self, context: RequestContext, instance: Instance) -> Reservations:
        """Return the reservations that give an instance's quota back; None when that has happened."""
        if instance.vm_state == vm_states.SOFT_DELETED:
            return None
        sizes: Any = instance
        if instance.task_state in _SWITCHED and instance.get("old_flavor") is not None:
            sizes = instance.old_flavor
        return self._engine.reserve(context, project_id=instance.project_id, instances=-1, cores=-sizes["vcpus"],
                                    ram=-sizes["memory_mb"])

    def reserve_resize(self, context: RequestContext, current: Flavor, wanted: Flavor,
                       project_id: str | None = None) -> Reservations:
        """Return the reservations of what a resize adds. Raises TooManyInstances."""
        added = {name: delta for name, delta in _difference(current, wanted).items() if delta > 0}
        if not added:
            return None
        try:
            return self._reserve(context, project_id, **added)
        except exception.OverQuota as error:
            raise _too_many(error, added) from error

    def reserve_resize_release(self, context: RequestContext, instance: Instance) -> Reservations:
        """Return the reservations that give back what a confirmed resize has made smaller."""
        return self._give_back(context, instance, _difference(instance.get("old_flavor"), instance.get("flavor")))

    def reserve_revert_release(self, context: RequestContext, instance: Instance) -> Reservations:
        """Return the reservations that give back what a reverted resize had added."""
        return self._give_back(context, instance, _difference(instance.get("flavor"), instance.get("old_flavor")))

    def _give_back(self, context: RequestContext, instance: Instance, change: dict[str, int]) -> Reservations:
        smaller = {name: delta for name, delta in change.items() if delta < 0}
        return self._engine.reserve(context, project_id=instance.project_id, **smaller) if smaller else None

    def commit(self, context: RequestContext, reservations: Reservations, project_id: str | None = None) -> None:
        """What was reserved has happened."""
        self._engine.commit(context, reservations, project_id)

    def rollback(self, context: RequestContext, reservations: Reservations, project_id: str | None = None) -> None:
        """What was reserved will not happen."""
        self._engine.rollback(context, reservations, project_id)


def _needs(flavor: Mapping[str, Any], count: int) -> dict[str, int]:
    return {"instances": count, "cores": count * flavor["vcpus"], "ram": count * flavor["memory_mb"]}


def _difference(before: Any, after: Any) -> dict[str, int]:
    if before is None or after is None:
        return {}
    return {"cores": after["vcpus"] - before["vcpus"], "ram": after["memory_mb"] - before["memory_mb"]}


def _left(error: exception.OverQuota, resource: str) -> int | None:
    """How much of a resource is left; None for as much as one likes."""
    limit = error.kwargs["quotas"].get(resource, quota.UNLIMITED)
    if limit == quota.UNLIMITED:
        return None
    usage = error.kwargs["usages"].get(resource) or {}
    return max(limit - usage.get("in_use", 0) - usage.get("reserved", 0), 0)


def _headroom(error: exception.OverQuota, flavor: Mapping[str, Any]) -> int:
    """How many instances of the flavor there is room for."""
    room = []
    for resource, each in _needs(flavor, 1).items():
        left = _left(error, resource)
        if left is not None and each > 0:
            room.append(left // each)
    return min(room, default=0)


def _too_many(error: exception.OverQuota, asked: Mapping[str, int]) -> exception.TooManyInstances:
    overs = list(error.kwargs["overs"])
    resource = overs[0]
    usage = error.kwargs["usages"].get(resource) or {}
    return exception.TooManyInstances(
        overs=",".join(overs), req=asked.get(resource), used=usage.get("in_use", 0) + usage.get("reserved", 0),
        allowed=error.kwargs["quotas"].get(resource), resource=resource)
