import pytest
import XenAPI

NULL = "OpaqueRef:NULL"


def details(error):
    return error.value.details


def test_a_vm_goes_through_its_states_and_back(client):
    vm, seen = client.vm(), []
    for step in ("start", "pause", "unpause", "suspend", "resume", "clean_reboot", "hard_reboot", "clean_shutdown"):
        flags = (False, False) if step in ("start", "resume") else ()
        getattr(client.api.VM, step)(vm, *flags)
        seen.append(client.api.VM.get_power_state(vm))

    assert seen == ["Running", "Paused", "Running", "Suspended", "Running", "Running", "Running", "Halted"]


def test_a_running_vm_has_a_domain_host_consoles_and_metrics(client):
    vm = client.started(memory_mib=512)

    record = client.api.VM.get_record(vm)
    metrics = client.api.VM_metrics.get_record(record["metrics"])
    assert int(record["domid"]) > 0
    assert record["resident_on"] == client.host()
    assert len(record["consoles"]) == 1
    assert metrics["memory_actual"] == str(512 * 1024 * 1024)
    assert metrics["VCPUs_number"] == "1"


def test_each_boot_is_a_new_domain_and_a_halted_vm_has_none(client):
    vm = client.started()
    first = client.api.VM.get_domid(vm)
    client.api.VM.hard_reboot(vm)
    second = client.api.VM.get_domid(vm)
    client.api.VM.hard_shutdown(vm)

    assert int(second) > int(first)
    assert client.api.VM.get_domid(vm) == "-1"
    assert client.api.VM.get_resident_on(vm) == NULL


def test_an_operation_in_the_wrong_state_names_vm_expected_and_actual_state(client):
    vm = client.started()

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.start(vm, False, False)

    assert details(error) == ["VM_BAD_POWER_STATE", vm, "halted", "running"]


def test_several_expected_states_are_joined(client):
    vm = client.vm()

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.hard_shutdown(vm)

    assert details(error) == ["VM_BAD_POWER_STATE", vm, "running, paused, suspended", "halted"]


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        ([], "start start_on clone copy snapshot destroy export metadata_export migrate_send make_into_template "
             "changing_dynamic_range changing_static_range changing_shadow_memory changing_NVRAM create_vtpm"),
        (["start"], "pause suspend checkpoint snapshot clean_shutdown hard_shutdown clean_reboot hard_reboot "
                    "pool_migrate migrate_send changing_dynamic_range changing_VCPUs_live metadata_export sysprep"),
        (["start", "pause"], "unpause hard_shutdown hard_reboot checkpoint snapshot metadata_export"),
        (["start", "suspend"], "resume resume_on hard_shutdown destroy export checkpoint snapshot migrate_send "
                               "metadata_export"),
    ],
)  # fmt: skip
def test_allowed_operations_follow_the_power_state(client, prepare, expected):
    vm = client.vm()
    for step in prepare:
        getattr(client.api.VM, step)(vm, *((False, False) if step == "start" else ()))

    assert set(client.api.VM.get_allowed_operations(vm)) == set(expected.split())


def test_a_start_that_needs_more_memory_than_is_free_says_both_figures(client):
    vm = client.vm(memory_mib=1024 * 1024)

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.start(vm, False, False)

    code, needed, available = details(error)
    assert code == "HOST_NOT_ENOUGH_FREE_MEMORY"
    assert int(needed) == 1024**4 + int(client.api.VM.get_memory_overhead(vm))
    assert available == client.api.host.compute_free_memory(client.host())


def test_running_vms_take_memory_and_stopped_ones_give_it_back(client):
    before = int(client.api.host.compute_free_memory(client.host()))
    vm = client.started(memory_mib=1024)
    during = int(client.api.host.compute_free_memory(client.host()))
    client.api.VM.hard_shutdown(vm)

    assert before - during == 1024**3 + int(client.api.VM.get_memory_overhead(vm))
    assert int(client.api.host.compute_free_memory(client.host())) == before


