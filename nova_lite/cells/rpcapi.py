"""CellsAPI: the client of this cell's `nova-cells`.

Signatures match the compute RPC client and the conductor client, so that a CellsAPI can stand in for them. What
a method does is told where the operation is declared (nova_lite.cells.work).
"""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects, rpc
from nova_lite.cells import operations, utils, work  # noqa: F401  (work fills the table)
from nova_lite.objects import base

LOG = logging.getLogger(__name__)

_PROXY_MARGIN_S = 1.0


@operations.client_methods
class CellsAPI:
    """Calls and casts on topic cells, not above the version cap `[upgrade_levels] cells`."""

    def __init__(self, services):
        conf = services.conf
        self._is_enabled = conf.cells.enable
        self.client = services.rpc.client(
            conf.cells.topic, version="1.0", version_cap=rpc.resolve_cap("cells", conf.upgrade_levels.cells),
            serializer=utils.ProxyObjectSerializer())

    def cast(self, ctxt, method: str, version: str, **kwargs: Any) -> None:
        """Cast a method of the manager. Raises RpcError."""
        self.client.cast(ctxt, method, version=version, arguments=kwargs)

    def call(self, ctxt, method: str, version: str, **kwargs: Any) -> Any:
        """Call a method of the manager and return its result. Raises RpcError and what the method raises."""
        return self.client.call(ctxt, method, version=version, arguments=kwargs)

    def _speaks(self, version: str) -> bool:
        return self.client.can_send_version(version)

    # -- the compute API of another cell

    def cast_compute_api_method(self, ctxt, cell_name, method, *args, **kwargs):
        """Have a method of the compute API run in a cell."""
        self._run(self.cast, ctxt, cell_name, method, args, kwargs, call=False)

    def call_compute_api_method(self, ctxt, cell_name, method, *args, **kwargs):
        """Run a method of the compute API in a cell and return its result."""
        return self._run(self.call, ctxt, cell_name, method, args, kwargs, call=True)

    def _run(self, send, ctxt, cell_name, method, args, kwargs, call):
        method_info = {"method": method, "method_args": args, "method_kwargs": kwargs}
        return send(ctxt, "run_compute_api_method", "1.0", cell_name=cell_name, method_info=method_info, call=call)

    def build_instances(self, ctxt, **kwargs):
        """Have instances built in whichever cell is best (kwargs of cells specification §7.1)."""
        kwargs = {**kwargs, "image": base.to_wire(kwargs.get("image"))}
        version = "1.34"
        if not self._speaks(version):
            version = "1.32"
            mappings = kwargs.get("block_device_mapping") or []
            kwargs["block_device_mapping"] = [dict(bdm.items()) for bdm in mappings]
        if not self._speaks(version):
            version = "1.30"
            kwargs["instances"] = [_as_dict(instance) for instance in kwargs["instances"]]
        if not self._speaks(version):
            version = "1.8"
            properties = dict(kwargs.get("filter_properties") or {})
            if "instance_type" in properties:
                properties["instance_type"] = dict(properties["instance_type"].items())
            kwargs["filter_properties"] = properties
        self.cast(ctxt, "build_instances", version, build_inst_kwargs=kwargs)

    def proxy_rpc_to_manager(self, ctxt, rpc_message, topic, call=False, timeout=None):
        """Pass an RPC message to a host of another cell; returns the result if `call`."""
        # The answer has to come back, too, within a moment of what the host is given.
        wait_s = None if timeout is None else timeout + _PROXY_MARGIN_S
        arguments = {"topic": topic, "rpc_message": rpc_message, "call": call, "timeout": timeout}
        return self.client.call(ctxt, "proxy_rpc_to_manager", version="1.2", timeout=wait_s, arguments=arguments)

    # -- upwards

    def instance_update_at_top(self, ctxt, instance):
        self._object_or_dict(ctxt, "instance_update_at_top", instance)

    def instance_destroy_at_top(self, ctxt, instance):
        self._object_or_dict(ctxt, "instance_destroy_at_top", instance)

    def _object_or_dict(self, ctxt, method: str, instance) -> None:
        if self._speaks("1.35"):
            self.cast(ctxt, method, "1.35", instance=instance)
        else:
            self.cast(ctxt, method, "1.34", instance=_as_dict(instance))

    def instance_info_cache_update_at_top(self, ctxt, instance_info_cache):
        """Tell the top an instance's network information."""
        instance = objects.Instance(ctxt, uuid=instance_info_cache["instance_uuid"], info_cache=instance_info_cache)
        self.instance_update_at_top(ctxt, instance)

    def instance_delete_everywhere(self, ctxt, instance, delete_type):
        if self._speaks("1.27"):
            self.cast(ctxt, "instance_delete_everywhere", "1.27", instance=instance, delete_type=delete_type)
        else:
            self.cast(ctxt, "instance_delete_everywhere", "1.0", instance=_as_dict(instance), delete_type=delete_type)

    def instance_fault_create_at_top(self, ctxt, instance_fault):
        self.cast(ctxt, "instance_fault_create_at_top", "1.0", instance_fault=_as_dict(instance_fault))

    def bw_usage_update_at_top(self, ctxt, uuid, mac, start_period, bw_in, bw_out, last_ctr_in, last_ctr_out,
                               last_refreshed=None):
        usage = {"uuid": uuid, "mac": mac, "start_period": start_period, "bw_in": bw_in, "bw_out": bw_out,
                 "last_ctr_in": last_ctr_in, "last_ctr_out": last_ctr_out, "last_refreshed": last_refreshed}
        self.cast(ctxt, "bw_usage_update_at_top", "1.0", bw_update_info=base.to_wire(usage))

    def bdm_update_or_create_at_top(self, ctxt, bdm, create=None):
        """Tell the top of a block device mapping; a failure to send is only logged."""
        version = "1.28"
        if not self._speaks(version):
            version, bdm = "1.10", _as_dict(bdm)
        self._cast_quietly(ctxt, "bdm_update_or_create_at_top", version, bdm=bdm, create=create)

    def bdm_destroy_at_top(self, ctxt, instance_uuid, device_name=None, volume_id=None):
        """Tell the top that a block device mapping is gone; a failure to send is only logged."""
        self._cast_quietly(ctxt, "bdm_destroy_at_top", "1.10", instance_uuid=instance_uuid, device_name=device_name,
                           volume_id=volume_id)

    def _cast_quietly(self, ctxt, method: str, version: str, **kwargs: Any) -> None:
        try:
            self.cast(ctxt, method, version, **kwargs)
        except exception.RpcError as error:
            LOG.error("%s was not sent to nova-cells: %s", method, error)

    def get_keypair_at_top(self, ctxt, user_id, name):
        """Return a key pair of the top; None without cells. Raises KeypairNotFound."""
        if not self._is_enabled:
            return None
        key_pair = self.call(ctxt, "get_keypair_at_top", "1.37", user_id=user_id, name=name)
        if key_pair is None:
            raise exception.KeypairNotFound(user_id=user_id, name=name)
        return key_pair

    # -- cells

    def get_cell_info_for_neighbors(self, ctxt):
        """Return what may be shown of the neighbours; [] without cells."""
        return self.call(ctxt, "get_cell_info_for_neighbors", "1.1") if self._is_enabled else []

    def get_capacities(self, ctxt, cell_name=None):
        """Return capacities of this cell with its children, or of one child. Raises CellNotFound."""
        return self.call(ctxt, "get_capacities", "1.9", cell_name=cell_name)

    def cell_create(self, ctxt, values):
        """Insert a neighbour; returns its row."""
        return self.call(ctxt, "cell_create", "1.13", values=values)

    def cell_update(self, ctxt, cell_name, values):
        """Change a neighbour; returns its row."""
        return self.call(ctxt, "cell_update", "1.13", cell_name=cell_name, values=values)

    def cell_delete(self, ctxt, cell_name):
        """Delete a neighbour; returns the number of rows deleted."""
        return self.call(ctxt, "cell_delete", "1.13", cell_name=cell_name)

    def cell_get(self, ctxt, cell_name):
        """Return a neighbour as a dict, passwords masked."""
        return self.call(ctxt, "cell_get", "1.13", cell_name=cell_name)

    # -- one instance

    def actions_get(self, ctxt, instance):
        """Return the actions on an instance, from its cell. Raises InstanceUnknownCell."""
        return self.call(ctxt, "actions_get", "1.5", cell_name=_cell_of(instance), instance_uuid=instance["uuid"])

    def action_get_by_request_id(self, ctxt, instance, request_id):
        """Return one action on an instance, from its cell. Raises InstanceUnknownCell."""
        return self.call(ctxt, "action_get_by_request_id", "1.5", cell_name=_cell_of(instance),
                         instance_uuid=instance["uuid"], request_id=request_id)

    def action_events_get(self, ctxt, instance, action_id):
        """Return the events of an action, from the instance's cell. Raises InstanceUnknownCell."""
        return self.call(ctxt, "action_events_get", "1.5", cell_name=_cell_of(instance), action_id=action_id)

    def validate_console_port(self, ctxt, instance_uuid, console_port, console_type):
        return self.call(ctxt, "validate_console_port", "1.6", instance_uuid=instance_uuid,
                         console_port=console_port, console_type=console_type)

    def stop_instance(self, ctxt, instance, do_cast=True, clean_shutdown=True):
        """Stop an instance; unless `do_cast`, wait and return the result."""
        version, kwargs = "1.31", {"clean_shutdown": clean_shutdown}
        if not self._speaks(version):
            version, kwargs = "1.12", {}
        send = self.cast if do_cast else self.call
        return send(ctxt, "stop_instance", version, instance=instance, do_cast=do_cast, **kwargs)

    def terminate_instance(self, ctxt, instance, bdms, reservations=None, delete_type="delete"):
        """Delete an instance; `delete_type` is delete or force_delete."""
        if self._speaks("1.36"):
            self.cast(ctxt, "terminate_instance", "1.36", instance=instance, delete_type=delete_type)
        else:
            self.cast(ctxt, "terminate_instance", "1.18", instance=instance)

    def resize_instance(self, ctxt, instance, extra_instance_updates, scheduler_hint, flavor, reservations,
                        clean_shutdown=True):
        """Resize an instance to another flavor, or migrate it with its own."""
        kwargs = {"instance": instance, "flavor": _as_dict(flavor), "extra_instance_updates": extra_instance_updates}
        if self._speaks("1.33"):
            self.cast(ctxt, "resize_instance", "1.33", clean_shutdown=clean_shutdown, **kwargs)
        else:
            self.cast(ctxt, "resize_instance", "1.20", **kwargs)


def _as_dict(thing: Any) -> dict[str, Any]:
    if isinstance(thing, dict):
        return thing
    if isinstance(thing, objects.Instance):
        return thing.to_legacy_dict()
    return base.to_wire(dict(thing.items()))


def _cell_of(instance) -> str:
    if not instance["cell_name"]:
        raise exception.InstanceUnknownCell(instance_uuid=instance["uuid"])
    return instance["cell_name"]
