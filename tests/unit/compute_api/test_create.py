"""Asking for new instances."""

import base64

import pytest

from nova_lite import exception, objects
from nova_lite.objects import task_states, vm_states


@pytest.fixture
def scheduler(cell):
    return cell.listen_to_the_scheduler()


def create(cell, ctxt=None, *, flavor="m1.small", image=None, **order):
    return cell.api.create(ctxt or cell.context(), cell.flavor(flavor), image or cell.image(), **order)


def count(cell):
    return len(cell.db.instance_get_all(cell.admin()))


def used(cell, project="red"):
    rows = cell.db.quota_usage_get_all_by_project(cell.admin(), project)
    return {name: (row["in_use"], row["reserved"]) for name, row in rows.items()}


def test_an_instance_is_written_and_sent_to_the_scheduler(cell, scheduler):
    image_id = cell.image(properties={"os_type": "linux", "vm_mode": "xen"}, min_ram=512)

    (instance,), reservation_id = create(cell, image=image_id, display_name="My web_server!", admin_password="pw",
                                         metadata={"role": "web"}, scheduler_hints={"different_host": ["x"]})

    stored = cell.stored(instance)
    assert (stored.vm_state, stored.task_state) == (vm_states.BUILDING, task_states.SCHEDULING)
    assert (stored.display_name, stored.hostname) == ("My web_server!", "my-web-server")
    assert (stored.memory_mb, stored.flavor.name, stored.os_type) == (2048, "m1.small", "linux")
    assert stored.system_metadata["image_base_image_ref"] == image_id
    assert stored.system_metadata["image_vm_mode"] == "xen"
    assert (stored.reservation_id, stored.metadata) == (reservation_id, {"role": "web"})
    assert stored.info_cache.network_info == []
    assert [group["name"] for group in stored.security_groups] == ["default"]
    assert cell.actions_of(instance) == ["create"]

    order, arguments = scheduler.heard()
    assert order == "run_instance"
    spec = arguments["request_spec"]
    assert spec["instance_uuids"] == [instance.uuid]
    assert (spec["instance_type"]["name"], spec["image"]["id"]) == ("m1.small", image_id)
    assert spec["instance_properties"]["uuid"] == instance.uuid
    assert arguments["filter_properties"] == {"scheduler_hints": {"different_host": ["x"]}}
    assert (arguments["admin_password"], arguments["is_first_time"]) == ("pw", True)


def test_several_instances_share_a_reservation(cell, scheduler):
    instances, reservation_id = create(cell, min_count=2, max_count=3, display_name="web")

    assert [one.display_name for one in instances] == ["web-1", "web-2", "web-3"]
    assert [one.hostname for one in instances] == ["web-1", "web-2", "web-3"]
    assert [one.launch_index for one in instances] == [0, 1, 2]
    assert {one.reservation_id for one in instances} == {reservation_id}
    assert scheduler.heard()[1]["request_spec"]["instance_uuids"] == [one.uuid for one in instances]


def test_names_may_be_made_by_another_template(tmp_path):
    from tests.fixtures.one_cell import OneCell

    cell = OneCell(tmp_path, multi_instance_display_name_template="%(name)s.%(uuid)s")
    try:
        cell.listen_to_the_scheduler()
        instances, _ = create(cell, max_count=2, display_name="web")
        assert [one.display_name for one in instances] == [f"web.{one.uuid}" for one in instances]
    finally:
        cell.close()


def test_an_instance_without_a_name_is_called_by_its_uuid(cell, scheduler):
    (instance,), _ = create(cell)

    assert instance.display_name == f"Server {instance.uuid}"
    assert instance.hostname == f"server-{instance.uuid}"


def test_quota_is_counted(cell, scheduler):
    create(cell, max_count=2, min_count=2)

    assert used(cell) == {"instances": (2, 0), "cores": (2, 0), "ram": (4096, 0)}


def test_as_many_as_the_quota_allows_are_made(cell, scheduler):
    instances, _ = create(cell, flavor="m1.tiny", min_count=1, max_count=50)

    assert len(instances) == 10


def test_too_many_are_refused_with_what_is_left(cell, scheduler):
    with pytest.raises(exception.TooManyInstances) as caught:
        create(cell, flavor="m1.tiny", min_count=11, max_count=11)

    assert caught.value.kwargs["allowed"] == 10
    assert caught.value.kwargs["req"] == 11
    assert count(cell) == 0


def test_cores_count_too(cell, scheduler):
    with pytest.raises(exception.TooManyInstances) as caught:
        create(cell, flavor="m1.xlarge", min_count=3, max_count=3)

    assert caught.value.kwargs["resource"] == "cores"