def test_a_disabled_host_starts_nothing(client):
    client.api.host.disable(client.host())

    with pytest.raises(XenAPI.Failure) as error:
        client.started()

    assert details(error) == ["HOST_DISABLED", client.host()]


def test_a_template_cannot_start_and_its_clone_can_once_provisioned(client):
    template = client.api.VM.get_by_name_label("Other install media")[0]
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.start(template, False, False)

    vm = client.api.VM.clone(template, "made")
    client.api.VM.provision(vm)
    client.api.VM.start(vm, False, False)

    assert details(error) == ["VM_IS_TEMPLATE", template, "start"]
    assert client.api.VM.get_other_config(vm)["base_template_name"] == "Other install media"
    assert "default_template" not in client.api.VM.get_other_config(vm)


def test_provision_makes_the_disks_the_template_asks_for(client):
    vm = client.api.VM.clone(client.api.VM.get_by_name_label("Debian Bookworm 12")[0], "debian")
    config = client.api.VM.get_other_config(vm)
    sr_uuid = client.api.SR.get_uuid(client.default_sr())
    client.api.VM.remove_from_other_config(vm, "disks")
    client.api.VM.add_to_other_config(vm, "disks", config["disks"].replace('sr=""', f'sr="{sr_uuid}"'))

    client.api.VM.provision(vm)

    (vbd,) = client.api.VM.get_VBDs(vm)
    vdi = client.api.VDI.get_record(client.api.VBD.get_VDI(vbd))
    assert (vdi["virtual_size"], vdi["type"]) == (str(10 * 1024**3), "system")
    assert "disks" not in client.api.VM.get_other_config(vm)


def test_provision_with_an_unknown_repository_leaves_nothing_behind(client):
    vm = client.api.VM.clone(client.api.VM.get_by_name_label("Debian Bookworm 12")[0], "debian")
    before = client.api.VDI.get_all()

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.provision(vm)

    assert details(error) == ["UUID_INVALID", "sr", ""]
    assert client.api.VDI.get_all() == before


def test_destroying_a_vm_keeps_its_disks(client):
    vm, vdi = client.vm(), client.vdi()
    vbd = client.vbd(vm, vdi)

    client.api.VM.destroy(vm)

    assert vdi in client.api.VDI.get_all()
    assert vbd not in client.api.VBD.get_all()


def test_a_blocked_operation_is_refused_with_its_reason(client):
    vm = client.vm()
    client.api.VM.set_blocked_operations(vm, {"start": "keep out"})

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.start(vm, False, False)

    assert details(error) == ["OPERATION_BLOCKED", vm, "keep out"]


def test_the_control_domain_cannot_be_shut_down(client):
    domain = client.api.host.get_control_domain(client.host())

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.clean_shutdown(domain)

    assert details(error)[0] == "OPERATION_NOT_ALLOWED"


def test_suspending_writes_an_image_that_resuming_removes(client):
    vm = client.started()

    client.api.VM.suspend(vm)
    image = client.api.VM.get_suspend_VDI(vm)
    kind = client.api.VDI.get_type(image)
    client.api.VM.resume(vm, False, False)

    assert kind == "suspend"
    assert image not in client.api.VDI.get_all()
    assert client.api.VM.get_suspend_VDI(vm) == NULL


def test_a_snapshot_remembers_its_vm_and_reverting_brings_the_disk_back(client):
    vm, vdi = client.vm(), client.vdi()
    client.vbd(vm, vdi, "0")
    snapshot = client.api.VM.snapshot(vm, "before")

    client.api.VM.revert(snapshot)

    record = client.api.VM.get_record(snapshot)
    assert (record["is_a_snapshot"], record["is_a_template"], record["snapshot_of"]) == (True, True, vm)
    assert client.api.VM.get_snapshots(vm) == [snapshot]
    assert client.api.VM.get_parent(vm) == snapshot
    (vbd,) = client.api.VM.get_VBDs(vm)
    assert client.api.VBD.get_VDI(vbd) != vdi


def test_vm_create_without_a_mandatory_field_is_an_internal_error(client):
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.create({"name_label": "x"})

    assert details(error)[0] == "INTERNAL_ERROR"
