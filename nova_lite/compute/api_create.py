"""Creating instances (compute specification §10.4)."""

import dataclasses
import uuid
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.compute import api_block_devices as block_devices
from nova_lite.compute import api_checks as checks
from nova_lite.compute import api_names as names
from nova_lite.compute import api_rows as rows
from nova_lite.context import RequestContext, Services
from nova_lite.image.port import is_address
from nova_lite.objects import (
    BlockDeviceMappingList,
    Flavor,
    Instance,
    KeyPair,
    NetworkRequestList,
    instance_actions,
    power_state,
)

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(repr=False)  # holds passwords and files
class BuildOrder:
    """What a user asked for, and what became of it on the way."""

    instance_type: Any
    image_href: str | None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    min_count: int | None = None
    max_count: int | None = None
    display_name: str | None = None
    display_description: str | None = None
    key_name: str | None = None
    key_data: str | None = None
    security_group: Any = None
    availability_zone: str | None = None
    user_data: str | None = None
    metadata: dict[str, str] | None = None
    injected_files: list | None = None
    admin_password: str | None = None
    block_device_mapping: Any = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    requested_networks: Any = None
    config_drive: Any = None
    auto_disk_config: bool | None = None
    scheduler_hints: dict[str, Any] | None = None
    shutdown_terminate: bool = False

    flavor: Flavor = dataclasses.field(default=None, init=False)
    image: dict[str, Any] = dataclasses.field(default_factory=dict, init=False)
    force_hosts: list[str] = dataclasses.field(default_factory=list, init=False)
    force_nodes: list[str] = dataclasses.field(default_factory=list, init=False)

    def filter_properties(self) -> dict[str, Any]:
        """Return what the choice of a host has to respect."""
        properties: dict[str, Any] = {"scheduler_hints": dict(self.scheduler_hints or {})}
        if self.force_hosts:
            properties["force_hosts"] = self.force_hosts
        if self.force_nodes:
            properties["force_nodes"] = self.force_nodes
        return properties


Send = Callable[[RequestContext, BuildOrder, list[Instance], list[str], BlockDeviceMappingList], None]


