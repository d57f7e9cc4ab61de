"""A build of the cells layer becomes a request to the scheduler of this cell."""

import json

import pytest

from nova_lite import exception, objects

UUIDS = ["7c9e6679-7425-40de-944b-e07fc1f90ae7", "0e0c1f2d-9d4b-4d5e-8c39-6f4c7b3f3a11"]


@pytest.fixture
def scheduler(cell):
    return cell.listen_to_the_scheduler()


def as_object(cell, uuid, **fields):
    return objects.Instance(cell.context(), uuid=uuid, user_id="alice", project_id="red", image_ref="i", metadata={},
                            system_metadata={}, display_name="web", hostname="web", launch_index=0, **fields)


def build(cell, instances, **kwargs):
    kwargs.setdefault("filter_properties", {"instance_type": cell.flavor()})
    cell.services.host_scheduler.build_instances(cell.context(), instances=instances, **kwargs)


def test_rows_are_made_and_one_request_is_sent_for_all(cell, scheduler):
    build(cell, [as_object(cell, uuid) for uuid in UUIDS], image={"id": "i", "properties": {}}, admin_password="pw",
          security_groups=["web"], injected_files=[("/a", "AAAA")])

    order, arguments = scheduler.heard()
    assert order == "run_instance"
    assert arguments["request_spec"]["instance_uuids"] == UUIDS
    assert arguments["request_spec"]["security_group"] == ["web"]
    assert (arguments["admin_password"], arguments["injected_files"]) == ("pw", [["/a", "AAAA"]])
    assert arguments["is_first_time"] is True
    for uuid in UUIDS:
        row = cell.db.instance_get_by_uuid(cell.admin(), uuid)
        assert (row["vm_state"], row["task_state"], row["host"]) == ("building", "scheduling", None)
        assert [action["action"] for action in cell.db.actions_get(cell.admin(), uuid)] == ["create"]
    assert scheduler.has_heard_nothing()


def test_a_second_delivery_makes_no_second_rows(cell, scheduler):
    for _ in range(2):
        build(cell, [as_object(cell, UUIDS[0])])

    assert len(cell.db.instance_get_all(cell.admin())) == 1


def test_what_belongs_to_the_cells_layer_stays_there(cell, scheduler):
    build(cell, [as_object(cell, UUIDS[0])], filter_properties={
        "instance_type": cell.flavor().to_dict(), "context": "x", "scheduler": "x", "routing_path": "x",
        "host_sched_kwargs": {}, "request_spec": {}, "target_cell": "x", "force_hosts": ["api!west@h1", "h2"],
        "scheduler_hints": {"group": "g"}, "ignore_hosts": ["h3"]})

    assert scheduler.heard()[1]["filter_properties"] == {
        "force_hosts": ["h1", "h2"], "scheduler_hints": {"group": "g"}, "ignore_hosts": ["h3"]}


@pytest.mark.parametrize(("given", "sent"), [
    (None, None), ([], []), ([("net", None)], [["net", None, None]]),
    ([("net", "10.0.0.9", None, None)], [["net", "10.0.0.9", None]])])
def test_networks_in_any_form_become_triples(cell, scheduler, given, sent):
    build(cell, [as_object(cell, UUIDS[0])], requested_networks=given)

    assert scheduler.heard()[1]["requested_networks"] == sent


def test_a_list_of_requests_becomes_triples(cell, scheduler):
    given = objects.NetworkRequestList(objects=[objects.NetworkRequest(network_id="net", address="10.0.0.9")])

    build(cell, [as_object(cell, UUIDS[0])], requested_networks=given)

    assert scheduler.heard()[1]["requested_networks"] == [["net", "10.0.0.9", None]]


@pytest.mark.parametrize("given", [None, [], json.dumps([["/a", "AAAA"]])])
def test_files_in_any_form_become_pairs(cell, scheduler, given):
    build(cell, [as_object(cell, UUIDS[0])], injected_files=given)

    assert scheduler.heard()[1]["injected_files"] == ([["/a", "AAAA"]] if given else [])


def test_groups_may_be_objects(cell, scheduler):
    build(cell, [as_object(cell, UUIDS[0])], security_groups=[{"name": "web", "id": 3}])

    assert scheduler.heard()[1]["request_spec"]["security_group"] == ["web"]


def test_block_devices_of_old_and_new_peers_become_rows(cell, scheduler):
    build(cell, [as_object(cell, UUIDS[0])], block_device_mapping=[
        {"device_name": "/dev/xvdb", "virtual_name": "ephemeral0"},
        {"device_name": "/dev/xvdc", "source_type": "blank", "destination_type": "local", "guest_format": "swap"}])

    rows = cell.db.block_device_mapping_get_all_by_instance(cell.admin(), UUIDS[0])
    assert [(row["device_name"], row["source_type"]) for row in rows] == [("/dev/xvdb", "blank"),
                                                                          ("/dev/xvdc", "blank")]
    legacy = scheduler.heard()[1]["request_spec"]["block_device_mapping"]
    assert [one["virtual_name"] for one in legacy] == ["ephemeral0", "swap"]


def test_a_flavor_this_cell_does_not_know_is_taken_as_it_comes(cell, scheduler):
    flavor = {"id": 99, "name": "huge", "memory_mb": 65536, "vcpus": 32, "root_gb": 1, "ephemeral_gb": 0,
              "flavorid": "huge", "swap": 0, "extra_specs": {"ssd": "1"}}

    build(cell, [as_object(cell, UUIDS[0])], filter_properties={"instance_type": flavor})

    sent = scheduler.heard()[1]["request_spec"]["instance_type"]
    assert (sent["memory_mb"], sent["extra_specs"]) == (65536, {"ssd": "1"})
    assert cell.db.instance_get_by_uuid(cell.admin(), UUIDS[0])["memory_mb"] == 65536


def test_a_cell_without_scheduler_has_failed(cell):
    with pytest.raises(exception.RpcUnavailable):
        build(cell, [as_object(cell, UUIDS[0])])
