"""Which of a cell's upward updates each of its `nova-cells` processes sends."""

import zlib
from typing import Any

from nova_lite import context, servicegroup

_BINARY = "nova-cells"
_REMEMBERED_S = 10.0


class Share:
    """All updates of one instance are one process's, so that they keep their order; a process that ends leaves its
    share to the others."""

    def __init__(self, services):
        self._services = services
        self._clock = services.clock
        self._servicegroup = servicegroup.API(services)
        self._hosts: list[str] = []
        self._asked_at_s: float | None = None

    def mine(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those rows of the outbox that this process is to send."""
        hosts = self._present()
        return rows if len(hosts) < 2 else [row for row in rows if self._is_mine(row, hosts)]

    def _is_mine(self, row: dict[str, Any], hosts: list[str]) -> bool:
        place = zlib.crc32((row["instance_uuid"] or "").encode()) % len(hosts)
        return hosts[place] == self._services.host or self._is_left_over(row)

    def _is_left_over(self, row: dict[str, Any]) -> bool:
        """Whether an update has waited so long that its process, which seems to be there, may be gone."""
        if row["created_at"] is None:
            return False
        age = self._clock.utcnow().replace(tzinfo=None) - row["created_at"]
        return age.total_seconds() > self._services.conf.service_down_time

    def _present(self) -> list[str]:
        """Return the hosts of the cell's processes, this one among them, in one order for all of them."""
        now_s = self._clock.monotonic()
        if self._asked_at_s is None or now_s - self._asked_at_s > _REMEMBERED_S:
            self._hosts, self._asked_at_s = self._ask(), now_s
        return self._hosts

    def _ask(self) -> list[str]:
        ctxt = context.get_admin_context().bind(self._services)
        others = {service["host"] for service in self._services.db.service_get_all_by_binary(
            ctxt, _BINARY, include_disabled=True) if self._servicegroup.service_is_up(service)}
        return sorted({self._services.host} | others)
