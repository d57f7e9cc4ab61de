"""Performance figures of hosts, VMs and repositories: data sources, and the archives that rrd_updates reads.

Figures are computed, not recorded: a figure depends on the object, its source and the time alone, so that an archive
read twice says the same.
"""

import json
import math
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.handlers import Door, Router
from nova_lite.xensim.http import HttpError, Request
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.vm_rules import PAUSED, RUNNING

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

# Archives: seconds between rows, rows kept.
ARCHIVES = ((5, 120), (60, 120), (3600, 168), (86400, 366))
CONSOLIDATIONS = ("AVERAGE", "MIN", "MAX", "LAST")
ROWS_LIMIT = 1500


@dataclass(frozen=True)
class Source:
    """One figure of an object: its unit, and the constant it has, or the top of the wave it follows."""

    name: str
    units: str
    top: float
    is_constant: bool = False

    def value(self, uuid: str, at: float) -> float:
        if self.is_constant:
            return self.top
        seed = zlib.crc32(f"{uuid}/{self.name}".encode())
        return self.top * (0.5 + 0.5 * math.sin(seed % 628 / 100 + at / 300)) * (0.2 + seed % 80 / 100)


def vm_sources(toolstack: "Toolstack", vm: Row) -> list[Source]:
    """Return the figures of a running VM."""
    db = toolstack.db
    sources = [Source(f"cpu{number}", "(fraction)", 1.0) for number in range(vm["VCPUs_at_startup"])]
    sources.append(Source("memory", "B", float(vm["memory_dynamic_max"]), is_constant=True))
    sources.append(Source("memory_target", "B", float(vm["memory_target"]), is_constant=True))
    sources.append(Source("memory_internal_free", "KiB", vm["memory_dynamic_max"] / 4096, is_constant=True))
    for ref in vm["VIFs"]:
        vif = db.row("VIF", ref)
        if vif["currently_attached"]:
            sources += [Source(f"vif_{vif['device']}_{way}", "B/s", 125_000.0) for way in ("tx", "rx")]
    for ref in vm["VBDs"]:
        vbd = db.row("VBD", ref)
        if vbd["currently_attached"]:
            sources += [Source(f"vbd_{vbd['device']}_{way}", "B/s", 1_000_000.0) for way in ("read", "write")]
            sources += [Source(f"vbd_{vbd['device']}_iops_{way}", "requests/s", 200.0) for way in ("read", "write")]
    return sources


def host_sources(toolstack: "Toolstack", host: Row) -> list[Source]:
    """Return the figures of a host."""
    db = toolstack.db
    sources = [Source(f"cpu{db.get('host_cpu', ref, 'number')}", "(fraction)", 1.0) for ref in host["host_CPUs"]]
    sources += [Source("cpu_avg", "(fraction)", 1.0), Source("loadavg", "(fraction)", 1.0)]
    total = db.get("host_metrics", host["metrics"], "memory_total") / 1024
    free = toolstack.hosts.free_memory(host.ref) / 1024
    sources += [Source("memory_total_kib", "KiB", total, is_constant=True)]
    sources += [Source("memory_free_kib", "KiB", free, is_constant=True)]
    for ref in host["PIFs"]:
        pif = db.row("PIF", ref)
        if pif["physical"]:
            sources += [Source(f"pif_{pif['device']}_{way}", "B/s", 1_000_000.0) for way in ("rx", "tx")]
    return sources


def sr_sources(toolstack: "Toolstack", sr: Row) -> list[Source]:
    """Return the figures of a repository."""
    sources = [Source("physical_utilisation", "B", float(sr["physical_utilisation"]), is_constant=True)]
    return [
        *sources,
        Source("size", "B", float(sr["physical_size"]), is_constant=True),
        Source("io_throughput_read", "MiB/s", 5.0),
    ]


SOURCES = {"VM": vm_sources, "host": host_sources, "SR": sr_sources}
PREFIXES = {"VM": "vm", "host": "host", "SR": "sr"}


