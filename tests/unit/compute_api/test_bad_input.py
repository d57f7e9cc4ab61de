"""What nobody can mean is refused by its own error, in one line, and changes nothing."""

import base64

import pytest

from nova_lite import exception
from nova_lite.compute.api import AggregateAPI, HostAPI, SecurityGroupAPI
from nova_lite.objects import Flavor, vm_states
from tests.fixtures.one_cell import OneCell

LONG = "x" * 10_000
NOT_UTF8 = "caf\udce9"  # what an undecodable byte becomes
NOBODY = "11111111-2222-3333-4444-555555555555"
CONTENTS = base64.b64encode(b"hi").decode()


def volume(device, volume_id=NOBODY):
    return {"device_name": device, "volume_id": volume_id, "delete_on_termination": False}


CREATE = {
    "a name of 10,000 characters": ({"display_name": LONG}, exception.Invalid),
    "a name that is no UTF-8": ({"display_name": NOT_UTF8}, exception.Invalid),
    "a description of 10,000 characters": ({"display_description": LONG}, exception.Invalid),
    "a key pair nobody has": ({"key_name": "nobody's"}, exception.KeypairNotFound),
    "a security group nobody has": ({"security_group": ["nobody's"]}, exception.SecurityGroupNotFoundForProject),
    "an image nobody has": ({"image_href": NOBODY}, exception.ImageNotFound),
    "a network nobody has": ({"requested_networks": [(NOBODY, None, None)]}, exception.NetworkNotFound),
    "an address outside of its network": ({"requested_networks": "other address"}, exception.NovaException),
    "metadata that are too long": ({"metadata": {"key": LONG}}, exception.InvalidMetadataSize),
    "metadata without a name": ({"metadata": {"": "x"}}, exception.InvalidMetadata),
    "metadata that are no UTF-8": ({"metadata": {"key": NOT_UTF8}}, exception.InvalidMetadata),
    "metadata that are numbers": ({"metadata": {"key": 1}}, exception.InvalidMetadata),
    "too many metadata": ({"metadata": {str(n): "x" for n in range(200)}}, exception.MetadataLimitExceeded),
    "a file that is no base64": ({"injected_files": [["/etc/motd", "\xff"]]}, exception.Base64Exception),
    "a file that is too large": ({"injected_files": [["/etc/motd", base64.b64encode(b"x" * 20_000).decode()]]},
                                 exception.OnsetFileContentLimitExceeded),
    "a file with a path that is too long": ({"injected_files": [[LONG, CONTENTS]]},
                                            exception.OnsetFilePathLimitExceeded),
    "a file with a path that is no UTF-8": ({"injected_files": [[NOT_UTF8, CONTENTS]]}, exception.NovaException),
    "too many files": ({"injected_files": [["/a", CONTENTS]] * 6}, exception.OnsetFileLimitExceeded),
    "user data that are no base64": ({"user_data": "a"}, exception.InstanceUserDataMalformed),
    "user data that are too large": ({"user_data": "A" * 70_000}, exception.InstanceUserDataTooLarge),
    "an access address that is none": ({"access_ip_v4": "next door"}, exception.Invalid),
    "a config drive that may be": ({"config_drive": "perhaps"}, exception.Invalid),
    "a zone of four parts": ({"availability_zone": "a:b:c:d"}, exception.Invalid),
    "fewer than none": ({"min_count": -1, "max_count": -1}, exception.Invalid),
    "more at least than at most": ({"min_count": 3, "max_count": 2}, exception.Invalid),
    "too many": ({"min_count": 10 ** 9, "max_count": 10 ** 9}, exception.TooManyInstances),
    "a device twice": ({"block_device_mapping": [volume("/dev/xvdc"), volume("/dev/vdc")]}, exception.InvalidBDM),
    "a disk of a negative size": ({"block_device_mapping": [
        {"device_name": "/dev/xvdb", "virtual_name": "ephemeral0", "volume_size": -1}]}, exception.Invalid),
    "a disk whose size is no number": ({"block_device_mapping": [
        {"device_name": "/dev/xvdb", "virtual_name": "ephemeral0", "volume_size": "big"}]}, exception.InvalidBDM),
    "a device with a name of 10,000 characters": ({"block_device_mapping": [
        {"device_name": LONG, "virtual_name": "swap"}]}, exception.Invalid),
    "a device that is a text": ({"block_device_mapping": ["/dev/xvdb"]}, exception.InvalidBDM),
    "a volume nobody has": ({"block_device_mapping": [volume("/dev/xvdc")]}, exception.InvalidBDMVolume),
    "a volume for several, by the smallest number": (
        {"block_device_mapping": [volume("/dev/xvdc")], "min_count": 2}, exception.InvalidRequest),
    "a number that is a text": ({"min_count": "2"}, exception.Invalid),
    "names that become too long by their numbers": ({"display_name": "n" * 255, "min_count": 2}, exception.Invalid),
    "an image of 10,000 characters": ({"image_href": LONG}, exception.Invalid),
    "a kernel of 10,000 characters": ({"kernel_id": LONG}, exception.Invalid),
    "a zone of 10,000 characters": ({"availability_zone": LONG}, exception.Invalid),
    "a zone that is no UTF-8": ({"availability_zone": NOT_UTF8}, exception.Invalid),
    "a network of 10,000 characters": ({"requested_networks": [(LONG, None, None)]}, exception.Invalid),
    "a network that is no UTF-8": ({"requested_networks": [(NOT_UTF8, None, None)]}, exception.Invalid),
    "a port of 10,000 characters": ({"requested_networks": [(None, None, LONG)]}, exception.Invalid),
    "an address that is none": ({"requested_networks": [(NOBODY, LONG, None)]}, exception.Invalid),
    "a security group of 10,000 characters": ({"security_group": [LONG]}, exception.Invalid),
    "a security group that is no UTF-8": ({"security_group": [NOT_UTF8]}, exception.Invalid),
    "a password that is no UTF-8": ({"admin_password": NOT_UTF8}, exception.Invalid),
    "a key of a megabyte": ({"key_name": "k", "key_data": LONG * 100}, exception.Invalid),
    "user data with characters base64 has not": ({"user_data": "####"}, exception.InstanceUserDataMalformed),
    "a file with characters base64 has not": ({"injected_files": [["/a", "####"]]}, exception.Base64Exception),
    "a file without content": ({"injected_files": [["/a", None]]}, exception.Base64Exception),
    "a file that is only a path": ({"injected_files": ["/a"]}, exception.Invalid),
    "metadata that are a list": ({"metadata": ["a"]}, exception.InvalidMetadata),
    "hints that are a list": ({"scheduler_hints": ["a"]}, exception.Invalid),
}


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    made = OneCell(tmp_path_factory.mktemp("bad"))
    made.listen_to_the_scheduler()
    made.add_host("h1", serves=False)
    made.network = made.db.network_create(made.admin(), {"label": "net", "cidr": "10.9.0.0/29"})
    made.picture = made.image()
    made.server = made.instance(host="h1", vm_state=vm_states.ACTIVE)
    yield made
    made.close()


