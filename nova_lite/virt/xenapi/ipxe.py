"""Guests that boot from an iPXE CD with their network settings on it, into the provider's boot menu."""


import XenAPI
from oslo_log import log as logging
from oslo_utils import strutils

from nova_lite import exception
from nova_lite.virt.xenapi import errors, plugins
from nova_lite.virt.xenapi.storage import Storage

LOG = logging.getLogger(__name__)


class Ipxe:
    """Prepares such CDs, by the dom0 plugin `ipxe`. Where that cannot be done the user enters the settings."""

    def __init__(self, session, storage: Storage, conf):
        self._session = session
        self._storage = storage
        self._conf = conf

    @staticmethod
    def is_wanted(image_meta: dict) -> bool:
        """Tell whether the image is such a CD: its property `ipxe_boot` says so."""
        return strutils.bool_from_string((image_meta.get("properties") or {}).get("ipxe_boot", ""))

    def prepare(self, vdi_ref: str, network_info: list[tuple[dict, dict]]) -> None:
        """Put the settings of the network `ipxe_network_name` on the CD. Raises PluginError for a CD that is none."""
        mapping = self._network(network_info)
        if mapping is None:
            return
        options = self._conf.xenserver
        address = mapping["ips"][0]
        try:
            self._session.call_plugin_serialized(
                "ipxe", "inject", f"{options.sr_base_path}/{self._storage.for_guests().uuid}",
                self._session.call_xenapi("VDI.get_uuid", vdi_ref), options.ipxe_boot_menu_url, address["ip"],
                address["netmask"], mapping.get("gateway", ""), mapping["dns"][0], options.ipxe_mkisofs_cmd)
        except XenAPI.Failure as failure:
            if plugins.is_missing(failure):
                LOG.warning("The host has no ipxe plugin, the iPXE CD stays as it is")
            elif len(failure.details) > 2 and failure.details[2] == "CommandNotFound":
                LOG.warning("The host has no program %s, the iPXE CD stays as it is", options.ipxe_mkisofs_cmd)
            else:
                raise exception.PluginError(reason=f"ipxe.inject: {errors.last_line(failure)}") from failure

    def _network(self, network_info: list[tuple[dict, dict]]) -> dict | None:
        options = self._conf.xenserver
        for name in ("ipxe_boot_menu_url", "ipxe_network_name"):
            if not options[name]:
                LOG.warning("[xenserver] %s is not set, the iPXE CD stays as it is", name)
                return None
        for _, mapping in network_info:
            if mapping.get("label") == options.ipxe_network_name and mapping["ips"] and mapping["dns"]:
                return mapping
        LOG.warning("The guest has no address and name server in network %s, the iPXE CD stays as it is",
                    options.ipxe_network_name)
        return None
