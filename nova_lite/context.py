"""Who asks for an operation, and the collaborators of the cell in which it is carried out.

A context belongs to one cell: the record of that cell's collaborators (``Services``) is bound to it when a message
enters a service, and never travels. What travels is in two forms: ``to_dict()`` inside messages between cells (exactly
the keys of the reference), ``to_local_dict()`` on the cell's own topics, with the deadline and the operation id.
"""

import copy
import dataclasses
import datetime
import uuid
from typing import Any

from nova_lite import exception

_PASSED_CATALOG_TYPES = ("volume", "volumev2", "key-manager")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Services:
    """What a part of a cell works with; built once per process and cell by ``nova_lite.service``."""

    conf: Any = None
    host: str | None = None
    db: Any = None
    clock: Any = None
    notifier: Any = None
    cells_notifier: Any = None
    rpc: Any = None
    compute_api: Any = None
    host_api: Any = None
    console_tokens: Any = None
    host_scheduler: Any = None
    network_api: Any = None
    volume_api: Any = None
    image_api: Any = None

    def with_(self, **changes: Any) -> "Services":
        """A copy with these collaborators instead."""
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        present = ", ".join(field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None)
        return f"<Services of {self.host}: {present}>"


class NullCellsNotifier:
    """The cells notifier of a deployment without cells: nobody has to be told."""

    def outbox_ready(self, context: "RequestContext") -> None:
        """Rows wait in the outbox; nobody drains them here."""

    def capacity_changed(self, context: "RequestContext") -> None:
        """A host can hold more or less than before; no other cell has to know."""

    def delete_console_tokens(self, context: "RequestContext", instance_uuid: str) -> None:
        """The console tokens of an instance lose their validity."""

    def get_keypair(self, context: "RequestContext", user_id: str, name: str) -> None:
        """A key pair of the top cell; there is no other cell, so None."""

    def instance_update_from_api(self, context: "RequestContext", instance: Any, expected_vm_state: Any = None,
                                 expected_task_state: Any = None, admin_state_reset: bool = False) -> None:
        """An instance was changed where the API lives; its owning cell is this one."""

    def build_failed(self, context: "RequestContext", instance_uuids: list[str], reason: str) -> None:
        """A build has failed here for good; no parent could try another cell."""


