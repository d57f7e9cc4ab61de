"""Neighbours of this cell."""

from collections.abc import Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.secrets import SecretBox

CELLS = models.Cell.__table__
_ALL = sqlalchemy.select(CELLS).where(CELLS.c.deleted == 0).order_by(CELLS.c.id)

_SECRET = ("transport_url", "shared_key")


class CellRow(dict):
    """A row that does not print its secrets."""

    def __repr__(self) -> str:
        return repr({name: "***" if name in _SECRET and value else value for name, value in self.items()})


class Cells(Part):
    """Rows of cells; their ``transport_url`` and ``shared_key`` are encrypted in the table and open in the result."""

    def __init__(self, db: Any):
        super().__init__(db)
        self._box = SecretBox(self.conf.database.secret_key_file)

    @operation
    def cell_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a neighbour and return it. Raises CellExists."""
        with self.store.writer(context) as session:
            try:
                row = session.insert_row(models.Cell, self._closed(values))
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.CellExists(name=values.get("name")) from exc
        self._changed()
        return self._opened(row)

    @operation
    def cell_update(self, context: Any, cell_name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change a neighbour and return it. Raises CellNotFound, CellExists."""
        with self.store.writer(context) as session:
            try:
                count = session.update_rows(models.Cell, CELLS.c.name == cell_name, CELLS.c.deleted == 0,
                                            **self._closed(values))
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.CellExists(name=values.get("name")) from exc
            if not count:
                raise exception.CellNotFound(cell_name=cell_name)
            row = self.cell_get(context, values.get("name", cell_name))
        self._changed()
        return row

    @operation
    def cell_delete(self, context: Any, cell_name: str) -> int:
        """Soft-delete a neighbour; returns how many there were."""
        with self.store.writer(context) as session:
            count = session.soft_delete(models.Cell, CELLS.c.name == cell_name)
        self._changed()
        return count

    @operation
    def cell_get(self, context: Any, cell_name: str) -> dict[str, Any]:
        """Return a neighbour. Raises CellNotFound."""
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(CELLS).where(CELLS.c.name == cell_name, CELLS.c.deleted == 0))
        if row is None:
            raise exception.CellNotFound(cell_name=cell_name)
        return self._opened(row)

    @operation
    def cell_get_all(self, context: Any) -> list[dict[str, Any]]:
        """Return the neighbours."""
        with self.store.reader(context) as session:
            rows = session.all(_ALL)
        return [self._opened(row) for row in rows]

    def _changed(self) -> None:
        self.db.part_of("has_parents").forget_parents()

    def _closed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._box.close(value) if name in _SECRET else value for name, value in values.items()
                if name != "id"}

    def _opened(self, row: dict[str, Any]) -> CellRow:
        return CellRow({name: self._box.open(value) if name in _SECRET else value for name, value in row.items()})