def number_text(value: float) -> str:
    """Return a figure as the archives write it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.15g}"


class DataSources(Noun):
    """get_data_sources, query_data_source and their like."""

    def _sources(self, class_name: str, ref: str) -> dict[str, Source]:
        row = self.db.row(class_name, ref)
        if class_name == "VM" and row["power_state"] not in (RUNNING, PAUSED):
            raise ApiError("VM_BAD_POWER_STATE", ref, "running, paused", row["power_state"].lower())
        return {source.name: source for source in SOURCES[class_name](self.toolstack, row)}

    def _list(self, class_name: str, ref: str) -> list[dict[str, Any]]:
        uuid = self.db.get(class_name, ref, "uuid")
        return [
            {
                "name_label": source.name,
                "name_description": "",
                "enabled": True,
                "standard": True,
                "units": source.units,
                "min": 0.0,
                "max": source.top,
                "value": source.value(uuid, time.time()),
            }
            for source in self._sources(class_name, ref).values()
        ]

    def _query(self, class_name: str, ref: str, name: str) -> float:
        source = self._sources(class_name, ref).get(name)
        if source is None:
            raise ApiError("INTERNAL_ERROR", f"Rrd.Invalid_data_source({name})")
        return source.value(self.db.get(class_name, ref, "uuid"), time.time())

    def _check(self, class_name: str, ref: str, name: str) -> None:
        self._query(class_name, ref, name)

    @call("VM.get_data_sources")
    def get_vm_data_sources(self, _caller, ref):
        return self._list("VM", ref)

    @call("host.get_data_sources")
    def get_host_data_sources(self, _caller, ref):
        return self._list("host", ref)

    @call("SR.get_data_sources")
    def get_sr_data_sources(self, _caller, ref):
        return self._list("SR", ref)

    @call("VM.query_data_source")
    def query_vm_data_source(self, _caller, ref, name):
        return self._query("VM", ref, name)

    @call("host.query_data_source")
    def query_host_data_source(self, _caller, ref, name):
        return self._query("host", ref, name)

    @call("SR.query_data_source")
    def query_sr_data_source(self, _caller, ref, name):
        return self._query("SR", ref, name)

    @call("VM.record_data_source")
    @call("VM.forget_data_source_archives")
    def record_vm_data_source(self, _caller, ref, name):
        self._check("VM", ref, name)

    @call("SR.record_data_source")
    @call("SR.forget_data_source_archives")
    def record_sr_data_source(self, _caller, ref, name):
        self._check("SR", ref, name)

    @call("host.record_data_source")
    @call("host.forget_data_source_archives")
    def record_host_data_source(self, _caller, ref, name):
        self._check("host", ref, name)


class Archives:
    """/rrd_updates, /vm_rrd, /host_rrd and /sr_rrd."""

    def __init__(self, toolstack: "Toolstack", door: Door, host_ref: str):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._door = door
        self._host_ref = host_ref

    def register(self, router: Router) -> None:
        router.add("GET", "/rrd_updates", self.updates)
        for path, class_name in (("/vm_rrd", "VM"), ("/host_rrd", "host"), ("/sr_rrd", "SR")):
            router.add(
                "GET", path, lambda request, caller, class_name=class_name: self.whole(request, caller, class_name)
            )

    # updates

    def updates(self, request: Request, caller: Caller) -> None:
        request.keeps_alive = False
        with self._db.lock:
            self._door.authenticate(request, caller, "rrd_updates")
            query = request.query
            start, step = self._range(query)
            wanted = [query["cf"]] if "cf" in query else list(CONSOLIDATIONS)
            if wanted[0] not in CONSOLIDATIONS:
                raise HttpError(400, f"unknown cf {wanted[0][:20]}")
            columns = [
                (kind, row, source)
                for kind, row in self._objects(query)
                for source in SOURCES[kind](self._toolstack, row)
            ]
        legend = [
            f"{cf}:{PREFIXES[kind]}:{row['uuid']}:{source.name}" for cf in wanted for kind, row, source in columns
        ]
        end = int(time.time()) // step * step
        times = list(range(end, max(start, end - ROWS_LIMIT * step) - 1, -step))
        rows = [(at, [source.value(row["uuid"], at) for _ in wanted for _, row, source in columns]) for at in times]
        meta = {"start": times[-1] if times else start, "step": step, "end": end}
        if query.get("json") == "true":
            request.reply(200, self._json(meta, legend, rows), {"Content-Type": "application/json"})
        else:
            request.reply(200, self._xml(meta, legend, rows), {"Content-Type": "text/xml"})

    @staticmethod
    def _range(query: dict[str, str]) -> tuple[int, int]:
        """Return (start, step): the finest archive that reaches back to the start and is no finer than asked for."""
        try:
            start = int(float(query.get("start", "0")))
            interval = int(float(query.get("interval", "0")))
        except ValueError:
            raise HttpError(400, "start and interval are numbers") from None
        now = int(time.time())
        start = now + start if start < 0 else start
        for step, rows in ARCHIVES:
            if step >= interval and now - start <= step * rows:
                return start, step
        step, rows = ARCHIVES[-1]
        return max(start, now - step * rows), step

    def _objects(self, query: dict[str, str]) -> list[tuple[str, Row]]:
        vm_uuid = query.get("vm_uuid")
        found = [
            ("VM", vm)
            for vm in self._db.select("VM", resident_on=self._host_ref)
            if vm["power_state"] in (RUNNING, PAUSED) and vm_uuid in (None, vm["uuid"])
        ]
        if query.get("host") == "true":
            found.append(("host", self._db.row("host", self._host_ref)))
        if query.get("sr_uuid"):
            found.append(("SR", self._db.row("SR", self._door.find("SR", query["sr_uuid"]))))
        return found

    @staticmethod
    def _json(meta: dict[str, int], legend: list[str], rows) -> bytes:
        body = {
            "meta": {**meta, "rows": len(rows), "columns": len(legend), "legend": legend},
            "data": [{"t": at, "values": [number_text(value) for value in values]} for at, values in rows],
        }
        return json.dumps(body).encode()

    @staticmethod
    def _xml(meta: dict[str, int], legend: list[str], rows) -> bytes:
        head = "".join(f"<{name}>{value}</{name}>" for name, value in meta.items())
        entries = "".join(f"<entry>{entry}</entry>" for entry in legend)
        data = "".join(
            f"<row><t>{at}</t>{''.join(f'<v>{number_text(value)}</v>' for value in values)}</row>"
            for at, values in rows
        )
        return (
            f"<xport><meta>{head}<rows>{len(rows)}</rows><columns>{len(legend)}</columns>"
            f"<legend>{entries}</legend></meta><data>{data}</data></xport>"
        ).encode()

    # whole archives

    def whole(self, request: Request, caller: Caller, class_name: str) -> None:
        request.keeps_alive = False
        with self._db.lock:
            self._door.authenticate(request, caller, "rrd")
            name = request.query.get("uuid", "")
            ref = self._host_ref if class_name == "host" and not name else self._door.find(class_name, name)
            row = self._db.row(class_name, ref)
            sources = SOURCES[class_name](self._toolstack, row)
        parts = ['<?xml version="1.0"?><rrd><version>0003</version><step>5</step>']
        parts.append(f"<lastupdate>{time.time():.0f}</lastupdate>")
        for source in sources:
            last = number_text(source.value(row["uuid"], time.time()))
            parts.append(
                f"<ds><name>{source.name}</name><type>GAUGE</type><minimal_heartbeat>300.0000</minimal_heartbeat>"
                f"<min>0.0</min><max>Infinity</max><last_ds>{last}</last_ds>"
                "<value>0.0</value><unknown_sec>0</unknown_sec></ds>"
            )
        for step, count in ARCHIVES:
            for cf in CONSOLIDATIONS[:3]:
                parts.append(self._archive(cf, step, count, row["uuid"], sources))
        parts.append("</rrd>")
        request.reply(200, "".join(parts).encode(), {"Content-Type": "text/xml"})

    @staticmethod
    def _archive(cf: str, step: int, count: int, uuid: str, sources: list[Source]) -> str:
        end = int(time.time()) // step * step
        rows = (
            "<row>" + "".join(f"<v>{number_text(source.value(uuid, at))}</v>" for source in sources) + "</row>"
            for at in range(end - (count - 1) * step, end + step, step)
        )
        return (
            f"<rra><cf>{cf}</cf><pdp_per_row>{step // 5}</pdp_per_row><params><xff>0.5000</xff></params>"
            f"<cdp_prep></cdp_prep><database>{''.join(rows)}</database></rra>"
        )
