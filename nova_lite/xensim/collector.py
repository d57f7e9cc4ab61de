"""The background collector of VHD chains: removes hidden images nobody needs, folds those with one child."""

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.noun import Noun

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

LOG = logging.getLogger(__name__)
START_DELAY_S = 0.2


class Collector(Noun):
    """Runs soon after `wake`, or at once by `collect`; `is_paused` holds it back."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.is_paused = False
        self.start_delay_s = START_DELAY_S
        self._busy: Counter[str] = Counter()  # repositories whose files are being streamed
        self._pending: dict[str, None] = {}
        self._timer: threading.Timer | None = None

    def hold(self, sr_ref: str) -> None:
        """Keep a repository's files as they are until `release`."""
        self._busy[sr_ref] += 1

    def release(self, sr_ref: str) -> None:
        self._busy[sr_ref] -= 1
        if self._pending:
            self._start_timer()

    def wake(self, sr_ref: str) -> None:
        """Have the repository looked at soon. Expects the lock."""
        self._pending[sr_ref] = None
        self._start_timer()

    def _start_timer(self) -> None:
        if self._timer is None and not self.toolstack.is_stopping:
            self._timer = threading.Timer(self.start_delay_s, self._run)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _run(self) -> None:
        with self.toolstack.lock:
            self._timer = None
            if self.toolstack.is_stopping or self.is_paused:
                return
            pending, self._pending = self._pending, {}
            for sr_ref in pending:
                try:
                    self.collect(sr_ref)
                except (OSError, ValueError):  # the edge of the thread
                    LOG.exception("the collector failed on %s", sr_ref)
            self.toolstack.operations.refresh()

    def collect(self, sr_ref: str) -> None:
        """Clean up one repository until nothing is left to do. Expects the lock."""
        sr = self.db.find("SR", sr_ref)
        if sr is None or self._busy[sr_ref]:
            if sr is not None:
                self._pending[sr_ref] = None
            return
        while self._collect_one(sr):
            pass
        self.toolstack.repositories.measure(sr_ref)

    def _collect_one(self, sr: Row) -> bool:
        disks = [self.db.row("VDI", ref) for ref in sr["VDIs"]]
        children: dict[str, list[Row]] = {}
        for disk in disks:
            children.setdefault(disk["sm_config"].get("vhd-parent", ""), []).append(disk)
        for disk in disks:
            if disk["managed"] or disk["name_label"] != "base copy":
                continue
            below = children.get(disk["uuid"], [])
            if not below:
                self.toolstack.images.delete(sr["uuid"], disk["uuid"])
                self.db.destroy("VDI", disk.ref)
                return True
            if len(below) == 1 and below[0]["on_boot"] != "reset":
                self._fold(sr, disk, below[0])
                return True
        return False

    def _fold(self, sr: Row, parent: Row, child: Row) -> None:
        self.toolstack.images.merge(sr["uuid"], parent["uuid"], child["uuid"])
        sm_config = {key: value for key, value in child["sm_config"].items() if key != "vhd-parent"}
        if "vhd-parent" in parent["sm_config"]:
            sm_config["vhd-parent"] = parent["sm_config"]["vhd-parent"]
        self.db.set("VDI", child.ref, sm_config=sm_config)
        self.db.destroy("VDI", parent.ref)
        self.toolstack.vdis.measure(child.ref)