def test_usage_that_was_left_behind_keeps_nobody_from_booting(cell, scheduler):
    lost = cell.db.quota_reserve(cell.context(), {"instances": 10, "cores": 20, "ram": 51200},
                                 {"instances": 10, "cores": 10, "ram": 5120}, cell.clock.naive(), 0, 0, "red")
    cell.db.reservation_commit(cell.context(), lost, "red")

    instances, _ = create(cell, flavor="m1.tiny", min_count=10, max_count=10)

    assert len(instances) == 10
    assert used(cell)["instances"] == (10, 0)


def test_nothing_stays_behind_when_no_scheduler_is_there(cell):
    with pytest.raises(exception.RpcUnavailable):
        create(cell, min_count=2, max_count=2)

    assert count(cell) == 0
    assert set(used(cell).values()) == {(0, 0)}


REFUSED = [
    ({"user_data": "x" * 65536}, exception.InstanceUserDataTooLarge),
    ({"user_data": "abc"}, exception.InstanceUserDataMalformed),
    ({"metadata": {"": "x"}}, exception.InvalidMetadata),
    ({"metadata": {"k": "x" * 256}}, exception.InvalidMetadataSize),
    ({"metadata": {"x" * 256: "v"}}, exception.InvalidMetadataSize),
    ({"metadata": {str(number): "" for number in range(129)}}, exception.MetadataLimitExceeded),
    ({"injected_files": [["/a", "AAAA"]] * 6}, exception.OnsetFileLimitExceeded),
    ({"injected_files": [["/" + "a" * 255, "AAAA"]]}, exception.OnsetFilePathLimitExceeded),
    ({"injected_files": [["/a", base64.b64encode(b"x" * 10241).decode()]]}, exception.OnsetFileContentLimitExceeded),
    ({"injected_files": [["/a", "abc"]]}, exception.Base64Exception),
    ({"security_group": ["no-such"]}, exception.SecurityGroupNotFoundForProject),
    ({"requested_networks": [("4e8e5957-649f-477b-9e5b-f1f75b21c03c", None, None)]}, exception.NetworkNotFound),
    ({"key_name": "no-such"}, exception.KeypairNotFound),
    ({"config_drive": "perhaps"}, exception.Invalid),
    ({"min_count": 2, "max_count": 1}, exception.Invalid),
    ({"min_count": 0}, exception.Invalid),
    ({"kernel_id": "no-such"}, exception.ImageNotFound),
    ({"block_device_mapping": [{"device_name": "vdb", "volume_id": "v"}], "max_count": 2}, exception.InvalidRequest),
    ({"block_device_mapping": [{"device_name": "vdb", "volume_id": "v"}]}, exception.InvalidBDMVolume),
    ({"block_device_mapping": [{"device_name": "vdb", "snapshot_id": "s"}]}, exception.InvalidBDMSnapshot),
    ({"block_device_mapping": [{"device_name": "vdb"}]}, exception.InvalidBDM),
    ({"availability_zone": "a:b:c:d"}, exception.PolicyNotAuthorized),
]


@pytest.mark.parametrize(("order", "error"), REFUSED,
                         ids=[f"{error.__name__}-{next(iter(order))}" for order, error in REFUSED])
def test_what_makes_no_sense_is_refused_and_leaves_nothing(cell, order, error):
    if "a:b:c:d" in order.values():
        error = exception.Invalid
    with pytest.raises(error):
        create(cell, **order)

    assert count(cell) == 0
    assert set(used(cell).values()) <= {(0, 0)}


def test_a_flavor_that_is_out_of_use_is_refused(cell):
    flavor = cell.flavor()
    flavor.disabled = True

    with pytest.raises(exception.InstanceTypeNotFound):
        cell.api.create(cell.context(), flavor, cell.image())


@pytest.mark.parametrize(("meta", "error"), [
    ({"min_ram": 4096}, exception.InstanceTypeMemoryTooSmall), ({"min_disk": 21}, exception.InstanceTypeDiskTooSmall)])
def test_an_image_that_does_not_fit_the_flavor_is_refused(cell, meta, error):
    with pytest.raises(error):
        create(cell, image=cell.image(**meta))


def test_an_image_without_content_is_refused(cell):
    queued = cell.services.image_api.create(cell.admin(), {"name": "later", "is_public": True})

    with pytest.raises(exception.ImageNotActive):
        create(cell, image=queued["id"])


def test_an_instance_needs_something_to_boot_from(cell):
    with pytest.raises(exception.InvalidRequest):
        cell.api.create(cell.context(), cell.flavor(), None)


