import types

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import volumeops
from nova_lite.virt.xenapi.guest_data import hostname_for, sanitized
from nova_lite.virt.xenapi.local_disks import ephemeral_sizes_gb
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.session import addresses_of, version_tuple
from nova_lite.virt.xenapi.snapshot import is_vhd
from nova_lite.virt.xenapi.transfer import read_ahead
from nova_lite.virt.xenapi.transport import Endpoint, swap_xapi_host
from nova_lite.virt.xenapi.vmops import cmp_version, make_step_decorator


@pytest.mark.parametrize(("a", "b", "sign"), [
    ("0.0.1.10", "0.0.1.9", 1), ("1.2.3", "1.2.3", 0), ("1.2.3", "1.2.3.4", -1), ("1.2.3.4", "1.2.3", 1),
    ("1.2.3rc1", "1.2.3", 0)])
def test_versions_compare_number_by_number(a, b, sign):
    result = cmp_version(a, b)
    assert (result > 0) - (result < 0) == sign


def test_a_version_without_digits_is_a_value_error():
    with pytest.raises(ValueError):
        cmp_version("1.x", "1.2")


def test_progress_moves_only_when_a_step_returns():
    reported = []
    instance = {"uuid": "u"}
    step = make_step_decorator("context", instance, lambda *told: reported.append(told), total_offset=1)

    @step
    def first():
        """Doc of first."""
        return 1

    @step
    def second(fail):
        if fail:
            raise ValueError

    assert first() == 1
    with pytest.raises(ValueError):
        second(True)
    second(False)

    assert reported == [("context", instance, 1, 3), ("context", instance, 2, 3)]
    assert first.__name__ == "first" and first.__doc__ == "Doc of first."


def test_progress_goes_to_the_database_the_context_is_bound_to():
    written = []
    db = types.SimpleNamespace(instance_update=lambda context, uuid, values: written.append((uuid, values)))
    context = types.SimpleNamespace(services=types.SimpleNamespace(db=db))

    step = make_step_decorator(context, {"uuid": "u"})
    for run in [step(lambda: None) for _ in range(7)]:
        run()

    assert written == [("u", {"progress": percent}) for percent in (14, 29, 43, 57, 71, 86, 100)]


def test_an_undo_error_neither_hides_the_first_error_nor_stops_the_others():
    undone = []

    def broken():
        raise RuntimeError("undo is broken")

    with pytest.raises(ValueError, match="first"), Undo("try it") as undo:
        undo.add(undone.append, 1)
        undo.add(broken)
        undo.add(undone.append, 2)
        raise ValueError("first")

    assert undone == [2, 1]


def test_nothing_is_undone_when_nothing_fails():
    undone = []
    with Undo("try it") as undo:
        undo.add(undone.append, 1)
    assert undone == []


@pytest.mark.parametrize(("mountpoint", "number"), [
    ("/dev/xvdc", 2), ("vda", 0), ("sdb", 1), ("/dev/hdp", 15), ("7", 7)])
def test_device_names_become_numbers(mountpoint, number):
    assert volumeops.device_number(mountpoint) == number


def test_a_name_that_is_no_device_is_refused():
    with pytest.raises(exception.StorageError):
        volumeops.device_number("/dev/xvdz9")


def connection(**data):
    return {"driver_volume_type": "iscsi", "data": {"volume_id": "v1", "target_iqn": "iqn.x", **data}}


def test_lun_0_is_a_lun_and_chap_is_read_from_the_data():
    target = volumeops.parse_target(connection(
        target_portal="10.0.0.1:3261", target_lun=0, auth_method="CHAP", auth_username="u", auth_password="secret"))
    assert target.lun == 0
    assert target.repository.params == {"target": "10.0.0.1", "port": "3261", "targetIQN": "iqn.x", "chapuser": "u",
                                        "chappassword": "secret"}
    assert "secret" not in repr(target)


def test_ipv6_portals_are_understood_and_a_missing_one_comes_from_the_options():
    assert volumeops.parse_target(connection(target_portal="[fd00::1]:3260")).repository.params["target"] == "fd00::1"
    assert volumeops.parse_target(connection(), "10.9.9.9", 3333).repository.params["port"] == "3333"


def test_the_same_target_has_the_same_sr_uuid_everywhere():
    one = volumeops.parse_target(connection(target_portal="10.0.0.1:3260"))
    other = volumeops.parse_target(connection(target_portal="10.0.0.1:3260", volume_id="v2"))
    assert one.repository.uuid == other.repository.uuid


def test_other_volume_types_are_refused():
    with pytest.raises(exception.VolumeDriverNotFound):
        volumeops.parse_target({"driver_volume_type": "rbd", "data": {}})


@pytest.mark.parametrize(("total", "sizes"), [(0, []), (10, [10]), (2048, [1024, 1024]), (2500, [2000, 500])])
def test_large_ephemeral_disks_are_split(total, sizes):
    assert ephemeral_sizes_gb(total) == sizes


def test_only_the_host_of_a_url_is_swapped():
    assert swap_xapi_host("https://10.0.0.1:8443/path", "10.0.0.2") == "https://10.0.0.2:8443/path"
    assert swap_xapi_host("http://master", "fd00::2") == "http://[fd00::2]"


def test_credentials_in_a_url_are_not_shown():
    assert "secret" not in Endpoint("http://root:secret@10.0.0.1").without_credentials


def test_a_url_that_is_none_is_one_line():
    with pytest.raises(exception.ConfigurationError, match="connection_url"):
        Endpoint("ftp://x")


def test_versions_with_suffixes_are_read():
    assert version_tuple({"product_version": "8.3.0-beta"}) == (8, 3, 0)
    assert version_tuple({"platform_version": "2.1"}) == (2, 1)
    assert version_tuple({}) == (0, 0, 0)


def test_windows_host_names_are_cut_and_metadata_keys_cleaned():
    assert hostname_for("a-very-long-host-name", "windows") == "a-very-long-hos"
    assert hostname_for("a-very-long-host-name", "linux") == "a-very-long-host-name"
    assert sanitized("my key/ä") == "my_key__"


def test_blocks_are_made_ahead_in_their_order():
    blocks = [bytes([number]) for number in range(20)]
    assert list(read_ahead(iter(blocks))) == blocks


def test_what_goes_wrong_while_blocks_are_made_is_told_to_who_takes_them():
    def blocks():
        yield b"first"
        raise exception.CouldNotFetchImage(image="image")

    taken = read_ahead(blocks())
    assert next(taken) == b"first"
    with pytest.raises(exception.CouldNotFetchImage):
        next(taken)


def test_nobody_reads_on_after_the_taker_gave_up():
    made = []

    def blocks():
        for number in range(1000):
            made.append(number)
            yield bytes([number % 256])

    taken = read_ahead(blocks())
    next(taken)
    taken.close()
    seen = len(made)
    assert seen < 1000 and len(made) == seen


@pytest.mark.parametrize(("sm_config", "expected"), [
    ({}, True), ({"vhd-parent": "u"}, True), ({"vdi_type": "vhd"}, True), ({"vdi_type": "qcow2"}, False),
    ({"image-format": "qcow2"}, False), ({"image-format": "vhd"}, True)])
def test_disks_of_later_hosts_need_be_no_vhds(sm_config, expected):
    assert is_vhd({"sm_config": sm_config}) is expected


def test_a_host_name_has_the_addresses_it_resolves_to_and_an_unknown_one_none():
    assert addresses_of("no-such-host.invalid") == set() and "127.0.0.1" in addresses_of("127.0.0.1")
