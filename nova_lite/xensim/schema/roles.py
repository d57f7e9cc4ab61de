"""The lowest role that may make each call: a rule for each class, and the calls that depart from it."""

# Weakest first. `internal` calls are for the local superuser and the hosts of the pool alone.
ROLES = {
    "read-only": "The Read-Only role has read-only access to the pool",
    "vm-operator": "The VM Operator role can use VMs and interact with VM consoles",
    "vm-admin": "The VM Administrator role can manage VMs and templates",
    "vm-power-admin": "The VM Power Administrator role can also place, move and snapshot VMs",
    "pool-operator": "The Pool Operator role can manage hosts, storage and networks",
    "pool-admin": "The Pool Administrator role has full access to the pool",
}

# Reading is read-only; every other call of a class needs this role.
DEFAULT_ROLE = "pool-operator"
CLASS_ROLES = {
    "read-only": "task event role auth",
    "vm-admin": "VM VM_metrics VM_guest_metrics VIF VIF_metrics VDI VBD VBD_metrics VTPM console",
    "pool-admin": "user subject session",
}

EXCEPTIONS = """
read-only session: login_with_password logout
read-only pool: ha_compute_hypothetical_max_host_failures_to_tolerate retrieve_wlb_configuration
    retrieve_wlb_recommendations
read-only VM: compute_memory_overhead wait_memory_target_live maximise_memory query_data_source
    assert_operation_valid assert_can_boot_here assert_agile retrieve_wlb_recommendations
    assert_can_be_recovered recover
read-only host: list_methods query_data_source is_in_emergency_mode compute_free_memory
    compute_memory_overhead retrieve_wlb_evacuate_recommendations list_timezones
read-only SR: query_data_source
read-only VDI: read_database_pool_uuid
read-only message: get
vm-operator VM: start pause unpause clean_shutdown shutdown clean_reboot hard_shutdown hard_reboot suspend
    resume call_plugin call_host_plugin
vm-operator VIF: configure_ipv4 configure_ipv6
vm-operator VDI: list_changed_blocks
vm-operator VBD: eject insert
vm-admin VDI: get_nbd_info
vm-power-admin VM: snapshot snapshot_with_quiesce revert checkpoint start_on resume_on pool_migrate
    set_memory_dynamic_max set_memory_dynamic_min set_memory_dynamic_range set_memory_static_max
    set_memory_static_min set_memory_static_range set_memory_limits set_memory set_memory_target_live
    set_HVM_shadow_multiplier set_shadow_multiplier_live migrate_send assert_can_migrate create_new_blob
    restart_device_models
vm-power-admin host: migrate_receive
vm-power-admin SR: scan
vm-power-admin VDI: pool_migrate revert
pool-operator session: logout_subject_identifier
pool-operator pool: get_guest_secureboot_readiness
pool-operator VM: power_state_reset set_ha_restart_priority set_ha_always_run set_protection_policy
    set_snapshot_schedule set_start_delay set_shutdown_delay set_order set_suspend_VDI set_appliance import
pool-operator host: get_management_interface
pool-operator VIF: set_locking_mode set_ipv4_allowed add_ipv4_allowed remove_ipv4_allowed set_ipv6_allowed
    add_ipv6_allowed remove_ipv6_allowed
pool-operator VDI: open_database
pool-operator PCI: get_dom0_access_status
pool-admin pool: is_slave enable_external_auth disable_external_auth external_auth_set_ldaps send_test_post
    enable_tls_verification has_extension add_to_guest_agent_config remove_from_guest_agent_config
    rotate_secret set_uefi_certificates set_custom_uefi_certificates set_telemetry_next_collection
    reset_telemetry_uuid enable_ssh disable_ssh set_ssh_enabled_timeout set_console_idle_timeout
    set_ssh_auto_mode
pool-admin VM: send_sysrq send_trigger update_allowed_operations query_services set_uefi_mode
    get_secureboot_readiness
pool-admin host: send_debug_keys sync_data backup_rrds call_plugin has_extension call_extension
    enable_external_auth disable_external_auth external_auth_set_ldaps refresh_server_certificate
    install_server_certificate reset_server_certificate set_numa_affinity_policy rescan_drivers enable_ssh
    disable_ssh set_ssh_enabled_timeout set_console_idle_timeout set_ssh_auto_mode
pool-admin network: add_purpose remove_purpose
internal session: change_password create_from_db_file
internal VM: atomic_set_resident_on
internal host: emergency_reset_server_certificate set_uefi_certificates set_sched_gran get_sched_gran
    emergency_disable_tls_verification emergency_reenable_tls_verification emergency_clear_mandatory_guidance
internal SR: set_virtual_allocation set_physical_utilisation
internal VDI: db_introduce db_forget set_managed set_missing set_virtual_size set_physical_utilisation
    set_is_a_snapshot set_snapshot_of set_snapshot_time
"""