class InstanceCreation:
    """Checks a request, writes its rows and sends it to be built.

    here   whether the hosts are in this cell: then networks, security groups and block devices are checked too, which
           otherwise the cell does that is chosen
    send   passes the request on
    """

    def __init__(self, services: Services, authorize: Callable[..., None], quotas: Any, steps: Any,
                 new_rows: rows.NewRows, send: Send, here: bool) -> None:
        self._services = services
        self._authorize = authorize
        self._quotas = quotas
        self._steps = steps
        self._new_rows = new_rows
        self._send = send
        self._here = here

    def create(self, context: RequestContext, order: BuildOrder) -> tuple[list[Instance], str]:
        """Return the new instances, still to be built, and their reservation id.

        Nothing stays behind when it fails: neither rows nor quota.
        """
        self._authorize_all(context, order)
        self._complete(context, order)
        groups = self._checked_groups(context, order)
        count, reservations = self._quotas.reserve_instances(
            context, order.flavor, order.min_count or 1, max(order.max_count or 1, order.min_count or 1))
        made: list[Instance] = []
        try:
            mappings = self._wanted_devices(context, order)
            reservation_id = names.reservation_id()
            for template in self._templates(context, order, count, reservation_id):
                made.append(self._new_rows.create(context, order.flavor, order.image, template, groups,
                                                  order.block_device_mapping, count, len(made)))
                self._steps.record(context, made[-1], instance_actions.CREATE)
            self._send(context, order, made, groups, mappings)
        except Exception:  # whatever it was, the caller gets no instance and must not pay for one
            self._undo(context, made, reservations)
            raise
        self._quotas.commit(context, reservations)
        return made, reservation_id

    def _undo(self, context: RequestContext, made: list[Instance], reservations: list[str] | None) -> None:
        for instance in made:
            try:
                instance.destroy()
            except exception.NovaException:
                LOG.exception("The row of instance %s, which is not to be built, stays behind", instance.uuid)
        self._quotas.rollback(context, reservations)

    def _authorize_all(self, context: RequestContext, order: BuildOrder) -> None:
        self._authorize(context, "create")
        authorize_image(self._authorize, context, order.image_href)
        if order.requested_networks:
            self._authorize(context, "create:attach_network")
        if order.block_device_mapping:
            self._authorize(context, "create:attach_volume")
        order.availability_zone, host, node = checks.split_zone(order.availability_zone)
        if host or node:
            self._authorize(context, "create:forced_host", {})
            order.force_hosts, order.force_nodes = [host] * bool(host), [node] * bool(node)

    def _complete(self, context: RequestContext, order: BuildOrder) -> None:
        """Check what was asked for, and look up what it names."""
        order.flavor = Flavor.of(context, order.instance_type or Flavor.get_by_name(
            context, self._services.conf.default_instance_type))
        order.requested_networks = self._networks(order.requested_networks)
        checks.check_devices(order.block_device_mapping)
        self._check_count(order)
        checks.check_fields(vars(order))
        if not isinstance(order.scheduler_hints or {}, dict):
            raise exception.Invalid("scheduler_hints must be names and values")
        checks.check_flavor(order.flavor)
        checks.check_user_data(order.user_data)
        checks.check_metadata(self._quotas, context, order.metadata)
        checks.check_injected_files(self._quotas, context, order.injected_files)
        order.config_drive = checks.config_drive(order.config_drive)
        if self._here:
            self._services.network_api.validate_networks(context, order.requested_networks)
        order.image = self._services.image_api.show(context, order.image_href) if order.image_href else {}
        checks.check_image(order.image, order.flavor)
        if not order.image and not order.block_device_mapping:
            raise exception.InvalidRequest("An instance needs an image or a block device to boot from")
        self._complete_kernel(context, order)
        if order.key_name and not order.key_data:
            order.key_data = self._public_key(context, order.key_name)
        order.availability_zone = order.availability_zone or self._services.conf.default_schedule_zone

    def _networks(self, requested: Any) -> NetworkRequestList | None:
        try:
            networks = NetworkRequestList.of(requested)
        except (ValueError, TypeError):
            raise exception.Invalid("requested_networks must be networks with addresses, or ports, by their ids"
                                    ) from None
        checks.check_networks(networks)
        return networks

    def _check_count(self, order: BuildOrder) -> None:
        checks.check_count("min_count", order.min_count)
        checks.check_count("max_count", order.max_count)
        if (order.min_count is not None and order.min_count < 1) or (
                order.max_count is not None and order.max_count < (order.min_count or 1)):
            raise exception.Invalid(f"min_count {order.min_count} and max_count {order.max_count} do not fit")
        several = max(order.max_count or 1, order.min_count or 1) > 1
        if several and any(mapping.get("volume_id") for mapping in order.block_device_mapping or ()):
            raise exception.InvalidRequest("A volume cannot be attached to several instances")
        if several and any(one.get("address") or one.get("port_id") for one in order.requested_networks or ()):
            raise exception.InvalidRequest("A fixed address or a port cannot serve several instances")

    def _complete_kernel(self, context: RequestContext, order: BuildOrder) -> None:
        properties = block_devices.properties_of(order.image)
        kernel_id = order.kernel_id or properties.get("kernel_id")
        ramdisk_id = order.ramdisk_id or properties.get("ramdisk_id")
        if kernel_id == self._services.conf.null_kernel:
            kernel_id = ramdisk_id = None
        for image_id in (kernel_id, ramdisk_id):
            if image_id:
                self._services.image_api.show(context, image_id)
        order.kernel_id, order.ramdisk_id = kernel_id, ramdisk_id

    def _public_key(self, context: RequestContext, key_name: str) -> str:
        try:
            return KeyPair.get_by_name(context, context.user_id, key_name).public_key
        except exception.KeypairNotFound:
            found = self._services.cells_notifier.get_keypair(context, context.user_id, key_name)
            if found is None:
                raise
            return found["public_key"]

    def _checked_groups(self, context: RequestContext, order: BuildOrder) -> list[str]:
        given = order.security_group
        wanted = [given] if isinstance(given, str) else given or [rows.DEFAULT_GROUP]
        groups = [group if isinstance(group, str) else group["name"] for group in wanted]
        for name in groups:
            checks.check_text("security_group", name)
        if self._here:
            for name in groups:
                if name != rows.DEFAULT_GROUP:
                    self._services.db.security_group_get_by_name(context, context.project_id, name)
        return groups

    def _wanted_devices(self, context: RequestContext, order: BuildOrder) -> BlockDeviceMappingList:
        mappings = block_devices.wanted(context, self._services.conf, order.image, order.block_device_mapping,
                                        block_devices.root_device_name(order.image))
        if self._here:
            block_devices.check(context, self._services.volume_api, None, mappings)
        return mappings

    def _templates(self, context: RequestContext, order: BuildOrder, count: int,
                   reservation_id: str) -> list[Instance]:
        uuids = [str(uuid.uuid4()) for _ in range(count)]
        display_names = names.display_names(self._services.conf.multi_instance_display_name_template,
                                            order.display_name, uuids)
        for name in display_names:  # the template may have made it longer
            checks.check_text("display_name", name)
        common = self._common_fields(context, order)
        return [Instance(context, uuid=one, display_name=name, hostname=names.hostname_of(name, one),
                         launch_index=index, reservation_id=reservation_id, **common)
                for index, (one, name) in enumerate(zip(uuids, display_names, strict=True))]

    def _common_fields(self, context: RequestContext, order: BuildOrder) -> dict[str, Any]:
        fields = {
            "user_id": context.user_id, "project_id": context.project_id, "image_ref": order.image_href or "",
            "kernel_id": order.kernel_id or "", "ramdisk_id": order.ramdisk_id or "",
            "power_state": power_state.NOSTATE, "config_drive": order.config_drive,
            "display_description": order.display_description or "", "user_data": order.user_data,
            "key_name": order.key_name, "key_data": order.key_data, "locked": False,
            "metadata": dict(order.metadata or {}), "access_ip_v4": order.access_ip_v4,
            "access_ip_v6": order.access_ip_v6, "availability_zone": order.availability_zone,
            "shutdown_terminate": order.shutdown_terminate, "auto_disk_config": False,
            **rows.fields_from_image(order.image),
        }
        if order.auto_disk_config is not None:
            fields["auto_disk_config"] = order.auto_disk_config
        return fields


def authorize_image(authorize: Callable[..., None], context: RequestContext, image_href: str | None) -> None:
    """Raise PolicyNotAuthorized for an image named by an address, unless an operator lets users do that.

    The host would fetch whatever stands there, on networks that the user does not reach himself.
    """
    if image_href and is_address(image_href):
        authorize(context, "create:image_address", {})
