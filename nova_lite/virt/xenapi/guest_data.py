"""What a guest finds in its xenstore: host name, networks, metadata."""

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import instances, vif
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.xenstore import LiveXenstore, ParamXenstore

LOG = logging.getLogger(__name__)

HOSTNAME = "vm-data/hostname"
PROVIDER_DATA = "vm-data/provider_data"


def hostname_for(hostname: str, os_type: str | None) -> str:
    """Return the host name as the guest takes it; Windows takes 15 characters."""
    return hostname[:15] if os_type == "windows" else hostname


def sanitized(key: str) -> str:
    """Return the key with every character xenstore does not allow replaced."""
    return "".join(character if character.isascii() and (character.isalnum() or character in "-_@") else "_"
                   for character in key)


def metadata_location(key: str) -> str:
    """Return the key of one entry of the instance's metadata."""
    return f"vm-data/user-metadata/{sanitized(key)}"


def provider_data(entries: Iterable[str]) -> dict[str, str]:
    """Return the xenstore keys of `KEY=VALUE` texts; the values stay as they are."""
    pairs = (entry.partition("=") for entry in entries)
    return {f"{PROVIDER_DATA}/{key}": value for key, _, value in pairs}


def data_of_new(build: Any, from_provider: dict[str, str]) -> dict[str, str]:
    """Return what a new guest finds under vm-data: host name (plain), networks and metadata (JSON), provider's data."""
    data = {"vm-data/allowvssprovider": "false", **from_provider}
    if build.hostname:
        data[HOSTNAME] = hostname_for(build.hostname, build.os_type)
    for _, mapping in build.network_info:
        data[vif.xenstore_location(mapping)] = json.dumps(vif.guest_configuration(mapping))
    for key, value in instances.metadata_of(build.instance, "metadata").items():
        data[metadata_location(key)] = json.dumps(value)
    if build.auto_disk_config is not None:
        data["vm-data/auto-disk-config"] = str(build.auto_disk_config)
    return data


class GuestData:
    """Changes what a guest finds: in its record, and, while it runs and the host can, in the running domain."""

    def __init__(self, session, finder: VmFinder, param_xenstore: ParamXenstore, live_xenstore: LiveXenstore):
        self._session = session
        self._finder = finder
        self._param = param_xenstore
        self._live = live_xenstore

    def set_network(self, instance: Any, network_info: Any, vm_ref: str | None = None) -> None:
        """Write the network configuration. Raises XenAPI.Failure for a vm_ref that is none, InstanceNotFound."""
        if vm_ref is None:
            vm_ref = self._finder.require(instance)
        record = self._session.call_xenapi("VM.get_record", vm_ref)
        for _, mapping in vif.records(network_info):
            location = vif.xenstore_location(mapping)
            configuration = vif.guest_configuration(mapping)
            self._param.set_text(vm_ref, location, json.dumps(configuration))
            if int(record["domid"]) >= 0:
                self._change_live(location, self._live.write, instance, location, configuration)

    def set_hostname(self, instance: Any, vm_ref: str, hostname: str) -> None:
        """Write the host name, as plain text."""
        self._param.set_text(vm_ref, HOSTNAME, hostname_for(hostname, instances.read(instance, "os_type")))

    def forget_hostname(self, vm_ref: str) -> None:
        """Remove the host name: the guest has taken it, and may give itself another one."""
        self._param.remove(vm_ref, HOSTNAME)

    def change_metadata(self, instance: Any, diff: dict[str, list]) -> None:
        """Write changed metadata: {key: ['+', value] | ['-']}. An instance without VM gets them when it has one."""
        vm_ref = self._finder.of(instance)
        if vm_ref is None:
            LOG.warning("VM %s does not exist, its metadata are not changed", self._finder.name(instance))
            return
        running = self._finder.vm(instance).domid >= 0
        for key, change in diff.items():
            location = metadata_location(key)
            if change[0] == "-":
                self._param.remove(vm_ref, location)
                act = functools.partial(self._live.clear, instance, location)
            else:
                self._param.set_text(vm_ref, location, json.dumps(change[1]))
                act = functools.partial(self._live.write, instance, location, change[1])
            if running:
                self._change_live(location, act)

    @staticmethod
    def _change_live(location: str, change: Callable[..., Any], *args) -> None:
        try:
            change(*args)
        except (exception.PluginError, exception.InstanceNotFound) as error:
            # Without the plugin the host itself copies the record's keys when the guest starts.
            LOG.info("%s is not written to the running guest: %s", location, error)
