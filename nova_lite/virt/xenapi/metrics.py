"""Figures of guests from the host's round-robin databases."""

import base64
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import vm_states
from nova_lite.virt.xenapi import errors, instances, plugins
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.transfer import TransferFailed, Transfers
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)

PLACES = 4
# {(instance uuid, MAC): {'bw_in', 'bw_out'}}
Totals = dict[tuple[str, str], dict[str, int]]


@dataclass
class Column:
    """One data source over time, oldest value first; a value that is unknown is NaN."""

    cf: str
    kind: str
    uuid: str
    name: str
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def column_of(legend: str) -> Column:
    """Return the column, still empty, of a legend entry such as 'AVERAGE:vm:UUID:cpu0'."""
    cf, kind, uuid, name = legend.split(":", 3)
    return Column(cf, kind, uuid, name)


def parse_updates(document: bytes) -> list[Column]:
    """Return the columns of an rrd_updates document. Raises CouldNotFetchMetrics for one that is none."""
    try:
        root = ElementTree.fromstring(document)
        columns = [column_of(entry.text) for entry in root.iterfind("meta/legend/entry")]
        for row in reversed(root.findall("data/row")):
            time = float(row.findtext("t"))
            for column, value in zip(columns, row.iterfind("v"), strict=True):
                column.times.append(time)
                column.values.append(float(value.text))
    except (ElementTree.ParseError, ValueError, TypeError, AttributeError):
        raise exception.CouldNotFetchMetrics() from None
    return columns


def average(column: Column, until: float | None = None) -> float:
    """Return the mean of the known values up to `until` (epoch seconds); 0 when there is none."""
    known = [value for time, value in zip(column.times, column.values, strict=True)
             if math.isfinite(value) and (until is None or time <= until)]
    return round(sum(known) / len(known), PLACES) if known else 0.0


def integral(column: Column, start: float, until: float | None = None) -> float:
    """Return the area below a rate from `start` on; unknown values count as 0. Earlier values are left out."""
    points = [(time, 0.0 if math.isnan(value) else value)
              for time, value in zip(column.times, column.values, strict=True)
              if time > start and (until is None or time <= until)]
    total, before = 0.0, (start, points[0][1]) if points else None
    for point in points:
        elapsed_s = point[0] - before[0]
        total += min(before[1], point[1]) * elapsed_s + 0.5 * abs(before[1] - point[1]) * elapsed_s
        before = point
    return round(total, PLACES)


class Macs:
    """The MACs of interfaces, asked for all of the pool at once when one is not known yet."""

    def __init__(self, session):
        self._session = session
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, vm: Any) -> dict[str, str]:
        """Return {device number: MAC} of a VM's interfaces."""
        if any(ref not in self._known for ref in vm.vif_refs):
            self._known = {ref: (record["device"], record["MAC"])
                           for ref, record in self._session.get_all_refs_and_recs("VIF")}
        # An interface may have gone since the VM was seen.
        return dict(self._known[ref] for ref in vm.vif_refs if ref in self._known)


