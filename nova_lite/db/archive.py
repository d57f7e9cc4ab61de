"""Removing for good what was soft-deleted."""

import datetime
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession

INSTANCES = models.Instance.__table__

# Children before their parents.
_OF_INSTANCES = (models.InstanceMetadata, models.InstanceSystemMetadata, models.InstanceInfoCache,
                 models.InstanceExtra, models.InstanceFault, models.BlockDeviceMapping,
                 models.SecurityGroupInstanceAssociation, models.Migration)
_OTHERS = (models.SecurityGroupInstanceAssociation, models.SecurityGroupRule, models.ComputeNode,
           models.AggregateHost, models.AggregateMetadata, models.InstanceTypeExtraSpec, models.InstanceTypeProject,
           models.Reservation, models.BlockDeviceMapping, models.InstanceMetadata, models.KeyPair, models.Cell,
           models.Aggregate, models.AgentBuild, models.ProviderFirewallRule, models.VolumeUsage)


class Archive(Part):
    """What deletion left behind."""

    @operation
    def purge_deleted(self, context: Any, older_than_days: int = 0, max_rows: int = 1000) -> dict[str, int]:
        """Remove rows that were soft-deleted ``older_than_days`` ago or longer; returns {table: rows}.

        At most ``max_rows`` instances, with everything that belongs to them, and as many rows of each other table.
        Rows that something live still points to stay.
        """
        removed: dict[str, int] = {}
        with self.store.writer(context) as session:
            limit = session.now - datetime.timedelta(days=older_than_days)
            self._purge_instances(session, limit, max_rows, removed)
            for model in _OTHERS:
                table = model.__table__
                ids = _ids(session, table, table.c.deleted != 0, table.c.deleted_at <= limit, limit=max_rows)
                self._delete(session, table, ids, removed)
        return {name: count for name, count in removed.items() if count}

    def _purge_instances(self, session: RowSession, limit: datetime.datetime, max_rows: int,
                         removed: dict[str, int]) -> None:
        uuids = [row["uuid"] for row in session.all(sqlalchemy.select(INSTANCES.c.uuid).where(
            INSTANCES.c.deleted != 0, INSTANCES.c.deleted_at <= limit).order_by(INSTANCES.c.id).limit(
            min(max_rows, 500)))]
        if not uuids:
            return
        actions, events = models.InstanceAction.__table__, models.InstanceActionEvent.__table__
        action_ids = sqlalchemy.select(actions.c.id).where(actions.c.instance_uuid.in_(uuids))
        self._delete_where(session, events, events.c.action_id.in_(action_ids), removed)
        self._delete_where(session, actions, actions.c.instance_uuid.in_(uuids), removed)
        for model in _OF_INSTANCES:
            table = model.__table__
            self._delete_where(session, table, table.c.instance_uuid.in_(uuids), removed)
        self._delete_where(session, INSTANCES, INSTANCES.c.uuid.in_(uuids), removed)

    def _delete(self, session: RowSession, table: Any, ids: list[int], removed: dict[str, int]) -> None:
        if ids:
            self._delete_where(session, table, table.c.id.in_(ids), removed)

    def _delete_where(self, session: RowSession, table: Any, criterion: Any, removed: dict[str, int]) -> None:
        count = session.execute(sqlalchemy.delete(table).where(criterion)).rowcount
        removed[table.name] = removed.get(table.name, 0) + count


def _ids(session: RowSession, table: Any, *criteria: Any, limit: int) -> list[int]:
    return [row["id"] for row in session.all(sqlalchemy.select(table.c.id).where(*criteria).order_by(
        table.c.id).limit(min(limit, 500)))]
