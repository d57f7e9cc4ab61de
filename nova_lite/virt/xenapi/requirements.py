"""What has to hold before the driver works with a host."""

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, firewall_drivers, plugins, upload_handlers, vif
from nova_lite.virt.xenapi.dom0_firewall import Dom0IptablesFirewallDriver
from nova_lite.virt.xenapi.own_vm import own_vm_uuid
from nova_lite.virt.xenapi.upload_handlers import LOCAL
from nova_lite.virt.xenapi.vif_ovs_ports import XenAPIOpenVswitchPortDriver

# The first version of the dom0 plugins that can.
CHANGES_NETWORKS = "3.2"


def unsupported(conf):
    """Yield one line for each option that does not go with another."""
    if conf.xenserver.independent_compute:
        if upload_handlers.way(conf) == LOCAL:
            yield f"[xenserver] image_handler = {LOCAL} needs independent_compute = false"
        if conf.flat_injected:
            yield "flat_injected = True needs [xenserver] independent_compute = false"


def runs_in_its_host(conf):
    """Tell whether the options want this service to run in a guest of the host it manages."""
    return conf.xenserver.check_host or upload_handlers.way(conf) == LOCAL


def check_plugins(session, conf):
    """Raise ConfigurationError for options that need dom0 plugins the host does not have."""
    for option, version in needed_plugins(conf):
        if not plugins.goes_with(session.plugin_version, version):
            raise exception.ConfigurationError(
                reason=f"{option} needs the dom0 plugins {version} or later; {session} has "
                       f"{session.plugin_version or 'none'}")


def needed_plugins(conf):
    """Yield (option as set, version of the dom0 plugins) of everything that does not work without them."""
    vif_driver = conf.xenserver.vif_driver
    if vif.DRIVERS.get(vif_driver) is XenAPIOpenVswitchPortDriver:
        yield f"[xenserver] vif_driver = {vif_driver}", CHANGES_NETWORKS
    if firewall_drivers.named(conf.firewall_driver) is Dom0IptablesFirewallDriver:
        yield f"firewall_driver = {conf.firewall_driver}", plugins.WIRES[conf.xenserver.plugin_wire].required


def check_host(session, path=None):
    """Raise ConfigurationError unless this service runs in a guest of the host it manages."""
    uuid = own_vm_uuid(path)
    if uuid is None:
        raise exception.ConfigurationError(reason="[xenserver] check_host: this machine is no guest of XenServer")
    try:
        session.call_xenapi("VM.get_by_uuid", uuid)
    except XenAPI.Failure as failure:
        if not errors.is_gone(failure):
            raise
        raise exception.ConfigurationError(
            reason=f"[xenserver] check_host: this machine is guest {uuid}, which {session} does not know") from None
