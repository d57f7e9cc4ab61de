"""What has to hold before the driver works with a host."""

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, plugins, vif
from nova_lite.virt.xenapi.own_vm import HYPERVISOR_UUID, own_vm_uuid
from nova_lite.virt.xenapi.vif_ovs_ports import XenAPIOpenVswitchPortDriver

# The first version of the dom0 plugins that can.
CHANGES_NETWORKS = "3.2"
# What this driver does in one way only: an option that asks for another is refused rather than overlooked.
SERVED = {
    "remap_vbd_dev": False,
    "block_device_creation_timeout": 10,
}


def unsupported(conf):
    """Yield one line for each option whose value this driver does not serve."""
    for name, value in SERVED.items():
        found = conf.xenserver[name]
        if found != value and (found or value):
            yield f"[xenserver] {name} = {found} is not supported, only {value or 'leaving it out'}"
    if conf.xenserver.image_handler == "vdi_local_dev":
        yield "[xenserver] image_handler = vdi_local_dev is not supported, only vdi_remote_stream and direct_vhd"
    if conf.flat_injected and conf.xenserver.independent_compute:
        yield "flat_injected = True needs [xenserver] independent_compute = false"


def check_plugins(session, conf):
    """Raise ConfigurationError for options that need the dom0 plugins of a host that has none."""
    vif_driver = conf.xenserver.vif_driver
    wires = vif.DRIVERS.get(vif_driver) is XenAPIOpenVswitchPortDriver
    if wires and not plugins.goes_with(session.plugin_version, CHANGES_NETWORKS):
        raise exception.ConfigurationError(
            reason=f"[xenserver] vif_driver = {vif_driver} needs the dom0 plugins {CHANGES_NETWORKS} or later; "
                   f"{session} has {session.plugin_version or 'none'}")


def check_host(session, path=HYPERVISOR_UUID):
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
