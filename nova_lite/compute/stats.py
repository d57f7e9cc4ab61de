"""Counters over the instances of one compute node, as the scheduler sees them."""

from collections.abc import Mapping
from typing import Any

from nova_lite.objects import task_states, vm_states

_IO_TASKS = (
    task_states.RESIZE_MIGRATING,
    task_states.REBUILDING,
    task_states.RESIZE_PREP,
    task_states.IMAGE_SNAPSHOT,
    task_states.IMAGE_BACKUP,
)


class Stats(dict):
    """Counts by vm_state, task_state, os_type and project, kept up to date instance by instance.

    `states` remembers what each instance last contributed, so that a change replaces it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, dict[str, Any]] = {}

    def clear(self) -> None:
        super().clear()
        self.states.clear()

    @property
    def io_workload(self) -> int:
        """Number of operations that now load the disks of the node."""
        building = self.get(f"num_vm_{vm_states.BUILDING}", 0)
        return building + sum(self.get(f"num_task_{task}", 0) for task in _IO_TASKS)

    @property
    def num_instances(self) -> int:
        return self.get("num_instances", 0)

    @property
    def num_vcpus_used(self) -> int:
        return self.get("num_vcpus_used", 0)

    def calculate_workload(self) -> int:
        """Number of instances with a task in progress."""
        return sum(
            count for key, count in self.items() if key.startswith("num_task") and not key.endswith("None")
        )

    def num_instances_for_project(self, project_id: str) -> int:
        return self.get(f"num_proj_{project_id}", 0)

    def num_os_type(self, os_type: str) -> int:
        return self.get(f"num_os_type_{os_type}", 0)

    def update_stats_for_instance(self, instance: Mapping[str, Any]) -> None:
        """Replace what `instance` contributed before by what it is now; forget it when it is DELETED."""
        uuid = instance["uuid"]
        before = self.states.pop(uuid, None)
        if before is None:
            self._add("num_instances", 1)
        else:
            self._count(before, -1)
        if instance["vm_state"] == vm_states.DELETED:
            self._add("num_instances", -1)
        else:
            now = _contribution(instance)
            self._count(now, 1)
            self.states[uuid] = now
        self["io_workload"] = self.io_workload

    def update_stats_for_migration(self, instance_type: Mapping[str, Any], sign: int = 1) -> None:
        """Count (or with sign=-1 release) the vcpus that a migration holds on this node."""
        self._add("num_vcpus_used", sign * instance_type["vcpus"])

    def _count(self, state: dict[str, Any], sign: int) -> None:
        self._add(f"num_vm_{state['vm_state']}", sign)
        self._add(f"num_task_{state['task_state']}", sign)
        self._add(f"num_os_type_{state['os_type']}", sign)
        self._add(f"num_proj_{state['project_id']}", sign)
        self._add("num_vcpus_used", sign * state["vcpus"])

    def _add(self, key: str, amount: int) -> None:
        self[key] = self.get(key, 0) + amount


def _contribution(instance: Mapping[str, Any]) -> dict[str, Any]:
    state = {key: instance[key] for key in ("vm_state", "task_state", "os_type", "project_id")}
    return {**state, "vcpus": instance["vcpus"] or 0}
