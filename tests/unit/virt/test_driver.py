"""The interface of hypervisor drivers: what has a default, how one is found, and the driver without a hypervisor."""

import inspect

import pytest
from oslo_utils import importutils

from nova_lite import exception
from nova_lite.objects import power_state
from nova_lite.virt import driver, event, fake
from nova_lite.virt.virtapi import VirtAPI
from tests.fixtures.services import make_conf

DEFAULTS = {  # method: what it answers where a driver says nothing else
    "cleanup_host": None, "settle_interrupted": None, "change_instance_metadata": None, "inject_network_info": None,
    "reset_network": None, "macs_for_instance": None, "legacy_nwinfo": True, "filter_defer_apply_on": None,
    "filter_defer_apply_off": None, "get_per_instance_usage": {}, "estimate_instance_overhead": {"memory_mb": 0},
    "manage_image_cache": None, "instance_on_disk": False,
}
PLUMBING = {"register_event_listener", "emit_event"}


def answer(name):
    method = getattr(driver.ComputeDriver(VirtAPI()), name)
    required = [each for each in inspect.signature(method).parameters.values() if each.default is each.empty
                and each.kind is each.POSITIONAL_OR_KEYWORD]
    return method(*[None] * len(required))


@pytest.mark.parametrize("name", sorted(
    name for name, _ in inspect.getmembers(driver.ComputeDriver, inspect.isfunction) if not name.startswith("_")))
def test_what_has_no_default_says_that_it_is_not_implemented(name):
    if name in PLUMBING:
        return
    if name in DEFAULTS:
        assert answer(name) == DEFAULTS[name]
        return
    with pytest.raises(NotImplementedError):
        answer(name)


def test_a_driver_has_no_capabilities_unless_it_says_so():
    assert driver.ComputeDriver.capabilities == {"has_imagecache": False, "supports_recreate": False}


def test_events_without_listener_are_dropped_and_others_than_events_refused():
    emitting, heard = driver.ComputeDriver(VirtAPI()), []
    emitting.emit_event("dropped, whatever it is")
    emitting.register_event_listener(heard.append)
    started = event.LifecycleEvent("uuid", event.EVENT_LIFECYCLE_STARTED, timestamp=7)

    emitting.emit_event(started)
    with pytest.raises(ValueError, match="Event"):
        emitting.emit_event("no event")

    assert [(each.get_instance_uuid(), each.get_transition(), each.get_timestamp()) for each in heard] == [
        ("uuid", 0, 7)]


def test_a_listener_that_fails_does_not_fail_the_driver(caplog):
    emitting = driver.ComputeDriver(VirtAPI())
    emitting.register_event_listener(lambda _: 1 / 0)
    emitting.emit_event(event.InstanceEvent("uuid"))
    assert "listener failed" in caplog.text


@pytest.mark.parametrize("info", [None, {}, {"swap": None}])
def test_what_is_not_said_of_block_devices_is_empty(info):
    assert driver.block_device_info_get_root(info) is None
    assert driver.block_device_info_get_swap(info) == {"device_name": None, "swap_size": 0}
    assert driver.block_device_info_get_ephemerals(info) == []
    assert driver.block_device_info_get_mapping(info) == []


@pytest.mark.parametrize(("swap", "usable"), [
    (None, False), ({"device_name": None, "swap_size": 1}, False), ({"device_name": "/dev/b", "swap_size": 0}, False),
    ({"device_name": "/dev/b", "swap_size": 1}, True)])
def test_swap_needs_a_device_and_a_size(swap, usable):
    assert driver.swap_is_usable(swap) is usable


def test_a_driver_is_found_by_its_short_name_and_by_its_whole_one(tmp_path):
    conf = make_conf(tmp_path, overrides={(None, "compute_driver"): "fake.FakeDriver"})
    for name in (None, "nova_lite.virt.fake.FakeDriver"):
        assert isinstance(driver.load_compute_driver(VirtAPI(), name, conf=conf), fake.FakeDriver)
    assert driver.compute_driver_matches("FakeDriver", conf=conf)
    assert not driver.compute_driver_matches("XenAPIDriver", conf=conf)


