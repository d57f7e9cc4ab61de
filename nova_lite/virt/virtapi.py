"""What a hypervisor driver may ask of the compute service above it."""


class VirtAPI:
    """The compute service as a driver sees it. Every method raises NotImplementedError naming itself.

    The compute manager's subclass forwards to its database object; a driver that was built without one (a script, a
    console session against a host) gets this class and keeps everything that needs no service above it.
    """

    def _missing(self, method: str):
        raise NotImplementedError(f"this driver has no compute service above it to answer {method}")

    def admin_context(self):
        """Return a context for work no request asked for."""
        self._missing("admin_context")

    def instance_update(self, context, instance_uuid, updates):
        """Change columns of the instance and return the updated instance as a dict."""
        self._missing("instance_update")

    def instance_get(self, context, instance_id):
        """Return the instance with this local integer id as a dict."""
        self._missing("instance_get")

    def instance_get_by_uuid(self, context, instance_uuid):
        """Return the instance as a dict."""
        self._missing("instance_get_by_uuid")

    def instance_get_all_by_host(self, context, host):
        """Return the instances of a compute host as dicts."""
        self._missing("instance_get_all_by_host")

    def instance_get_all_hung_in_rebooting(self, context, timeout):
        """Return the instances whose reboot began more than `timeout` seconds ago."""
        self._missing("instance_get_all_hung_in_rebooting")

    def instance_fault_create(self, context, instance, exception, exc_info=None):
        """Record a fault on the instance without failing the operation that met it."""
        self._missing("instance_fault_create")

    def instance_type_get(self, context, instance_type_id):
        """Return the flavor with this local integer id as a dict."""
        self._missing("instance_type_get")

    def aggregate_get_by_host(self, context, host, key=None):
        """Return the aggregates that contain `host`, optionally only those with this metadata key."""
        self._missing("aggregate_get_by_host")

    def aggregate_metadata_add(self, context, aggregate, metadata, set_delete=False):
        """Add metadata to the aggregate; set_delete also removes the keys not given. Return the new metadata."""
        self._missing("aggregate_metadata_add")

    def aggregate_metadata_delete(self, context, aggregate, key):
        """Remove one metadata key from the aggregate."""
        self._missing("aggregate_metadata_delete")

    def add_aggregate_host(self, context, aggregate, host_param, host, slave_info):
        """Ask the compute service of pool master `host` to let `host_param` join its pool."""
        self._missing("add_aggregate_host")

    def remove_aggregate_host(self, context, aggregate, host_param, host, slave_info):
        """Ask the compute service of pool master `host` to eject `host_param` from its pool."""
        self._missing("remove_aggregate_host")

    def security_group_get_by_instance(self, context, instance):
        """Return the security groups of the instance."""
        self._missing("security_group_get_by_instance")

    def security_group_rule_get_by_security_group(self, context, security_group):
        """Return the rules of the group."""
        self._missing("security_group_rule_get_by_security_group")

    def provider_fw_rule_get_all(self, context):
        """Return the rules every guest of the provider is subject to."""
        self._missing("provider_fw_rule_get_all")

    def agent_build_get_by_triple(self, context, hypervisor, os, architecture):
        """Return the newest guest agent known for this platform, or None."""
        self._missing("agent_build_get_by_triple")

    def migration_get_unconfirmed_by_dest_compute(self, context, confirm_window):
        """Return finished migrations to this host that nobody confirmed for `confirm_window` seconds."""
        self._missing("migration_get_unconfirmed_by_dest_compute")

    def migration_update(self, context, migration, status):
        """Set the status of a migration."""
        self._missing("migration_update")

    def confirm_resize(self, context, instance, migration):
        """Confirm the resize of the instance."""
        self._missing("confirm_resize")

    def reboot_instance(self, context, instance, reboot_type):
        """Reboot the instance through the compute service, with its states, faults and notifications."""
        self._missing("reboot_instance")

    def wait_vifs_active(self, context, instance, vif_ids, timeout_s):
        """Wait until the network service reports these VIFs active; raise when `timeout_s` passes."""
        self._missing("wait_vifs_active")
