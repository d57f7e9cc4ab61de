"""Counters of guests' disks and interfaces, summed up from the rates the host measures."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.metrics import Metrics, integral
from nova_lite.virt.xenapi.volumeops import device_number

LOG = logging.getLogger(__name__)

# What the host does not measure, as other hypervisors tell it.
UNKNOWN = -1
DISK_FIGURES = ("iops_read", "read", "iops_write", "write")
DISK_USAGE = ("rd_req", "rd_bytes", "wr_req", "wr_bytes")
INTERFACE_FIGURES = ("rx", "rx_packets", "rx_errors", "rx_drops", "tx", "tx_packets", "tx_errors", "tx_drops")


class RateSums:
    """Sums of the rates of one kind of device (`vbd`, `vif`) over all guests, by the reference of the device.

    Counting begins with the first look. A device that is made anew begins at 0; one that is gone is forgotten.
    """

    def __init__(self, session, metrics: Metrics, kind: str):
        self._session = session
        self._metrics = metrics
        self._kind = kind
        self._lock = threading.Lock()
        self._read_until: float | None = None
        self._sums: dict[str, dict[str, float]] = {}

    def look(self) -> tuple[dict[str, dict], dict[str, dict[str, float]]]:
        """Return {device: its record} and {device: {figure: sum}}; the sums of before where the host tells nothing."""
        devices = dict(self._session.get_all_refs_and_recs(self._kind.upper()))
        with self._lock:
            try:
                self._add_news(devices)
            except exception.CouldNotFetchMetrics as error:
                LOG.warning("%s", error)
            self._sums = {ref: sums for ref, sums in self._sums.items() if ref in devices}
            return devices, {ref: dict(sums) for ref, sums in self._sums.items()}

    def _add_news(self, devices: dict[str, dict]) -> None:
        if self._read_until is None:
            self._read_until = self._session.clock.time()
        start = self._read_until
        by_vm, self._read_until = self._metrics.columns(start, f"{self._kind}_")
        if not by_vm:
            return
        vm_refs = {record["uuid"]: ref for ref, record in self._session.get_all_refs_and_recs("VM")}
        by_name = {(record["VM"], record["device"]): ref for ref, record in devices.items()}
        for vm_uuid, columns in by_vm.items():
            for column in columns:
                _, device, figure = column.name.split("_", 2)
                ref = by_name.get((vm_refs.get(vm_uuid, ""), device))
                if ref is not None:
                    sums = self._sums.setdefault(ref, {})
                    sums[figure] = sums.get(figure, 0.0) + integral(column, start)


class DeviceCounters:
    """What guests read, wrote, received and sent."""

    def __init__(self, session, finder: VmFinder, metrics: Metrics):
        self._finder = finder
        self._disks = RateSums(session, metrics, "vbd")
        self._interfaces = RateSums(session, metrics, "vif")

    def disk(self, instance_name: str, disk_id: str) -> list[int]:
        """Return [read requests, bytes read, write requests, bytes written, errors] of the disk `xvdb`, `vdb`, `1`.

        Zeros for a disk that is not there; -1 for what the host does not measure. Raises StorageError for no device.
        """
        devices, sums = self._disks.look()
        vm_ref = self._finder.lookup(instance_name)
        return [*_disk_usage(devices, sums, vm_ref, disk_id), UNKNOWN]

    def volumes(self, attached: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the usage of every volume of [{'instance', 'instance_bdms'}] whose guest is here, from one look."""
        devices, sums = self._disks.look()
        usage = []
        for entry in attached:
            instance = entry["instance"]
            vm_ref = self._finder.of(instance)
            for bdm in entry["instance_bdms"] if vm_ref else ():
                counted = _disk_usage(devices, sums, vm_ref, instances.read(bdm, "device_name"))
                usage.append({"volume": instances.read(bdm, "volume_id"), "instance": instance,
                              **{name: max(0, value) for name, value in zip(DISK_USAGE, counted, strict=True)}})
        return usage

    def interface(self, instance_name: str, iface_id: str) -> list[int]:
        """Return [bytes, packets, errors, drops] received and the same sent, of the interface with this number or MAC.

        As seen by the guest. Zeros for an interface that is not there; -1 for what the host does not measure.
        """
        devices, sums = self._interfaces.look()
        vm_ref = self._finder.lookup(instance_name)
        wanted = str(iface_id).lower()
        return _counted(devices, sums, vm_ref, INTERFACE_FIGURES,
                        lambda vif: wanted in (vif["device"], vif["MAC"].lower()))


def _disk_usage(devices: dict, sums: dict, vm_ref: str | None, disk_id: str) -> list[int]:
    number = str(device_number(disk_id))
    return _counted(devices, sums, vm_ref, DISK_FIGURES, lambda vbd: vbd["userdevice"] == number)


def _counted(devices: dict, sums: dict, vm_ref: str | None, figures: tuple[str, ...],
             is_meant: Callable[[dict], bool]) -> list[int]:
    for ref, record in devices.items():
        if record["VM"] == vm_ref and is_meant(record):
            return [int(sums[ref][figure]) if figure in sums[ref] else UNKNOWN for figure in figures] if ref in sums \
                else [0] * len(figures)
    return [0] * len(figures)
