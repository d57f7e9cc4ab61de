"""Packet filters of guests. The compute service is not in their data path: the default does nothing."""

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class FirewallDriver:
    """What a driver calls around the life of a guest. Every method does nothing unless a subclass says otherwise."""

    # Whether interfaces are kept to their own addresses by VIF locking mode.
    locks_vifs = False

    def __init__(self, virtapi=None, xenapi_session=None, host=None):
        self.virtapi = virtapi
        self.session = xenapi_session

    def setup_basic_filtering(self, instance, network_info):
        """Keep the guest to its own addresses; called before it has filters of its own."""

    def prepare_instance_filter(self, instance, network_info):
        """Make the guest's filters; called before it boots."""

    def apply_instance_filter(self, instance, network_info):
        """Put the guest's filters in force."""

    def ensure_instance_filter(self, instance, network_info):
        """See that the filters of a guest that runs, or is about to arrive from another host, are in force here."""

    def unfilter_instance(self, instance, network_info=None):
        """Remove the guest's filters."""

    def refresh_security_group_rules(self, security_group_id):
        """The rules of the group changed."""

    def refresh_security_group_members(self, security_group_id):
        """The members of the group changed."""

    def refresh_instance_security_rules(self, instance):
        """The rules that apply to the instance changed."""

    def refresh_provider_fw_rules(self):
        """The provider's rules changed."""

    def filter_defer_apply_on(self):
        """Collect changes from now on."""

    def filter_defer_apply_off(self):
        """Apply what was collected."""


class NoopFirewallDriver(FirewallDriver):
    """Filtering is somebody else's work: the network service's, or nobody's."""


class LockedVifFirewallDriver(FirewallDriver):
    """Keeps each interface to its own MAC and addresses, by the host's VIF locking mode (Open vSwitch backend).

    Rules of security groups are not applied by it.
    """

    locks_vifs = True