@pytest.mark.parametrize(("name", "told"), [
    ("no.SuchDriver", "Unable to load"), ("nothing", "Unable to load"), ("event.LifecycleEvent", "not a ComputeDriver"),
    ("event.NAMES", "not a ComputeDriver"), ("", "required")])
def test_a_driver_that_cannot_be_had_ends_the_process_with_one_line(tmp_path, caplog, name, told):
    conf = make_conf(tmp_path, overrides={(None, "compute_driver"): None})
    with pytest.raises(SystemExit) as ended:
        driver.load_compute_driver(VirtAPI(), name, conf=conf)
    assert ended.value.code == 1
    assert told in caplog.messages[-1]


@pytest.mark.parametrize("path", ["nova_lite.virt.fake.FakeDriver", "nova_lite.virt.xenapi.driver.XenAPIDriver"])
def test_drivers_take_what_the_interface_says(path):
    made = importutils.import_class(path)
    for name, declared in inspect.getmembers(driver.ComputeDriver, inspect.isfunction):
        if not name.startswith("_"):
            wanted, taken = ([(each.name, each.default) for each in inspect.signature(method).parameters.values()]
                             for method in (declared, getattr(made, name)))
            assert taken == wanted, name


# --- The driver without a hypervisor ---

GUEST = {"name": "instance-1", "uuid": "one"}


def test_the_fake_driver_has_the_figures_that_tests_of_others_know():
    made = fake.FakeDriver(VirtAPI())
    assert made.get_available_resource("fake-mini") == {
        "vcpus": 1, "memory_mb": 8192, "local_gb": 1028, "vcpus_used": 0, "memory_mb_used": 0, "local_gb_used": 0,
        "hypervisor_type": "fake", "hypervisor_version": "1.0", "hypervisor_hostname": "fake-mini", "cpu_info": "?"}
    assert made.get_available_resource("unknown") == {}
    assert made.get_volume_connector(GUEST) == {"ip": "127.0.0.1", "initiator": "fake", "host": "fakehost"}
    console = made.get_vnc_console(GUEST)
    assert (console["host"], console["port"]) == ("fakevncconsole.com", 6969)
    assert len(made.get_console_output(GUEST).split("\n")) == 3
    assert made.capabilities == {"has_imagecache": True, "supports_recreate": True}


def test_its_nodes_can_be_set_and_restored():
    made = fake.FakeDriver(VirtAPI())
    assert made.get_host_stats()["hypervisor_hostname"] == "fake-mini"
    made.set_nodes(["a", "b"])
    assert made.get_available_nodes() == ["a", "b"]
    assert [stats["hypervisor_hostname"] for stats in made.get_host_stats()] == ["a", "b"]
    made.restore_nodes()
    assert made.get_available_nodes() == ["fake-mini"]


def test_it_knows_the_guests_it_was_given_only():
    made = fake.FakeDriver(VirtAPI())
    made.spawn(None, GUEST, {}, [], None)
    assert (made.get_info(GUEST)["state"], made.list_instances(), made.list_instance_uuids()) == (
        power_state.RUNNING, ["instance-1"], ["one"])
    assert (made.get_num_instances(), made.instance_exists("instance-1")) == (1, True)
    made.destroy(GUEST, [])
    made.destroy(GUEST, [])
    with pytest.raises(exception.InstanceNotFound):
        made.get_info(GUEST)
    with pytest.raises(exception.InstanceNotRunning):
        made.snapshot(None, GUEST, "image", None)


@pytest.mark.parametrize("name", ["ensure_filtering_rules_for_instance", "unfilter_instance"])
def test_it_filters_nothing(name):
    with pytest.raises(NotImplementedError):
        getattr(fake.FakeDriver(VirtAPI()), name)(GUEST, [])
