"""Objects keep the reference's wire form, and read more than they write."""

import json

import pytest

from nova_lite import exception, objects


def primitive(name="Instance", version="2.0", namespace="nova", changes=None, **values):
    wire = {"nova_object.name": name, "nova_object.namespace": namespace, "nova_object.version": version,
            "nova_object.data": values}
    if changes is not None:
        wire["nova_object.changes"] = changes
    return wire


def test_an_object_is_written_at_the_floor_version_with_its_changes():
    instance = objects.Instance(uuid="u1", vm_state="active", metadata={"a": "b"})

    wire = objects.to_wire(instance)

    assert wire == primitive(changes=["metadata", "uuid", "vm_state"], uuid="u1", vm_state="active",
                             metadata={"a": "b"})


def test_times_are_written_with_z_and_read_as_aware():
    instance = objects.from_wire(None, primitive(uuid="u1", created_at="2026-11-21T08:14:46Z"))

    assert instance.created_at.utcoffset().total_seconds() == 0
    assert objects.to_wire(instance)["nova_object.data"]["created_at"] == "2026-11-21T08:14:46Z"


def test_fields_and_minor_versions_we_do_not_know_are_ignored():
    instance = objects.from_wire(None, primitive(version="2.7", uuid="u1", trusted_certs=None, keypairs=[1]))

    assert instance.keys() == ["uuid"]
    assert objects.to_wire(instance)["nova_object.version"] == "2.0"


def test_absent_fields_stay_unset():
    instance = objects.from_wire(None, primitive(uuid="u1"))

    assert "vm_state" not in instance
    assert instance.get("vm_state", "nothing") == "nothing"


def test_null_where_we_know_no_null_is_as_good_as_absent():
    instance = objects.from_wire(None, primitive(uuid="u1", auto_disk_config=None, task_state=None))

    assert instance.keys() == ["task_state", "uuid"]


def test_only_the_changes_that_arrived_are_taken_over():
    instance = objects.from_wire(None, primitive(uuid="u1", vm_state="error", host="h", changes=["vm_state", "tags"]))

    assert instance.obj_what_changed() == {"vm_state"}


def test_opaque_objects_inside_are_returned_unchanged():
    inside = primitive("InstancePCIRequests", "1.3", requests=[{"x": 1}], odd={"deep": [1]})

    instance = objects.from_wire(None, primitive(uuid="u1", pci_requests=inside))

    assert instance.pci_requests.name == "InstancePCIRequests"
    assert objects.to_wire(instance)["nova_object.data"]["pci_requests"] == inside


def test_objects_of_unknown_classes_pass_through():
    thing = primitive("RequestSpec", "1.12", namespace="nova", a=1, changes=["a"])

    kept = objects.from_wire(None, {"spec": [thing]})

    assert isinstance(kept["spec"][0], objects.OpaqueObject)
    assert objects.to_wire(kept) == {"spec": [thing]}


@pytest.mark.parametrize("wire, error", [
    (primitive(version="3.0", uuid="u"), exception.IncompatibleObjectVersion),
    (primitive(namespace="cinder", uuid="u"), exception.UnsupportedObjectError),
    ({"nova_object.name": "Instance"}, exception.UnsupportedObjectError),
    (primitive(uuid="u", memory_mb="lots"), ValueError),
])
def test_what_makes_no_sense_is_refused(wire, error):
    with pytest.raises(error):
        objects.from_wire(None, wire)


def test_fields_beyond_the_floor_travel_only_when_asked_for():
    bdm = objects.BlockDeviceMapping(uuid="b1", volume_id="v1")

    assert "uuid" not in objects.to_wire(bdm)["nova_object.data"]
    assert objects.to_wire(bdm, beyond_floor=True)["nova_object.data"]["uuid"] == "b1"
    assert objects.to_wire(bdm)["nova_object.changes"] == ["volume_id"]


def test_everything_survives_a_journey_as_json():
    instance = objects.Instance(
        uuid="u1",
        flavor=objects.Flavor.of(None, {"id": 1, "flavorid": "1", "memory_mb": 512, "extra_specs": {"a": "b"}}),
        info_cache=objects.InstanceInfoCache(instance_uuid="u1", network_info=[{"id": "v1", "address": "02:00"}]))

    arrived = objects.from_wire(None, json.loads(json.dumps(objects.to_wire({"list": [instance]}))))["list"][0]

    assert arrived.flavor.extra_specs == {"a": "b"}
    assert arrived.info_cache.network_info[0]["address"] == "02:00"
    assert arrived == instance


def test_secrets_are_not_printed():
    bdm = objects.BlockDeviceMapping(connection_info='{"auth_password": "hunter2"}')
    instance = objects.Instance(uuid="u1", user_data="c2VjcmV0", key_data="ssh-rsa AAA")

    assert "hunter2" not in repr(bdm)
    assert "c2VjcmV0" not in repr(instance)
