"""The driver for XenServer and XCP-ng hosts."""

from nova_lite.virt.xenapi.driver import XenAPIDriver

__all__ = ["XenAPIDriver"]