def state(cell):
    """Everything that a refused request could have left."""
    usages = cell.db.quota_usage_get_all_by_project(cell.admin(), "red")
    return (
        [(row["uuid"], row["vm_state"], row["task_state"], row["metadata"], row["display_name"], row["revision"])
         for row in cell.db.instance_get_all(cell.context().elevated(read_deleted="no"))],
        {name: row["reserved"] for name, row in usages.items() if row["reserved"]},
        cell.db.security_group_get_by_project(cell.admin(), "blue"),
        len(cell.services.image_api.detail(cell.admin())),
        cell.db.block_device_mapping_get_all_by_instance(cell.admin(), cell.server.uuid))


def refused(call, error):
    """What the refusal says: one short line."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text.strip() and 0 < len(text) < 600, text[:800]
    assert LONG not in text
    text.encode()  # can be printed
    return caught.value


@pytest.mark.parametrize("what", CREATE)
def test_a_bad_wish_for_a_new_machine_is_refused(cell, what):
    order, error = CREATE[what]
    order = dict(order)
    if order.get("requested_networks") == "other address":
        order["requested_networks"] = [(cell.network["uuid"], "192.0.2.77", None)]
    image = order.pop("image_href", cell.picture)
    before = state(cell)

    refused(lambda: cell.api.create(cell.context(), cell.flavor(), image, **order), error)

    assert state(cell) == before


CHANGES = {
    "a flavor nobody has": (lambda cell, ctxt: cell.api.resize(ctxt, cell.server, "no-such"), exception.FlavorNotFound),
    "an image nobody has": (lambda cell, ctxt: cell.api.rebuild(ctxt, cell.server, NOBODY, "pw"),
                            exception.ImageNotFound),
    "a host nobody has": (lambda cell, ctxt: cell.api.evacuate(ctxt, cell.server, "no-such", False),
                          exception.NovaException),
    "a volume nobody has": (lambda cell, ctxt: cell.api.attach_volume(ctxt, cell.server, NOBODY),
                            exception.VolumeNotFound),
    "a device of no name": (lambda cell, ctxt: cell.api.attach_volume(ctxt, cell.server, NOBODY, "/nowhere"),
                            exception.NovaException),
    "metadata that are too long": (
        lambda cell, ctxt: cell.api.update_instance_metadata(ctxt, cell.server, {LONG: "x"}),
        exception.InvalidMetadataSize),
    "metadata that are no UTF-8": (
        lambda cell, ctxt: cell.api.update_instance_metadata(ctxt, cell.server, {NOT_UTF8: "x"}),
        exception.InvalidMetadata),
    "a name of 10,000 characters": (lambda cell, ctxt: cell.api.update(ctxt, cell.server, display_name=LONG),
                                    exception.Invalid),
    "a backup that keeps fewer than none": (
        lambda cell, ctxt: cell.api.backup(ctxt, cell.server, "b", "daily", -1), exception.RotationRequiredForBackup),
    "an instance nobody has": (lambda cell, ctxt: cell.api.get(ctxt, NOBODY), exception.InstanceNotFound),
    "files that are no base64": (
        lambda cell, ctxt: cell.api.rebuild(ctxt, cell.server, cell.picture, "pw", [["/a", "\xff"]]),
        exception.Base64Exception),
    "a new name of 10,000 characters": (
        lambda cell, ctxt: cell.api.rebuild(ctxt, cell.server, cell.picture, "pw", display_name=LONG),
        exception.Invalid),
    "a new access address that is none": (
        lambda cell, ctxt: cell.api.rebuild(ctxt, cell.server, cell.picture, "pw", access_ip_v4="x"),
        exception.Invalid),
    "a field nobody knows": (lambda cell, ctxt: cell.api.update(ctxt, cell.server, colour="red"), exception.Invalid),
    "a state nobody knows": (lambda cell, ctxt: cell.api.update_state(ctxt, cell.server, "tired"), exception.Invalid),
    "metadata that are a list": (
        lambda cell, ctxt: cell.api.update_instance_metadata(ctxt, cell.server, ["a"]), exception.InvalidMetadata),
    "a rotation that is a text": (
        lambda cell, ctxt: cell.api.backup(ctxt, cell.server, "b", "daily", "x"), exception.RotationRequiredForBackup),
    "fewer lines than none": (
        lambda cell, ctxt: cell.api.get_console_output(ctxt, cell.server, -1), exception.Invalid),
    "an address to take away that is none": (
        lambda cell, ctxt: cell.api.remove_fixed_ip(ctxt, cell.server, "x"), exception.Invalid),
    "an address to attach that is none": (
        lambda cell, ctxt: cell.api.attach_interface(ctxt, cell.server, None, None, "x"), exception.Invalid),
    "a file without a path": (lambda cell, ctxt: cell.api.inject_file(ctxt, cell.server, "", "x"), exception.Invalid),
    "a file with a path of 10,000 characters": (
        lambda cell, ctxt: cell.api.inject_file(ctxt, cell.server, LONG, "x"), exception.NovaException),
    "a file whose content is no UTF-8": (
        lambda cell, ctxt: cell.api.inject_file(ctxt, cell.server, "/a", NOT_UTF8), exception.Invalid),
    "a file of 200 kB": (lambda cell, ctxt: cell.api.inject_file(ctxt, cell.server, "/a", LONG * 20),
                         exception.OnsetFileContentLimitExceeded),
}
# Operations whose arguments are texts, and how many.
TEXTS = {"set_admin_password": 1, "rescue": 2, "rebuild": 2, "add_fixed_ip": 1, "detach_interface": 1, "snapshot": 1,
         "backup": 2, "attach_volume": 2, "detach_volume": 1, "resize": 1, "delete_instance_metadata": 1,
         "get_vnc_console": 1, "reboot": 1, "update_state": 1}


@pytest.mark.parametrize("what", CHANGES)
def test_a_bad_change_of_a_machine_is_refused(cell, what):
    change, error = CHANGES[what]
    before = state(cell)

    refused(lambda: change(cell, cell.context(roles=["admin"], is_admin=True)), error)

    assert state(cell) == before


@pytest.mark.parametrize("text", [LONG, NOT_UTF8])
@pytest.mark.parametrize("operation", TEXTS)
def test_no_operation_takes_texts_that_nothing_is_called(cell, operation, text):
    before = state(cell)
    rest = (1,) if operation == "backup" else ()

    for place in range(TEXTS[operation]):
        arguments = [text if place == number else "x" for number in range(TEXTS[operation])]
        refused(lambda arguments=arguments: getattr(cell.api, operation)(
            cell.context(roles=["admin"], is_admin=True), cell.server, *arguments, *rest), exception.Invalid)

    assert state(cell) == before


LISTS = {
    "a filter that is no UTF-8": {"search_opts": {"image": NOT_UTF8}},
    "a pattern that is none": {"search_opts": {"name": "("}},
    "a time that is none": {"search_opts": {"changes-since": "yesterday"}},
    "fewer than none": {"limit": -1},
    "an order nobody knows": {"sort_dir": "sideways"},
    "a column nobody knows": {"sort_key": "colour"},
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_that_makes_no_sense_is_refused(cell, what):
    refused(lambda: cell.api.get_all(cell.context(), **LISTS[what]), exception.Invalid)


@pytest.mark.parametrize("name", [LONG, NOT_UTF8, "9" * 50])
def test_what_no_instance_is_called_is_not_found(cell, name):
    refused(lambda: cell.api.get(cell.context(), name), exception.InstanceNotFound)


COMPANIONS = {
    "an aggregate of 10,000 characters": (AggregateAPI, lambda api, ctxt: api.create_aggregate(ctxt, LONG, None)),
    "an aggregate without a name": (AggregateAPI, lambda api, ctxt: api.create_aggregate(ctxt, "", None)),
    "an aggregate that is no UTF-8": (AggregateAPI, lambda api, ctxt: api.create_aggregate(ctxt, NOT_UTF8, None)),
    "a zone of 10,000 characters": (AggregateAPI, lambda api, ctxt: api.create_aggregate(ctxt, "a", LONG)),
    "an aggregate's metadata": (AggregateAPI, lambda api, ctxt: api.update_aggregate_metadata(ctxt, 1, {"a": LONG})),
    "a group that is no UTF-8": (
        SecurityGroupAPI, lambda api, ctxt: api.create_security_group(ctxt, NOT_UTF8, "x")),
    "a description of 10,000 characters": (
        SecurityGroupAPI, lambda api, ctxt: api.create_security_group(ctxt, "g", LONG)),
    "a reason of 10,000 characters": (
        HostAPI, lambda api, ctxt: api.service_update(ctxt, "h1", "nova-compute", {"disabled_reason": LONG})),
    "a host that shall dance": (HostAPI, lambda api, ctxt: api.host_power_action(ctxt, "h1", "dance")),
}


@pytest.mark.parametrize("what", COMPANIONS)
def test_hosts_groups_and_aggregates_are_not_called_so_either(cell, what):
    kind, attempt = COMPANIONS[what]
    api = kind(cell.services)

    refused(lambda: attempt(api, cell.admin()), exception.Invalid)

    assert cell.db.aggregate_get_all(cell.admin()) == []


@pytest.mark.parametrize("sizes", [{"memory_mb": -1}, {"vcpus": 0}, {"root_gb": -1}, {"swap": -5}, {"name": LONG},
                                   {"name": ""}])
def test_a_flavor_of_impossible_sizes_is_not_made(cell, sizes):
    flavors = len(cell.db.flavor_get_all(cell.admin()))
    values = {"name": "odd", "flavorid": "odd", "memory_mb": 1, "vcpus": 1, "root_gb": 0, "ephemeral_gb": 0, **sizes}

    refused(lambda: Flavor(cell.admin(), **values).create(), exception.Invalid)

    assert len(cell.db.flavor_get_all(cell.admin())) == flavors