class Metrics:
    """Diagnostics and network usage of the guests on our host."""

    def __init__(self, session, finder: VmFinder, cache: VmCache):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._transfers = Transfers(session)
        self._macs = Macs(session)
        self._totals: Totals = {}
        self._read_until: float | None = None

    def diagnostics(self, instance: Any) -> dict[str, str]:
        """Return {data source: last value} and `last_update`; {} when the host does not serve them."""
        vm = self._finder.vm(instance)
        uuid = vm.uuid or self._session.call_xenapi("VM.get_uuid", vm.ref)
        try:
            document = self._transfers.get("/vm_rrd", {"uuid": uuid})
        except TransferFailed as error:
            LOG.warning("No diagnostics of %s: %s", vm.name_label, error)
            return {}
        try:
            return _last_values(document)
        except (ElementTree.ParseError, AttributeError, TypeError) as error:
            return {"Unable to retrieve diagnostics": str(error)}

    # Bandwidth ------------------------------------------------------------------------------------------------

    def bandwidth(self, start: float, stop: float | None = None) -> dict[str, dict[str, dict[str, int]]]:
        """Return {VM name: {MAC: {'bw_in', 'bw_out'}}} in bytes since `start` (epoch seconds); {} without metrics."""
        try:
            return {vm.name_label: usage for vm, usage in self._measured(start, stop)[0]}
        except exception.CouldNotFetchMetrics as error:
            LOG.warning("%s", error)
            return {}

    def columns(self, start: float, prefix: str) -> tuple[dict[str, list[Column]], float]:
        """Return {VM uuid: figures whose names begin with `prefix`} and the time up to which they are known.

        `start` is in epoch seconds. Raises CouldNotFetchMetrics.
        """
        try:
            document = self._transfers.get("/rrd_updates", {"start": str(int(start)), "cf": "AVERAGE"})
        except TransferFailed as error:
            raise exception.CouldNotFetchMetrics() from error
        by_vm: dict[str, list[Column]] = defaultdict(list)
        known_until = start
        for column in parse_updates(document):
            known_until = max([known_until, *column.times[-1:]])
            if column.kind == "vm" and column.name.startswith(prefix):
                by_vm[column.uuid].append(column)
        return by_vm, known_until

    def _measured(self, start: float, stop: float | None = None) -> tuple[list[tuple[Any, dict]], float]:
        """Return [(VM, {MAC: usage})] of our host and the time up to which that is known."""
        by_vm, known_until = self.columns(start, "vif_")
        here = {vm.uuid: vm for vm in self._cache.here()}
        usage = [(here[uuid], self._by_mac(here[uuid], columns, start, stop))
                 for uuid, columns in by_vm.items() if uuid in here]
        return usage, known_until

    def _by_mac(self, vm: Any, columns: Iterable[Column], start: float, stop: float | None) -> dict:
        macs = self._macs.of(vm)
        usage: dict[str, dict[str, int]] = {}
        for column in columns:
            _, device, direction = column.name.split("_", 2)
            if device not in macs or direction not in ("rx", "tx"):
                continue
            counters = usage.setdefault(macs[device], {"bw_in": 0, "bw_out": 0})
            counters["bw_out" if direction == "tx" else "bw_in"] = int(integral(column, start, stop))
        return usage

    def counters(self, instances: Any) -> list[dict[str, Any]]:
        """Return [{'uuid', 'mac_address', 'bw_in', 'bw_out'}]: bytes that only grow while this process lives.

        With the `bandwidth` plugin they are dom0's own counters, which begin anew when a guest starts.
        """
        wanted = {instance["uuid"] for instance in instances}
        counted = self._counted_by_dom0()
        if counted is None:
            counted = self._summed_up()
        return [{"uuid": uuid, "mac_address": mac, **total} for (uuid, mac), total in counted.items() if uuid in wanted]

    def _counted_by_dom0(self) -> Totals | None:
        """Return the counters of dom0; None where its plugin is missing or fails."""
        if self._session.plugin_version is None:
            return None
        try:
            by_domid = json.loads(self._session.call_plugin("bandwidth", "fetch_all_bandwidth", {}))
        except (XenAPI.Failure, ValueError) as error:
            LOG.warning("The bandwidth plugin does not answer, going by the host's metrics: %s", error)
            return None
        counted: Totals = {}
        for vm in self._cache.here():
            interfaces = by_domid.get(str(vm.domid))
            if not interfaces or not vm.instance_uuid:
                continue
            macs = self._macs.of(vm)
            for number, usage in interfaces.items():
                if number in macs:
                    counted[vm.instance_uuid, macs[number]] = {
                        "bw_in": int(usage["bw_in"]), "bw_out": int(usage["bw_out"])}
        return counted

    def _summed_up(self) -> Totals:
        """Add what the host measured since the last call to the totals, and return those."""
        if self._read_until is None:
            self._read_until = self._session.clock.time()  # counting begins here
        try:
            measured, self._read_until = self._measured(self._read_until)
        except exception.CouldNotFetchMetrics as error:
            LOG.warning("%s", error)
            return self._totals
        for vm, usage in measured:
            for mac, counted in usage.items():
                total = self._totals.setdefault((vm.instance_uuid, mac), {"bw_in": 0, "bw_out": 0})
                total["bw_in"] += counted["bw_in"]
                total["bw_out"] += counted["bw_out"]
        here = {vm.instance_uuid for vm in self._cache.here()}
        self._totals = {key: total for key, total in self._totals.items() if key[0] in here}
        return self._totals


def _last_values(document: bytes) -> dict[str, str]:
    root = ElementTree.fromstring(document)
    values = {"last_update": root.findtext("lastupdate").strip()}
    rows = root.find("rra").findall("database/row")
    last = [value.text.strip() for value in rows[-1].iterfind("v")] if rows else []
    for source, value in zip(root.iterfind("ds"), last, strict=False):
        values[source.findtext("name").strip()] = value
    return values


class Consoles:
    """Text and graphical consoles of guests."""

    def __init__(self, session, finder: VmFinder, cache: VmCache, conf):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._conf = conf

    def _vm(self, instance: Any):
        rescue_ref = self._finder.of(instance, "-rescue")
        if rescue_ref is None and instances.read(instance, "vm_state") == vm_states.RESCUED:
            raise exception.InstanceNotReady(instance_id=instance["uuid"])
        return self._finder.vm(instance, "-rescue" if rescue_ref else "")

    def output(self, instance: Any) -> str:
        """Return the last 100 KiB of the console's log, of a guest that crashed too.

        Raises InstanceNotFound without a domain, ConsoleNotAvailable when the host does not log consoles.
        """
        vm = self._vm(instance)
        domid = vm.last_domid if vm.last_domid >= 0 else int(vm.other_config.get("last_dom_id", -1))
        if domid < 0:
            raise exception.InstanceNotFound(instance_id=instance["uuid"])
        try:
            packed = self._session.call_plugin("console", "get_console_log", {"dom_id": str(domid)})
            text = zlib.decompress(base64.b64decode(packed))
        except XenAPI.Failure as failure:
            reason = "its host has no console plugin" if plugins.is_missing(failure) else errors.last_line(failure)
            LOG.warning("No console log of %s: %s", vm.name_label, reason)
            raise exception.ConsoleNotAvailable() from failure
        except (ValueError, zlib.error) as error:
            raise exception.ConsoleNotAvailable() from error
        return text.decode("utf-8", "replace")

    def vnc(self, instance: Any) -> dict[str, Any]:
        """Return where the graphical console is. internal_access_path holds a session id: treat it as a password."""
        vm = self._vm(instance)
        location = f"/console?ref={vm.ref}&session_id={self._session.get_session_id()}"
        endpoint = self._session.host_endpoint
        port = urlsplit(endpoint.rpc_uri).port or (443 if endpoint.scheme == "https" else 80)
        return {"host": self._conf.vncserver_proxyclient_address, "port": port, "internal_access_path": location}
