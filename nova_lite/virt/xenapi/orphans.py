"""Things on a pool that carry our marks and that no record claims: what crashes, and other hands, leave behind.

XenServer does not list sessions, so those of services that died are not among them; it ends them itself after a day.
"""

import datetime
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import XenAPI

from nova_lite.objects import task_states, vm_states
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.leftovers import IMPORT_MARK
from nova_lite.virt.xenapi.plan import ignoring_gone
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.volume_repositories import TEMPORARY, VolumeRepositories

TASK_PREFIX = "nova_lite-"
SNAPSHOT_TASKS = (task_states.IMAGE_SNAPSHOT, task_states.IMAGE_SNAPSHOT_PENDING, task_states.IMAGE_PENDING_UPLOAD,
                  task_states.IMAGE_UPLOADING, task_states.IMAGE_BACKUP)


@dataclass(frozen=True)
class Claim:
    """What the records say about an instance."""

    vm_state: str | None
    task_state: str | None
    changed_at: datetime.datetime | None
    deleted: bool = False


@dataclass(frozen=True)
class Orphan:
    """One thing nobody claims. age_s is None where neither host nor records tell how old it is."""

    kind: str
    ref: str
    uuid: str
    name: str
    instance_uuid: str | None
    reason: str
    age_s: float | None


