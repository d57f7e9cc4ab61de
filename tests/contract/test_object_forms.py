"""Objects on the wire: names, versions and fields every neighbour understands."""

import pytest

from nova_lite import objects

AUDIT = {"created_at", "updated_at", "deleted_at", "deleted"}

FLOOR = {
    "Instance": ("2.0", AUDIT | set("""
        id user_id project_id image_ref kernel_id ramdisk_id hostname launch_index key_name key_data power_state
        vm_state task_state memory_mb vcpus root_gb ephemeral_gb ephemeral_key_uuid host node instance_type_id
        user_data reservation_id launched_at terminated_at availability_zone display_name display_description
        launched_on locked locked_by os_type architecture vm_mode uuid root_device_name default_ephemeral_device
        default_swap_device config_drive access_ip_v4 access_ip_v6 auto_disk_config progress shutdown_terminate
        disable_terminate cell_name cleaned metadata system_metadata info_cache fault flavor old_flavor new_flavor
        pci_requests numa_topology vcpu_model migration_context""".split())),
    "InstanceInfoCache": ("1.5", AUDIT | {"instance_uuid", "network_info"}),
    "InstanceFault": ("1.2", AUDIT | set("id instance_uuid code message details host".split())),
    "Flavor": ("1.1", AUDIT | set("""
        id name memory_mb vcpus root_gb ephemeral_gb flavorid swap rxtx_factor vcpu_weight disabled is_public
        extra_specs projects""".split())),
    "BlockDeviceMapping": ("1.15", AUDIT | set("""
        id instance_uuid instance source_type destination_type guest_format device_type disk_bus boot_index
        device_name delete_on_termination snapshot_id volume_id volume_size image_id no_device
        connection_info""".split())),
    "BlockDeviceMappingList": ("1.16", {"objects"}),
    "Service": ("1.18", AUDIT | set("""
        id host binary topic report_count disabled disabled_reason availability_zone last_seen_up forced_down
        version""".split())),
    "ServiceList": ("1.16", {"objects"}),
    "ComputeNode": ("1.14", AUDIT | set("""
        id service_id host vcpus memory_mb local_gb vcpus_used memory_mb_used local_gb_used hypervisor_type
        hypervisor_version hypervisor_hostname free_ram_mb free_disk_gb current_workload running_vms cpu_info
        disk_available_least metrics stats host_ip numa_topology supported_hv_specs pci_device_pools
        cpu_allocation_ratio ram_allocation_ratio""".split())),
    "ComputeNodeList": ("1.14", {"objects"}),
    "KeyPair": ("1.3", AUDIT | set("id name user_id fingerprint public_key type".split())),
    "Migration": ("1.2", AUDIT | set("""
        id source_compute dest_compute source_node dest_node dest_host old_instance_type_id new_instance_type_id
        instance_uuid status migration_type hidden""".split())),
    "MigrationList": ("1.2", {"objects"}),
    "NetworkRequest": ("1.1", {"network_id", "address", "port_id", "pci_request_id"}),
    "NetworkRequestList": ("1.1", {"objects"}),
}


@pytest.mark.parametrize("name", FLOOR)
def test_an_object_is_sent_at_its_floor(name):
    cls = getattr(objects, name)
    version, fields = FLOOR[name]

    sent = set(cls.fields) - getattr(cls, "beyond_floor", set())

    assert (cls.obj_name(), cls.VERSION, sent) == (name, version, fields)


def test_an_instance_as_a_later_release_sends_it_is_understood():
    nested = {"nova_object.name": "InstancePCIRequests", "nova_object.namespace": "nova",
              "nova_object.version": "1.1", "nova_object.data": {"instance_uuid": "u1", "requests": []}}
    flavor = {"nova_object.name": "Flavor", "nova_object.namespace": "nova", "nova_object.version": "1.2",
              "nova_object.data": {"id": 1, "name": "m1.tiny", "memory_mb": 512, "flavorid": "1", "extra_specs": {},
                                   "description": None}, "nova_object.changes": ["name"]}
    sent = {"nova_object.name": "Instance", "nova_object.namespace": "nova", "nova_object.version": "2.4",
            "nova_object.data": {"id": 2, "uuid": "u1", "vm_state": "active", "locked": False, "metadata": {},
                                 "system_metadata": {"image_x": "y"}, "pci_requests": nested, "flavor": flavor,
                                 "device_metadata": None, "trusted_certs": None, "deleted": False,
                                 "created_at": "2026-11-21T08:14:46Z", "updated_at": None},
            "nova_object.changes": ["flavor", "trusted_certs"]}

    instance = objects.from_wire(None, sent)
    passed_on = objects.to_wire(instance)

    assert (instance.flavor.flavorid, instance.obj_what_changed()) == ("1", {"flavor"})
    assert passed_on["nova_object.version"] == "2.0"
    assert passed_on["nova_object.data"] == {
        **{key: value for key, value in sent["nova_object.data"].items()
           if key not in ("device_metadata", "trusted_certs")},
        "flavor": {**flavor, "nova_object.version": "1.1", "nova_object.data": {
            key: value for key, value in flavor["nova_object.data"].items() if key != "description"}}}
