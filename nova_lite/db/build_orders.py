"""Builds that were ordered at the top of a tree, kept until a cell has told of their instances.

An order's ``payload`` holds what the caller needs to give it again; it is encrypted, since passwords are in it.
"""

import datetime
import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.secrets import SecretBox
from nova_lite.objects import wire

ORDERS = models.BuildOrder.__table__


class BuildOrders(Part):
    """Orders are {'id', 'instance_uuids': list, 'payload', 'created_at', 'attempts'}."""

    def __init__(self, db: Any):
        super().__init__(db)
        self._box = SecretBox(self.conf.database.secret_key_file)

    @operation
    def build_order_create(self, context: Any, instance_uuids: Iterable[str], payload: dict[str, Any],
                           not_before: datetime.datetime) -> int:
        """Keep an order, to be looked at again after a time; return its id."""
        with self.store.writer(context) as session:
            row = session.insert_row(models.BuildOrder, {
                "instance_uuids": json.dumps(list(instance_uuids)),
                "payload": self._box.close(json.dumps(wire.to_wire(payload))), "not_before": not_before})
        return row["id"]

    @operation
    def build_orders_due(self, context: Any, limit: int = 100) -> list[dict[str, Any]]:
        """Return the orders whose time to be looked at has come, the oldest first."""
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(ORDERS).where(ORDERS.c.not_before <= session.now).order_by(
                ORDERS.c.id).limit(limit))
        return [self._opened(row) for row in rows]

    @operation
    def build_order_of(self, context: Any, instance_uuid: str) -> dict[str, Any] | None:
        """Return the order to build an instance, None without one."""
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(ORDERS).where(ORDERS.c.instance_uuids.contains(instance_uuid)))
        return None if row is None else self._opened(row)

    @operation
    def build_order_put_off(self, context: Any, order_id: int, not_before: datetime.datetime,
                            attempted: bool) -> None:
        """Look at an order again after a time; ``attempted`` counts that it was given again."""
        with self.store.writer(context) as session:
            session.update_rows(models.BuildOrder, ORDERS.c.id == order_id, not_before=not_before,
                                attempts=ORDERS.c.attempts + int(attempted))

    @operation
    def build_orders_delete(self, context: Any, order_ids: Iterable[int]) -> None:
        """Forget orders."""
        with self.store.writer(context) as session:
            session.execute(sqlalchemy.delete(ORDERS).where(ORDERS.c.id.in_(list(order_ids))))

    def _opened(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "instance_uuids": json.loads(row["instance_uuids"]),
                "payload": json.loads(self._box.open(row["payload"]) or "{}")}