class Orphans:
    """Finds orphans of a pool and removes them.

    `claim_of` returns the Claim for an instance uuid, None for one there is no record of; `has_volume` tells whether an
    instance has the volume with an id. They are asked after the host was read, so that the record of whatever is being
    built then exists already.
    """

    def __init__(self, session, claim_of: Callable[[str], Claim | None], has_volume: Callable[[str], bool]):
        self._session = session
        self._ask = claim_of
        self._ask_volume = has_volume
        self._claims: dict[str, Claim | None] = {}
        self._volumes: dict[str, bool] = {}
        self._now = session.clock.utcnow()
        self._repositories_of_volumes = VolumeRepositories(session, Storage(session, "", 0))

    def find(self, older_than_s: float) -> list[Orphan]:
        """Return the orphans but those known to be younger than `older_than_s`: they may be work in flight."""
        read = {name: dict(self._session.get_all_refs_and_recs(name))
                for name in ("VM", "VDI", "VBD", "SR", "task", "VM_metrics")}
        self._claims, self._volumes = {}, {}
        self._now = self._session.clock.utcnow()
        found = [*self._vms(read), *self._vdis(read), *self._vbds(read), *self._repositories(read), *self._tasks(read)]
        return [orphan for orphan in found if orphan.age_s is None or orphan.age_s >= older_than_s]

    def tagged(self) -> tuple[int, int]:
        """Return how many instances and volumes the last search met, and how many of them the records know."""
        known = sum(claim is not None for claim in self._claims.values()) + sum(self._volumes.values())
        return len(self._claims) + len(self._volumes), known

    def _claim(self, instance_uuid: str) -> Claim | None:
        if instance_uuid not in self._claims:
            self._claims[instance_uuid] = self._ask(instance_uuid)
        return self._claims[instance_uuid]

    # Searching ------------------------------------------------------------------------------------------------

    def _vms(self, read: dict) -> Iterator[Orphan]:
        for ref, vm in read["VM"].items():
            owner = vm["other_config"].get("nova_uuid")
            if not owner or vm["is_a_template"] or vm["is_control_domain"]:
                continue
            reason = self._why_unclaimed(owner) or self._role_is_over(vm["name_label"], owner)
            if reason:
                metrics = read["VM_metrics"].get(vm["metrics"], {})
                yield Orphan("VM", ref, vm["uuid"], vm["name_label"], owner, reason,
                             self._age_s(owner, metrics.get("install_time")))

    def _why_unclaimed(self, owner: str) -> str:
        claim = self._claim(owner)
        if claim is None:
            return "no record of its instance"
        return "its instance is deleted" if claim.deleted else ""

    def _role_is_over(self, name_label: str, owner: str) -> str:
        claim = self._claim(owner)
        if claim.task_state is not None or claim.vm_state in (vm_states.ERROR, vm_states.BUILDING):
            return ""
        if name_label.endswith(instances.RESCUE) and claim.vm_state != vm_states.RESCUED:
            return "its instance is not in rescue"
        if name_label.endswith(instances.ORIGINAL) and claim.vm_state != vm_states.RESIZED:
            return "its instance awaits no confirmation"
        return ""

    def _vdis(self, read: dict) -> Iterator[Orphan]:
        for ref, vdi in read["VDI"].items():
            marks, owner = vdi["other_config"], vdi["other_config"].get("nova_instance_uuid")
            if vdi["VBDs"] or not vdi["managed"]:
                continue
            if IMPORT_MARK in marks:
                yield Orphan("VDI", ref, vdi["uuid"], vdi["name_label"], None, "its import did not end",
                             self._now.timestamp() - float(marks[IMPORT_MARK]))
            elif owner and vdi["is_a_snapshot"]:
                yield from self._snapshot(ref, vdi, owner)
            elif owner and (reason := self._why_unclaimed(owner)):
                yield Orphan("VDI", ref, vdi["uuid"], vdi["name_label"], owner, reason, self._age_s(owner, None))

    def _snapshot(self, ref: str, vdi: dict, owner: str) -> Iterator[Orphan]:
        reason, claim = self._why_unclaimed(owner), self._claim(owner)
        if not reason and vdi["name_label"].endswith("-snapshot") and claim.task_state not in SNAPSHOT_TASKS:
            reason = "no snapshot of its instance is being taken"
        if reason:
            yield Orphan("snapshot", ref, vdi["uuid"], vdi["name_label"], owner, reason,
                         self._age_s(owner, vdi["snapshot_time"]))

    def _vbds(self, read: dict) -> Iterator[Orphan]:
        """Disks of instances that are still attached to a control domain."""
        for ref, vbd in read["VBD"].items():
            vdi, vm = read["VDI"].get(vbd["VDI"]), read["VM"].get(vbd["VM"])
            if not vdi or not vm or not vm["is_control_domain"]:
                continue
            owner = vdi["other_config"].get("nova_instance_uuid")
            if owner and (reason := self._why_unclaimed(owner)):
                yield Orphan("VBD", ref, vbd["uuid"], vdi["name_label"], owner, reason, self._age_s(owner, None))

    def _repositories(self, read: dict) -> Iterator[Orphan]:
        """Repositories of volumes that were introduced and not forgotten; the volumes themselves are elsewhere."""
        for ref, sr in read["SR"].items():
            if not sr["name_label"].startswith(TEMPORARY):
                continue
            volume_id = sr["name_label"].removeprefix(TEMPORARY)
            self._volumes[volume_id] = self._ask_volume(volume_id)
            is_used = any(read["VDI"][vdi_ref]["VBDs"] for vdi_ref in sr["VDIs"] if vdi_ref in read["VDI"])
            if not (self._volumes[volume_id] or is_used or sr["current_operations"]):
                yield Orphan("SR", ref, sr["uuid"], sr["name_label"], None, "no VM and no record has its volume", None)

    def _tasks(self, read: dict) -> Iterator[Orphan]:
        for ref, task in read["task"].items():
            if task["name_label"].startswith(TASK_PREFIX):
                age_s = (self._now - moment(task["created"])).total_seconds()
                yield Orphan("task", ref, task["uuid"], task["name_label"], None, f"{task['status']}, not removed",
                             age_s)

    def _age_s(self, owner: str, made_at: object) -> float | None:
        """Return the time since the thing was made, or since its record changed last, whichever is shorter."""
        claim = self._claim(owner)
        moments = [moment(made_at)] if made_at else []
        if claim is not None and claim.changed_at is not None:
            moments.append(claim.changed_at)
        known = [each for each in moments if each.year > 1970]
        return (self._now - max(known)).total_seconds() if known else None

    # Removing -------------------------------------------------------------------------------------------------

    def remove(self, orphan: Orphan) -> None:
        """Remove one orphan; what is gone already is fine. Disks of a VM are orphans of their own, listed next time.

        Raises XenAPI.Failure.
        """
        acts = {"VM": self._remove_vm, "VDI": self._remove_vdi, "snapshot": self._remove_vdi, "VBD": self._remove_vbd,
                "SR": self._repositories_of_volumes.drop, "task": self._remove_task}
        ignoring_gone(acts[orphan.kind], orphan.ref)

    def _remove_vm(self, ref: str) -> None:
        vbds = self._session.records_where("VBD", VM=ref)
        if self._session.call_xenapi("VM.get_power_state", ref).lower() != "halted":
            self._session.call_long("VM.hard_shutdown", ref)
        own = [vbd["VDI"] for vbd in vbds.values() if not vbd["empty"] and not vbd["other_config"].get("osvol")
               and not vbd["other_config"].get("nova_borrowed")]
        self._session.call_xenapi("VM.destroy", ref)
        for vdi_ref in own:
            record = self._session.get_rec("VDI", vdi_ref)
            if record and record["other_config"].get("nova_instance_uuid") and not record["VBDs"]:
                self._remove_vdi(vdi_ref)

    def _remove_vdi(self, ref: str) -> None:
        self._session.call_xenapi("VDI.destroy", ref)

    def _remove_vbd(self, ref: str) -> None:
        try:
            self._session.call_xenapi("VBD.unplug", ref)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, "DEVICE_ALREADY_DETACHED"):
                raise
        self._session.call_xenapi("VBD.destroy", ref)

    def _remove_task(self, ref: str) -> None:
        with suppress(XenAPI.Failure):
            self._session.call_xenapi("task.cancel", ref)
        self._session.call_xenapi("task.destroy", ref)


def moment(value: object) -> datetime.datetime:
    """Return a time of the API (XML-RPC or text) as an aware one."""
    text = str(value).replace("-", "").removesuffix("Z")
    return datetime.datetime.strptime(text.partition(".")[0], "%Y%m%dT%H:%M:%S").replace(tzinfo=datetime.UTC)