def test_the_public_key_goes_into_the_instance(cell, scheduler):
    objects.KeyPair(cell.context(), user_id="alice", name="laptop", public_key="ssh-ed25519 AAAA",
                    fingerprint="f", type="ssh").create()

    (instance,), _ = create(cell, key_name="laptop")

    assert (instance.key_name, instance.key_data) == ("laptop", "ssh-ed25519 AAAA")


def test_no_kernel_is_wanted_where_the_image_says_so(cell, scheduler):
    image_id = cell.image(properties={"kernel_id": "nokernel", "ramdisk_id": "whatever"})

    (instance,), _ = create(cell, image=image_id)

    assert (instance.kernel_id, instance.ramdisk_id) == ("", "")


def test_an_administrator_may_name_the_host(cell, scheduler):
    cell.api.create(cell.admin(), cell.flavor(), cell.image(), availability_zone="nova:h7:n1")

    properties = scheduler.heard()[1]["filter_properties"]
    assert (properties["force_hosts"], properties["force_nodes"]) == (["h7"], ["n1"])


def test_a_user_may_not_name_the_host(cell):
    with pytest.raises(exception.PolicyNotAuthorized, match="create:forced_host"):
        create(cell, availability_zone="nova:h7")


def test_a_user_may_not_have_hosts_fetch_whatever_he_names(cell):
    with pytest.raises(exception.PolicyNotAuthorized, match="image_address"):
        create(cell, image="http://169.254.169.254/latest/meta-data")
    with pytest.raises(exception.PolicyNotAuthorized, match="image_address"):
        cell.api.rebuild(cell.context(), cell.instance(), "http://169.254.169.254/latest/meta-data", None)
    with pytest.raises(exception.PolicyNotAuthorized, match="image_address"):
        cell.api.rescue(cell.context(), cell.instance(), None, "HTTPS://10.0.0.1/x")


def test_block_devices_of_image_and_request_are_written_once_each(cell, scheduler):
    image_id = cell.image(properties={"mappings": [{"virtual": "swap", "device": "sdc"},
                                                   {"virtual": "ephemeral0", "device": "sdb"},
                                                   {"virtual": "root", "device": "sda"}]})

    (instance,), _ = create(cell, image=image_id, block_device_mapping=[
        {"device_name": "/dev/sdb", "no_device": True}])

    rows = cell.db.block_device_mapping_get_all_by_instance(cell.admin(), instance.uuid)
    assert instance.root_device_name == "/dev/sda"
    assert [(row["device_name"], row["guest_format"], row["no_device"]) for row in rows] == [
        ("/dev/sdc", "swap", False), ("/dev/sdb", None, True)]
    legacy = scheduler.heard()[1]["request_spec"]["block_device_mapping"]
    assert [one["virtual_name"] for one in legacy] == ["swap", None]


def test_making_the_row_again_changes_nothing(cell, scheduler):
    (instance,), _ = create(cell)

    again = cell.api.create_db_entry_for_new_instance(cell.context(), cell.flavor("m1.large"), {}, instance, ["other"],
                                                      None, 1, 0)

    assert (again.uuid, again.memory_mb, count(cell)) == (instance.uuid, 2048, 1)


def test_the_row_in_the_chosen_cell_is_what_the_top_decided(cell):
    template = {"uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "id": 77, "name": "instance-0000004d",
                "display_name": "web-2", "hostname": "web-2", "launch_index": 1, "user_id": "alice",
                "project_id": "red", "image_ref": "image-1", "reservation_id": "r-1", "metadata": [
                    {"key": "a", "value": "1"}], "system_metadata": {"image_os_type": "linux"},
                "host": "elsewhere", "cell_name": None, "vm_state": "error", "locked": True, "locked_by": "owner"}

    made = cell.api.create_db_entry_for_new_instance(
        cell.context(), cell.flavor(), {"id": "image-1"}, template, [{"name": "web"}], None, 2, 1)

    stored = cell.stored(made)
    assert (stored.id == 77, stored.host, stored.vm_state, stored.task_state) == (
        False, None, "building", "scheduling")
    assert (stored.display_name, stored.hostname, stored.launch_index) == ("web-2", "web-2", 1)
    assert (stored.metadata, stored.locked) == ({"a": "1"}, True)
    assert stored.system_metadata == {"image_os_type": "linux", "image_base_image_ref": "image-1"}
    assert [group["name"] for group in stored.security_groups] == ["web"]


def test_secrets_are_not_in_the_text_of_an_order():
    from nova_lite.compute.api_create import BuildOrder

    assert "secret" not in repr(BuildOrder(None, "i", admin_password="secret", user_data="secret"))
