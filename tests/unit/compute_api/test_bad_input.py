"""What nobody can mean is refused by its own error, in one line, and changes nothing."""

import base64

import pytest

from nova_lite import exception
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
    "a volume nobody has": ({"block_device_mapping": [volume("/dev/xvdc")]}, exception.InvalidBDMVolume),
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
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_bad_change_of_a_machine_is_refused(cell, what):
    change, error = CHANGES[what]
    before = state(cell)

    refused(lambda: change(cell, cell.context(roles=["admin"], is_admin=True)), error)

    assert state(cell) == before


@pytest.mark.parametrize("sizes", [{"memory_mb": -1}, {"vcpus": 0}, {"root_gb": -1}, {"swap": -5}, {"name": LONG},
                                   {"name": ""}])
def test_a_flavor_of_impossible_sizes_is_not_made(cell, sizes):
    flavors = len(cell.db.flavor_get_all(cell.admin()))
    values = {"name": "odd", "flavorid": "odd", "memory_mb": 1, "vcpus": 1, "root_gb": 0, "ephemeral_gb": 0, **sizes}

    refused(lambda: Flavor(cell.admin(), **values).create(), exception.Invalid)

    assert len(cell.db.flavor_get_all(cell.admin())) == flavors
