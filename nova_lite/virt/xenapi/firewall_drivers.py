"""The packet filter that `firewall_driver` names."""

from oslo_log import log as logging

from nova_lite.virt.xenapi.dom0_firewall import Dom0IptablesFirewallDriver
from nova_lite.virt.xenapi.firewall import FirewallDriver, LockedVifFirewallDriver, NoopFirewallDriver

LOG = logging.getLogger(__name__)

DRIVERS: dict[str, type[FirewallDriver]] = {
    "NoopFirewallDriver": NoopFirewallDriver,
    "IptablesFirewallDriver": LockedVifFirewallDriver,
    "Dom0IptablesFirewallDriver": Dom0IptablesFirewallDriver,
}


def named(name: str | None) -> type[FirewallDriver]:
    """Return the class for an accepted name, with any module path before it; for another one the second."""
    return DRIVERS.get((name or "NoopFirewallDriver").rpartition(".")[2], LockedVifFirewallDriver)


def load(name: str | None, **collaborators) -> FirewallDriver:
    """Return the firewall driver of this name."""
    chosen = named(name)
    if chosen is LockedVifFirewallDriver:
        LOG.warning("firewall_driver %s: interfaces are kept to their own addresses by VIF locking mode; rules of "
                    "security groups are not applied", name)
    return chosen(**collaborators)
