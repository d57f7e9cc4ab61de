"""Names of things in other cells, proxies that show them, and what is to be synchronised."""

import random
from collections.abc import Iterator
from typing import Any

from oslo_utils import importutils

from nova_lite import objects
from nova_lite.objects import base

CELL_ITEM_SEP = "@"


def cell_with_item(cell_name: str | None, item: Any) -> Any:
    """Return 'path@item'; the item unchanged when no cell is named."""
    return item if cell_name is None else f"{cell_name}{CELL_ITEM_SEP}{item}"


def split_cell_and_item(cell_and_item: str) -> tuple[str | None, str]:
    """Return (path, item) of 'path@item', split at the last '@'; (None, text) without one."""
    path, mark, item = str(cell_and_item).rpartition(CELL_ITEM_SEP)
    return (path, item) if mark else (None, item)


def load_class(path: str) -> Any:
    """Return the class or function `path` names; paths of the reference mean ours."""
    if path.startswith("nova."):
        path = "nova_lite." + path.removeprefix("nova.")
    return importutils.import_class(path)


class _CellProxy:
    """An object of another cell: `id` and `host` name the cell as well, all else is the object's."""

    _PREFIXED = ("id", "host")

    def __init__(self, obj, cell_path):
        self._obj = obj
        self._cell_path = cell_path

    @property
    def id(self) -> str:
        return cell_with_item(self._cell_path, self._obj.id)

    @property
    def host(self) -> str:
        return cell_with_item(self._cell_path, self._obj.host)

    def __getitem__(self, key):
        value = self._obj[key]
        return cell_with_item(self._cell_path, value) if key in self._PREFIXED else value

    def __contains__(self, key):
        return key in self._obj

    def __getattr__(self, key):
        if key.startswith("__") or key in ("_obj", "_cell_path"):
            raise AttributeError(key)
        return getattr(self._obj, key)

    def get(self, key, default=None):
        value = self._obj.get(key, default)
        return cell_with_item(self._cell_path, value) if key in self._PREFIXED and key in self._obj else value

    def items(self) -> Iterator[tuple[str, Any]]:
        for key, value in self._obj.items():
            yield key, cell_with_item(self._cell_path, value) if key in self._PREFIXED else value

    def obj_to_primitive(self, **kwargs) -> dict[str, Any]:
        """Return the object's primitive with the cell beside it."""
        primitive = base.to_wire(self._obj)
        primitive["cell_proxy.class_name"] = type(self).__name__
        primitive["cell_proxy.cell_path"] = self._cell_path
        return primitive

    def __repr__(self):
        return f"<{type(self).__name__} of {self._cell_path}: {self._obj!r}>"


class ComputeNodeProxy(_CellProxy):
    """A compute node of another cell."""


class ServiceProxy(_CellProxy):
    """A service of another cell. Its compute node does not travel with it."""

    def __getattr__(self, key):
        if key == "compute_node":
            raise AttributeError("A service of another cell has no compute_node")
        return super().__getattr__(key)


_PROXIES = {cls.__name__: cls for cls in (ComputeNodeProxy, ServiceProxy)}


class ProxyObjectSerializer(base.NovaObjectSerializer):
    """Serializes objects, and restores the proxies among them; serves oslo.messaging and nova_lite.rpc alike."""

    def outgoing(self, context: Any, value: Any) -> Any:
        """Return an argument or result as it travels."""
        return self.serialize_entity(context, value)

    def incoming(self, context: Any, value: Any) -> Any:
        """Return an argument or result that has travelled."""
        return self.deserialize_entity(context, value)

    def serialize_entity(self, ctxt, entity):
        if isinstance(entity, _CellProxy):
            return entity.obj_to_primitive()
        if isinstance(entity, (list, tuple)):
            return [self.serialize_entity(ctxt, item) for item in entity]
        return super().serialize_entity(ctxt, entity)

    def deserialize_entity(self, ctxt, entity):
        if isinstance(entity, list):
            return [self.deserialize_entity(ctxt, item) for item in entity]
        if isinstance(entity, dict) and "cell_proxy.class_name" in entity:
            plain = {key: value for key, value in entity.items() if not key.startswith("cell_proxy.")}
            proxy = _PROXIES[entity["cell_proxy.class_name"]]
            return proxy(super().deserialize_entity(ctxt, plain), entity["cell_proxy.cell_path"])
        return super().deserialize_entity(ctxt, entity)


def add_cell_to_compute_node(compute_node, cell_name) -> ComputeNodeProxy:
    return ComputeNodeProxy(compute_node, cell_name)


def add_cell_to_service(service, cell_name) -> ServiceProxy:
    return ServiceProxy(service, cell_name)


def add_cell_to_task_log(task_log: dict[str, Any], cell_name: str) -> None:
    """Name the cell in a task log row's id and host, in place."""
    task_log["id"] = cell_with_item(cell_name, task_log["id"])
    task_log["host"] = cell_with_item(cell_name, task_log["host"])


def get_instances_to_sync(context, updated_since=None, project_id=None, deleted=True, shuffle=False,
                          uuids_only=False) -> Iterator[Any]:
    """Yield instances (or uuids) that the top should hear of: live ones first, page by page.

    `updated_since` is an aware time or None for all; `shuffle` mixes each page, so that several services do
    not work through the same instances in step.
    """
    page_size = context.services.conf.cells.instance_update_sync_database_limit
    filters: dict[str, Any] = {}
    if updated_since is not None:
        filters["changes-since"] = updated_since
    if project_id is not None:
        filters["project_id"] = project_id
    if not deleted:
        filters["deleted"] = False
        filters["soft_deleted"] = True  # they live on until they are reclaimed
    marker = None
    while True:
        page = list(objects.InstanceList.get_by_filters(
            context, filters, sort_key="deleted", sort_dir="asc", limit=page_size, marker=marker,
            expected_attrs=[] if uuids_only else None))
        if not page:
            return
        marker = page[-1].uuid
        if shuffle:
            random.shuffle(page)
        yield from (instance.uuid if uuids_only else instance for instance in page)
        if len(page) < page_size:
            return
