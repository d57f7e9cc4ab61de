"""Flavors and key pairs."""

from collections.abc import Iterable, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, visible

FLAVORS = models.InstanceType.__table__
_MOST = 2 ** 31
_LONGEST = 255
SPECS = models.InstanceTypeExtraSpec.__table__
ACCESS = models.InstanceTypeProject.__table__
KEYS = models.KeyPair.__table__
_SPECS_OF = sqlalchemy.select(SPECS).where(
    SPECS.c.instance_type_id.in_(sqlalchemy.bindparam("ids", expanding=True))).order_by(SPECS.c.id)
_ACCESS_TO = sqlalchemy.select(ACCESS).where(
    ACCESS.c.instance_type_id.in_(sqlalchemy.bindparam("ids", expanding=True)), ACCESS.c.deleted == 0).order_by(
    ACCESS.c.id)

# What a new database has: (name, memory_mb, vcpus, root_gb, flavorid).
DEFAULTS = (
    ("m1.tiny", 512, 1, 1, "1"),
    ("m1.small", 2048, 1, 20, "2"),
    ("m1.medium", 4096, 2, 40, "3"),
    ("m1.large", 8192, 4, 80, "4"),
    ("m1.xlarge", 16384, 8, 160, "5"),
)


class Flavors(Part):
    """Rows of instance_types with ``extra_specs`` (dict) and ``projects`` (list)."""

    @operation
    def flavor_create(self, context: Any, values: Mapping[str, Any],
                      projects: Iterable[str] | None = None) -> dict[str, Any]:
        """Insert a flavor, its ``extra_specs`` and projects, and return it.

        Raises FlavorExists, FlavorIdExists, InvalidInput for impossible sizes and names.
        """
        values = dict(values)
        _check(values)
        specs, projects = values.pop("extra_specs", None) or {}, projects or values.pop("projects", None) or ()
        values.pop("projects", None)
        with self.store.writer(context) as session:
            self._refuse_taken(session, values)
            try:
                row = session.insert_row(models.InstanceType, {"ephemeral_gb": 0, **values})
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.FlavorExists(name=values["name"]) from exc
            self._insert_specs(session, row["id"], specs)
            session.insert_rows(models.InstanceTypeProject, [
                {"instance_type_id": row["id"], "project_id": project} for project in projects])
            return self._joined(session, [row])[0]

    def _refuse_taken(self, session: RowSession, values: Mapping[str, Any]) -> None:
        for column, error in (("name", exception.FlavorExists(name=values.get("name"))),
                              ("flavorid", exception.FlavorIdExists(flavor_id=values.get("flavorid")))):
            if session.one(sqlalchemy.select(FLAVORS.c.id).where(FLAVORS.c[column] == values.get(column),
                                                                 FLAVORS.c.deleted == 0)):
                raise error

    def insert_defaults(self, session: RowSession) -> None:
        """Insert the flavors of a new database, if there was never one."""
        if session.one(sqlalchemy.select(FLAVORS.c.id).limit(1)) is None:
            session.insert_rows(models.InstanceType, [
                {"name": name, "memory_mb": memory_mb, "vcpus": vcpus, "root_gb": root_gb, "ephemeral_gb": 0,
                 "flavorid": flavorid, "swap": 0} for name, memory_mb, vcpus, root_gb, flavorid in DEFAULTS])

    @operation
    def flavor_get(self, context: Any, id: int) -> dict[str, Any]:
        """Return the flavor of a local id. Raises InstanceTypeNotFound."""
        return self._one(context, exception.InstanceTypeNotFound(instance_type_id=id), FLAVORS.c.id == id)

    @operation
    def instance_type_get(self, context: Any, id: int) -> dict[str, Any]:
        """Return the flavor of a local id, under its older name. Raises InstanceTypeNotFound."""
        return self.flavor_get(context, id)

    @operation
    def flavor_get_by_name(self, context: Any, name: str) -> dict[str, Any]:
        """Return the flavor of a name. Raises InstanceTypeNotFoundByName."""
        return self._one(context, exception.InstanceTypeNotFoundByName(instance_type_name=name),
                         FLAVORS.c.name == name)

    @operation
    def flavor_get_by_flavor_id(self, context: Any, flavor_id: str) -> dict[str, Any]:
        """Return the flavor of a flavorid; among deleted ones the latest. Raises FlavorNotFound."""
        return self._one(context, exception.FlavorNotFound(flavor_id=flavor_id), FLAVORS.c.flavorid == str(flavor_id))

    @operation
    def flavor_get_all(self, context: Any, inactive: bool = False,
                       filters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the flavors by flavorid; ``inactive``: deleted ones too.

        Filters: ``min_memory_mb``, ``min_root_gb``, ``disabled``, ``is_public`` (None: any).
        """
        filters = filters or {}
        criteria = [] if inactive else list(visible(models.InstanceType, context, "no"))
        if "min_memory_mb" in filters:
            criteria.append(FLAVORS.c.memory_mb >= filters["min_memory_mb"])
        if "min_root_gb" in filters:
            criteria.append(FLAVORS.c.root_gb >= filters["min_root_gb"])
        criteria += [FLAVORS.c[name].is_(filters[name]) for name in ("disabled", "is_public")
                     if filters.get(name) is not None]
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(FLAVORS).where(*criteria).order_by(FLAVORS.c.flavorid, FLAVORS.c.id))
            return self._joined(session, rows)

    @operation
    def flavor_destroy(self, context: Any, name: str) -> None:
        """Soft-delete the flavor of a name, its extra specs and projects. Raises InstanceTypeNotFoundByName."""
        with self.store.writer(context) as session:
            row = self.flavor_get_by_name(context, name)
            session.soft_delete(models.InstanceType, FLAVORS.c.id == row["id"])
            session.soft_delete(models.InstanceTypeExtraSpec, SPECS.c.instance_type_id == row["id"])
            session.soft_delete(models.InstanceTypeProject, ACCESS.c.instance_type_id == row["id"])

    # -- extra specs and access --

    @operation
    def flavor_extra_specs_get(self, context: Any, flavor_id: str) -> dict[str, str]:
        """Return the extra specs of a flavorid. Raises FlavorNotFound."""
        return self.flavor_get_by_flavor_id(context, flavor_id)["extra_specs"]

    @operation
    def flavor_extra_specs_update_or_create(self, context: Any, flavor_id: str, extra_specs: Mapping[str, str]) -> None:
        """Set some extra specs of a flavorid. Raises FlavorNotFound."""
        with self.store.writer(context) as session:
            row = self.flavor_get_by_flavor_id(context, flavor_id)
            for key in sorted(extra_specs):
                if not session.update_rows(models.InstanceTypeExtraSpec, SPECS.c.instance_type_id == row["id"],
                                           SPECS.c.key == key, SPECS.c.deleted == 0, value=extra_specs[key]):
                    self._insert_specs(session, row["id"], {key: extra_specs[key]})

    @operation
    def flavor_extra_specs_delete(self, context: Any, flavor_id: str, key: str) -> None:
        """Remove one extra spec of a flavorid. Raises FlavorNotFound, FlavorExtraSpecsNotFound."""
        with self.store.writer(context) as session:
            row = self.flavor_get_by_flavor_id(context, flavor_id)
            if not session.soft_delete(models.InstanceTypeExtraSpec, SPECS.c.instance_type_id == row["id"],
                                       SPECS.c.key == key):
                raise exception.FlavorExtraSpecsNotFound(extra_specs_key=key, flavor_id=flavor_id)

    @operation
    def flavor_extra_specs_replace(self, context: Any, flavor_id: str, extra_specs: Mapping[str, str]) -> None:
        """Make the extra specs of a flavorid the given ones. Raises FlavorNotFound."""
        with self.store.writer(context):
            row = self.flavor_get_by_flavor_id(context, flavor_id)
            for key in row["extra_specs"]:
                if key not in extra_specs:
                    self.flavor_extra_specs_delete(context, flavor_id, key)
            self.flavor_extra_specs_update_or_create(context, flavor_id, extra_specs)

    @operation
    def flavor_access_replace(self, context: Any, flavor_id: str, projects: Iterable[str]) -> None:
        """Make the projects that see a flavorid the given ones. Raises FlavorNotFound."""
        projects = set(projects)
        with self.store.writer(context) as session:
            row = self.flavor_get_by_flavor_id(context, flavor_id)
            before = set(row["projects"])
            for project in sorted(before - projects):
                session.soft_delete(models.InstanceTypeProject, ACCESS.c.instance_type_id == row["id"],
                                    ACCESS.c.project_id == project)
            session.insert_rows(models.InstanceTypeProject, [
                {"instance_type_id": row["id"], "project_id": project} for project in sorted(projects - before)])

    def _insert_specs(self, session: RowSession, row_id: int, specs: Mapping[str, str]) -> None:
        session.insert_rows(models.InstanceTypeExtraSpec, [
            {"instance_type_id": row_id, "key": key, "value": value} for key, value in specs.items()])

    def _one(self, context: Any, missing: Exception, criterion: Any) -> dict[str, Any]:
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(FLAVORS).where(
                criterion, *visible(models.InstanceType, context)).order_by(
                FLAVORS.c.deleted, FLAVORS.c.id.desc()).limit(1))
            if row is None:
                raise missing
            return self._joined(session, [row])[0]

    def _joined(self, session: RowSession, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        by_id = {row["id"]: row for row in rows}
        for row in rows:
            row["extra_specs"], row["projects"] = {}, []
        if not rows:
            return rows
        # A deleted flavor keeps the extra specs it had.
        for spec in session.all(_SPECS_OF, {"ids": list(by_id)}):
            if not spec["deleted"] or by_id[spec["instance_type_id"]]["deleted"]:
                by_id[spec["instance_type_id"]]["extra_specs"][spec["key"]] = spec["value"]
        for access in session.all(_ACCESS_TO, {"ids": list(by_id)}):
            by_id[access["instance_type_id"]]["projects"].append(access["project_id"])
        return rows


def _check(values: Mapping[str, Any]) -> None:
    for name, least in (("memory_mb", 1), ("vcpus", 1), ("root_gb", 0), ("ephemeral_gb", 0), ("swap", 0)):
        value = values.get(name)
        if value is not None and not least <= value < _MOST:
            raise exception.InvalidInput(reason=f"{name} of a flavor is {least} to {_MOST - 1}, not {value}")
    for name in ("name", "flavorid"):
        length = len(str(values.get(name) or ""))
        if not 0 < length <= _LONGEST:
            raise exception.InvalidInput(reason=f"{name} of a flavor has 1 to {_LONGEST} characters, not {length}")


class KeyPairs(Part):
    """Rows of key pairs."""

    @operation
    def key_pair_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a key pair and return it. Raises KeyPairExists."""
        with self.store.writer(context) as session:
            try:
                return session.insert_row(models.KeyPair, values)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.KeyPairExists(key_name=values.get("name")) from exc

    @operation
    def key_pair_get(self, context: Any, user_id: str, name: str) -> dict[str, Any]:
        """Return a user's key pair. Raises KeypairNotFound."""
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(KEYS).where(KEYS.c.user_id == user_id, KEYS.c.name == name,
                                                            *visible(models.KeyPair, context)))
        if row is None:
            raise exception.KeypairNotFound(user_id=user_id, name=name)
        return row

    @operation
    def key_pair_get_all_by_user(self, context: Any, user_id: str) -> list[dict[str, Any]]:
        """Return a user's key pairs by name."""
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(KEYS).where(
                KEYS.c.user_id == user_id, *visible(models.KeyPair, context)).order_by(KEYS.c.name))

    @operation
    def key_pair_count_by_user(self, context: Any, user_id: str) -> int:
        """Return how many key pairs a user has."""
        with self.store.reader(context) as session:
            return session.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(KEYS).where(
                KEYS.c.user_id == user_id, KEYS.c.deleted == 0))

    @operation
    def key_pair_destroy(self, context: Any, user_id: str, name: str) -> None:
        """Soft-delete a user's key pair. Raises KeypairNotFound."""
        with self.store.writer(context) as session:
            if not session.soft_delete(models.KeyPair, KEYS.c.user_id == user_id, KEYS.c.name == name):
                raise exception.KeypairNotFound(user_id=user_id, name=name)