class RequestContext:
    """Identity, rights and trace of one request.

    ``deadline``: epoch seconds after which nobody waits for the outcome, or None. ``operation_id``: the same on every
    delivery of one operation. ``services``: the collaborators of the cell the context is in; raises ContextNotBound.
    """

    def __init__(self, user_id: str | None = None, project_id: str | None = None, is_admin: bool | None = None,
                 read_deleted: str = "no", roles: list[str] | None = None, remote_address: str | None = None,
                 timestamp: datetime.datetime | str | None = None, request_id: str | None = None,
                 auth_token: str | None = None, user_name: str | None = None, project_name: str | None = None,
                 quota_class: str | None = None, service_catalog: list | None = None,
                 instance_lock_checked: bool = False, deadline: float | None = None, operation_id: str | None = None,
                 domain: str | None = None, user_domain: str | None = None, project_domain: str | None = None,
                 read_only: bool = False, show_deleted: bool = False, resource_uuid: str | None = None,
                 **ignored: Any):
        self.user_id = user_id if user_id is not None else ignored.get("user")
        self.project_id = project_id if project_id is not None else ignored.get("tenant")
        self.roles = list(roles or ())
        self.is_admin = is_admin if is_admin is not None else "admin" in (role.lower() for role in self.roles)
        self.read_deleted = read_deleted
        self.remote_address = remote_address
        self.timestamp = _parse_time(timestamp)
        self.request_id = request_id or f"req-{uuid.uuid4()}"
        self.auth_token = auth_token
        self.user_name = user_name
        self.project_name = project_name
        self.quota_class = quota_class
        self.service_catalog = [entry for entry in service_catalog or ()
                                if entry.get("type") in _PASSED_CATALOG_TYPES]
        self.instance_lock_checked = instance_lock_checked
        self.deadline = deadline
        self.operation_id = operation_id
        self.domain = domain
        self.user_domain = user_domain
        self.project_domain = project_domain
        self.read_only = read_only
        self.show_deleted = show_deleted
        self.resource_uuid = resource_uuid
        self._services: Services | None = None

    @property
    def read_deleted(self) -> str:
        """Whether deleted rows are seen: 'no', 'yes' or 'only'."""
        return self._read_deleted

    @read_deleted.setter
    def read_deleted(self, value: str) -> None:
        if value not in ("no", "yes", "only"):
            raise ValueError(f"read_deleted can only be one of 'no', 'yes' or 'only', not {value!r}")
        self._read_deleted = value

    user = property(lambda self: self.user_id)
    tenant = property(lambda self: self.project_id)

    @property
    def services(self) -> Services:
        """The collaborators of the cell this context is in."""
        if self._services is None:
            raise exception.ContextNotBound(request_id=self.request_id)
        return self._services

    @property
    def is_bound(self) -> bool:
        """Whether the context belongs to a cell."""
        return self._services is not None

    def bind(self, services: Services) -> "RequestContext":
        """Make the context belong to the cell of ``services``; returns the context itself."""
        self._services = services
        return self

    def elevated(self, read_deleted: str | None = None) -> "RequestContext":
        """A copy with an administrator's rights, in the same cell (and in the transaction that is open)."""
        context = copy.copy(self)
        context.roles = list(self.roles)
        context.is_admin = True
        if "admin" not in context.roles:
            context.roles.append("admin")
        if read_deleted is not None:
            context.read_deleted = read_deleted
        return context

    def to_dict(self) -> dict[str, Any]:
        """The context inside messages between cells: the keys of the reference and nothing else."""
        return {
            "user": self.user_id,
            "tenant": self.project_id,
            "domain": self.domain,
            "user_domain": self.user_domain,
            "project_domain": self.project_domain,
            "is_admin": self.is_admin,
            "read_only": self.read_only,
            "show_deleted": self.show_deleted,
            "auth_token": self.auth_token,
            "request_id": self.request_id,
            "resource_uuid": self.resource_uuid,
            "user_identity": (f"{self.user_id or '-'} {self.project_id or '-'} {self.domain or '-'} "
                              f"{self.user_domain or '-'} {self.project_domain or '-'}"),
            "user_id": self.user_id,
            "project_id": self.project_id,
            "read_deleted": self.read_deleted,
            "roles": self.roles,
            "remote_address": self.remote_address,
            "timestamp": self.timestamp.isoformat(timespec="microseconds"),
            "quota_class": self.quota_class,
            "user_name": self.user_name,
            "service_catalog": self.service_catalog,
            "project_name": self.project_name,
            "instance_lock_checked": self.instance_lock_checked,
        }

    def to_local_dict(self) -> dict[str, Any]:
        """The context on the cell's own topics: ``to_dict()`` with deadline and operation id."""
        values = self.to_dict()
        if self.deadline is not None:
            values["deadline"] = self.deadline
        if self.operation_id is not None:
            values["operation_id"] = self.operation_id
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RequestContext":
        """Rebuild a context from either form; keys that we do not know are ignored."""
        return cls(**{str(key): value for key, value in values.items() if key != "user_identity"})

    def get_logging_values(self) -> dict[str, Any]:
        """What oslo.log prints with a line when the context is given to it."""
        return {"request_id": self.request_id, "user": self.user_id, "tenant": self.project_id,
                "user_identity": f"{self.user_id or '-'} {self.project_id or '-'} - - -"}

    def __repr__(self) -> str:
        return (f"<RequestContext {self.request_id} user={self.user_id} project={self.project_id} "
                f"admin={self.is_admin}>")


def get_admin_context(read_deleted: str = "no") -> RequestContext:
    """A context of the service itself, with all rights and no user."""
    return RequestContext(is_admin=True, read_deleted=read_deleted)


def _parse_time(value: datetime.datetime | str | None) -> datetime.datetime:
    """Naive UTC, as the reference writes it in contexts; None is now."""
    if value is None:
        return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value
