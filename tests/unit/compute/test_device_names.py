"""Which device name a volume gets."""

import types

import pytest

from nova_lite import exception
from nova_lite.compute import utils
from nova_lite.context import RequestContext, Services

OTHER_HYPERVISOR = Services(conf=types.SimpleNamespace(compute_driver="fake.FakeDriver"))
XENAPI = Services(conf=types.SimpleNamespace(compute_driver="xenapi.XenAPIDriver"))


def make_instance(root="/dev/vda", ephemeral="/dev/vdb", swap=None, flavor_ephemeral_gb=0, flavor_swap_mb=0):
    flavor = {"ephemeral_gb": flavor_ephemeral_gb, "swap": flavor_swap_mb}
    return {"uuid": "one", "root_device_name": root, "default_ephemeral_device": ephemeral,
            "default_swap_device": swap, "flavor": flavor}


def volumes_at(*names):
    return [{"device_name": name, "no_device": False} for name in names]


def name_for(instance, used=(), device=None, services=OTHER_HYPERVISOR):
    context = RequestContext().bind(services)
    return utils.get_device_name_for_instance(context, instance, volumes_at(*used), device)


def test_the_first_free_letter_follows_root_and_ephemeral_disk():
    assert name_for(make_instance()) == "/dev/vdc"


@pytest.mark.parametrize(("letters", "expected"), [
    ("cde", "/dev/vdf"),
    ("ce", "/dev/vdd"),
    ("cdefghijklmnopqrstuvwxyz", "/dev/vdaa"),
])
def test_gaps_are_filled_and_double_letters_follow_z(letters, expected):
    assert name_for(make_instance(), [f"/dev/vd{letter}" for letter in letters]) == expected


def test_after_aa_comes_ab():
    used = [f"/dev/vd{letter}" for letter in "cdefghijklmnopqrstuvwxyz"] + ["/dev/vdaa"]
    assert name_for(make_instance(), used) == "/dev/vdab"


@pytest.mark.parametrize("wanted", ["/dev/c", "/dev/sdc", "/dev/xvdc", "/dev/vdc1"])
def test_a_name_on_another_bus_moves_to_the_bus_of_the_root_device(wanted):
    assert name_for(make_instance(), device=wanted) == "/dev/vdc"


def test_a_root_device_without_bus_is_followed():
    assert name_for(make_instance(root="/dev/a", ephemeral=None)) == "/dev/b"
    assert name_for(make_instance(root="/dev/a", ephemeral=None), ["/dev/b"]) == "/dev/c"


def test_a_name_that_is_no_device_is_refused():
    with pytest.raises(exception.InvalidDevicePath):
        name_for(make_instance(), device="/baddata/vdc")


def test_a_root_device_that_is_no_device_is_refused():
    with pytest.raises(exception.InvalidDevicePath):
        name_for(make_instance(root="baddata"))


def test_a_name_in_use_is_refused():
    with pytest.raises(exception.DevicePathInUse):
        name_for(make_instance(), device="/dev/vda")


def test_devices_that_were_suppressed_are_free():
    context = RequestContext().bind(OTHER_HYPERVISOR)
    suppressed = [{"device_name": "/dev/vdc", "no_device": True}]
    assert utils.get_device_name_for_instance(context, make_instance(), suppressed, None) == "/dev/vdc"


def test_without_root_device_the_usual_one_is_taken_as_used():
    assert name_for(make_instance(root=None, ephemeral=None)) == "/dev/sdb"


@pytest.mark.parametrize(("ephemeral_gb", "swap_mb", "used", "expected"), [
    (0, 0, [], "/dev/xvdb"),
    (10, 0, [], "/dev/xvdc"),
    (0, 512, [], "/dev/xvdb"),
    (0, 512, ["/dev/xvdb"], "/dev/xvdd"),
    (10, 512, [], "/dev/xvdd"),
])
def test_xenserver_keeps_the_letters_of_flavor_disks_free(ephemeral_gb, swap_mb, used, expected):
    instance = make_instance(root=None, ephemeral=None, flavor_ephemeral_gb=ephemeral_gb, flavor_swap_mb=swap_mb)
    assert name_for(instance, used, services=XENAPI) == expected


def test_flavor_disks_are_found_in_dicts_of_old_releases():
    instance = {**make_instance(root=None, ephemeral=None), "flavor": None, "system_metadata": [
        {"key": "instance_type_ephemeral_gb", "value": "10"}, {"key": "instance_type_swap", "value": "512"}]}
    assert name_for(instance, services=XENAPI) == "/dev/xvdd"


def test_a_context_of_no_cell_gets_the_names_of_xenserver():
    instance = make_instance(root=None, ephemeral=None)
    assert utils.get_device_name_for_instance(RequestContext(), instance, [], "/dev/sdd") == "/dev/xvdd"
