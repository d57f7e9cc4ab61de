"""From a build that was handed to this cell to a request to its scheduler (seams §2)."""

from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging
from oslo_serialization import jsonutils

from nova_lite import exception
from nova_lite.context import RequestContext, Services
from nova_lite.objects import (
    BlockDeviceMappingList,
    Flavor,
    Instance,
    InstanceAction,
    instance_actions,
)
from nova_lite.scheduler.rpcapi import SchedulerAPI, as_primitive, group_names, network_triples, request_spec

LOG = logging.getLogger(__name__)

# What belongs to the choice of a cell and must not reach the choice of a host.
_OF_THE_CELLS_LAYER = frozenset({"instance_type", "context", "scheduler", "routing_path", "host_sched_kwargs",
                                 "request_spec", "target_cell"})


class HostScheduler:
    """The port through which a build that is to happen in this cell reaches its scheduler."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._scheduler = SchedulerAPI(services)

    def build_instances(self, ctxt: RequestContext, instances: Any, image: Any = None,
                        filter_properties: dict[str, Any] | None = None, admin_password: str | None = None,
                        injected_files: Any = None, requested_networks: Any = None, security_groups: Any = None,
                        block_device_mapping: Any = None, legacy_bdm: bool | None = None, **newer: Any) -> None:
        """Make the rows that are missing, record the action, and cast one request for all instances.

        The arguments are those of the cells layer, in any of the forms of its neighbours. Raises what keeps the
        request from being sent; then this cell has failed.
        """
        given = list(instances)
        first, properties = given[0], dict(filter_properties or {})
        flavor = Flavor.of(ctxt, properties.get("instance_type") or first["flavor"])
        image = as_primitive(image) or {}
        groups = group_names(security_groups)
        # Rows of old peers (legacy_bdm) are told by their own form.
        mappings = BlockDeviceMappingList.of(ctxt, block_device_mapping, first.get("root_device_name"),
                                             self._services.conf.default_ephemeral_format)
        rows = [self._row(ctxt, flavor, image, template, groups, mappings, len(given), index)
                for index, template in enumerate(given)]
        for row in rows:
            self._record_create(ctxt, row.uuid)
        self._scheduler.run_instance(
            ctxt, request_spec(flavor, image, rows, groups, mappings), admin_password, _files(injected_files),
            network_triples(requested_networks), True, _for_hosts(properties))

    def _row(self, ctxt: RequestContext, flavor: Flavor, image: dict, template: Any, groups: list[str],
             mappings: BlockDeviceMappingList, count: int, index: int) -> Instance:
        try:
            return Instance.get_by_uuid(ctxt, template["uuid"])
        except exception.InstanceNotFound:
            return ctxt.services.compute_api.create_db_entry_for_new_instance(
                ctxt, flavor, image, template, groups, mappings, count, index)

    def _record_create(self, ctxt: RequestContext, uuid: str) -> None:
        if InstanceAction.get_by_request_id(ctxt, uuid, ctxt.request_id) is None:
            InstanceAction.action_start(ctxt, uuid, instance_actions.CREATE)


def _files(injected_files: Any) -> list[list[str]]:
    if isinstance(injected_files, str):
        injected_files = jsonutils.loads(injected_files)
    return [[path, contents] for path, contents in injected_files or ()]


def _for_hosts(filter_properties: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in filter_properties.items() if key not in _OF_THE_CELLS_LAYER}
    if kept.get("force_hosts"):
        kept["force_hosts"] = _without_path(kept["force_hosts"])
    return kept


def _without_path(hosts: Iterable[str]) -> list[str]:
    """Hosts as this cell knows them: the top calls them path@host."""
    return [host.rpartition("@")[2] for host in hosts]
