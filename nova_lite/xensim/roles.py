"""Roles, and whether a session's roles allow a call.

The six roles that people are given are rows. The permissions below them, one for each call, are roles too, internal
ones: they are made when asked for and are in no table, so that `role.get_all` lists the six.
"""

import functools
import uuid as uuid_module
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import Call
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.schema.roles import ROLES

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

INTERNAL = "internal"
# The same on every pool, and subject.create gives the first one by default.
UUIDS = {
    "pool-admin": "0165f154-ba3e-034e-6b27-5d271af109ba",
    "pool-operator": "b9ce9791-0604-50cd-0649-09b3284c7dfd",
    "vm-power-admin": "7955168d-7bec-10ed-105f-c6a7e6e63249",
    "vm-admin": "aaa00ab5-7340-bfbc-0d1b-7cf342639a6e",
    "vm-operator": "fb8d4ff9-310c-a959-0613-54101535d3d5",
    "read-only": "7233b8e3-eacb-d7da-2c95-f2e581cdbf4e",
}
STRENGTH = {name: strength for strength, name in enumerate(ROLES)}


@functools.lru_cache(maxsize=4096)  # more than there are calls
def role_ref(name: str) -> str:
    """Return the reference of a role or, by the name of a call, of a permission."""
    uuid = UUIDS.get(name) or str(uuid_module.uuid5(uuid_module.NAMESPACE_URL, f"xapi-permission:{name}"))
    return f"OpaqueRef:{uuid}"


class Roles(Noun):
    """The role calls. `check` stands before every call of a session that is not the superuser's."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        names = [name.lower() for name, role in self.db.schema.roles.items() if role != INTERNAL]
        self._permissions = {role_ref(name): name for name in names}
        self._needed = {name.lower(): role for name, role in self.db.schema.roles.items()}

    def install(self) -> None:
        """Add the six roles to the tables of a new pool. Expects the lock."""
        for name, description in ROLES.items():
            weaker = [role_ref(other) for other in ROLES if STRENGTH[other] < STRENGTH[name]]
            self.db.create(
                "role",
                ref=role_ref(name),
                uuid=UUIDS[name],
                name_label=name,
                name_description=description,
                subroles=[*weaker, *(role_ref(each) for each in self._own_permissions(name))],
            )

    def _own_permissions(self, name: str) -> list[str]:
        return [each for each in self._permissions.values() if self._needed[each] == name]

    def permissions_of(self, role_refs: list[str]) -> list[str]:
        """Return the lower-case names of the calls that these roles allow."""
        names = [row["name_label"] for ref in role_refs if (row := self.db.find("role", ref))]
        strongest = max((STRENGTH[name] for name in names if name in STRENGTH), default=-1)
        return [each for each in self._permissions.values() if STRENGTH[self._needed[each]] <= strongest]

    def allows(self, session_ref: str, role: str) -> bool:
        """Return whether a session may do what needs this role."""
        row = self.db.row("session", session_ref)
        if row["is_local_superuser"] or row["pool"]:
            return True
        return self._strongest(row["rbac_permissions"]) >= STRENGTH[role]

    def _strongest(self, permissions: list[str]) -> int:
        return max((STRENGTH.get(self._needed[name], -1) for name in permissions), default=-1)

    def check(self, caller: Caller, described: Call) -> None:
        """Raise RBAC_PERMISSION_DENIED when the caller's session may not make the call."""
        if described.full_name.lower() in self.db.get("session", caller.session_ref, "rbac_permissions"):
            return
        needed = self.db.schema.roles[described.full_name]
        enough = [name for name in ROLES if needed != INTERNAL and STRENGTH[name] >= STRENGTH[needed]]
        reason = f"No permission in user session. (Roles with permission: [{', '.join(enough)}])"
        raise ApiError("RBAC_PERMISSION_DENIED", described.full_name, reason)

    @staticmethod
    def check_pool_internal(caller: Caller, described: Call) -> None:
        """Raise INTERNAL_ERROR when a call among the hosts of a pool comes from elsewhere."""
        if not caller.is_pool_internal:
            raise internal_error(f"Failure: {described.full_name} is only for sessions of the pool's hosts")

    # records of permissions, which are in no table

    def _row(self, ref: str) -> Row:
        name = self._permissions.get(ref)
        if name is None:
            return self.db.row("role", ref)
        fields = self.db.schema.classes["role"].fields
        values = {field: known.initial() for field, known in fields.items()}
        values |= {"uuid": ref.removeprefix("OpaqueRef:"), "name_label": name, "is_internal": True}
        return Row(self.db.schema.classes["role"], ref, values, 0)

    @call("role.get_record")
    def get_record(self, _caller, ref):
        return self._row(ref)

    def _getter(field):
        @call(f"role.get_{field}")
        def get_field(self, _caller, ref):
            return self._row(ref)[field]

        return get_field

    get_uuid = _getter("uuid")
    get_name_label = _getter("name_label")
    get_name_description = _getter("name_description")
    get_subroles = _getter("subroles")
    get_is_internal = _getter("is_internal")

    @call("role.get_by_uuid")
    def get_by_uuid(self, _caller, uuid):
        ref = f"OpaqueRef:{uuid}"
        return ref if ref in self._permissions else self.db.by_uuid("role", uuid)

    @call("role.get_by_name_label")
    def get_by_name_label(self, _caller, label):
        ref = role_ref(label)
        return [ref] if ref in self._permissions or self.db.find("role", ref) else []

    # what a role allows, and which roles allow something

    @call("role.get_permissions")
    def get_permissions(self, _caller, ref):
        return [role_ref(name) for name in self.get_permissions_name_label(_caller, ref)]

    @call("role.get_permissions_name_label")
    def get_permissions_name_label(self, _caller, ref):
        if ref in self._permissions:
            return [self._permissions[ref]]
        self.db.row("role", ref)
        return self.permissions_of([ref])

    @call("role.get_by_permission")
    def get_by_permission(self, caller, permission):
        return self.get_by_permission_name_label(caller, self._row(permission)["name_label"])

    @call("role.get_by_permission_name_label")
    def get_by_permission_name_label(self, _caller, label):
        needed = self._needed.get(label.lower(), INTERNAL)
        return [role_ref(name) for name in ROLES if needed != INTERNAL and STRENGTH[name] >= STRENGTH[needed]]
