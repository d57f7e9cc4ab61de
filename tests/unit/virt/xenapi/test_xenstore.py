import pytest

from nova_lite import exception
from tests.fixtures.xen_bench import make_network_info


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture(scope="module")
def lasting(lasting_bench):
    return lasting_bench.spawn(power_on=False)


@pytest.fixture
def instance(bench, lasting):
    """An instance that is halted and has nothing in its xenstore."""
    bench.vmops.clear_param_xenstore(lasting)
    return lasting


def test_what_is_written_is_read(bench, instance):
    bench.vmops.write_to_param_xenstore(instance, {"vm-data/a": {"x": [1, None]}, "vm-data/b": "text"})
    assert bench.vmops.read_from_param_xenstore(instance) == {"vm-data/a": {"x": [1, None]}, "vm-data/b": "text"}
    assert bench.vmops.read_from_param_xenstore(instance, "vm-data/b") == {"vm-data/b": "text"}
    assert bench.vmops.read_from_param_xenstore(instance, ["vm-data/b", "none"]) == {"vm-data/b": "text", "none": None}
    assert bench.vmops.read_partial_from_param_xenstore(instance, "vm-data/a") == {"vm-data/a": {"x": [1, None]}}


def test_writing_twice_replaces(bench, instance):
    bench.vmops.add_to_param_xenstore(instance, "vm-data/a", 1)
    bench.vmops.add_to_param_xenstore(instance, "vm-data/a", 2)
    assert bench.vmops.read_from_param_xenstore(instance) == {"vm-data/a": 2}


def test_keys_are_removed_one_many_or_all(bench, instance):
    bench.vmops.write_to_param_xenstore(instance, {"a": 1, "b": 2, "c": 3, "d": 4})
    bench.vmops.remove_from_param_xenstore(instance, "a")
    bench.vmops.remove_from_param_xenstore(instance, ["b", "c", "was never there"])
    assert bench.vmops.read_from_param_xenstore(instance) == {"d": 4}


def test_defect_23_clearing_removes_everything_and_a_host_name_can_be_written_twice(bench, instance):
    vm_ref = bench.vmops.finder.require(instance)
    bench.vmops.inject_hostname(instance, vm_ref, "first")
    bench.vmops.inject_hostname(instance, vm_ref, "second")
    assert bench.vmops.read_from_param_xenstore(instance) == {"vm-data/hostname": "second"}
    bench.vmops.clear_param_xenstore(instance)
    assert bench.vmops.read_from_param_xenstore(instance) == {}


@pytest.mark.parametrize("by", ["reference", "name", "instance"])
def test_vms_are_named_by_reference_name_or_instance(bench, instance, by):
    vm = {"reference": bench.vmops.finder.require(instance), "name": instance["name"], "instance": instance}[by]
    bench.vmops.add_to_param_xenstore(vm, "vm-data/a", 1)
    assert bench.vmops.read_from_param_xenstore(vm) == {"vm-data/a": 1}


def test_a_vm_that_is_not_there_is_not_found(bench):
    with pytest.raises(exception.NotFound):
        bench.vmops.read_from_param_xenstore("nobody")


def test_network_configuration_is_written_for_every_interface(bench, instance):
    network_info = make_network_info(2)
    bench.vmops.inject_network_info(instance, network_info)
    told = bench.vmops.read_from_param_xenstore(instance)
    assert {value["mac"] for value in told.values()} == {vif["address"] for vif in network_info}


def test_defect_36_every_address_names_its_gateway(bench, instance):
    bench.vmops.inject_network_info(instance, make_network_info())
    told, = bench.vmops.read_from_param_xenstore(instance).values()
    assert told["ip6s"][0]["gateway"] == told["gateway_v6"] == "fe80::1"
    assert told["ips"][0]["gateway"] == told["gateway"]


def test_metadata_is_changed_where_the_guest_finds_it(bench, instance):
    bench.vmops.change_instance_metadata(instance, {"my key": ["+", "red"]})
    assert bench.vmops.read_from_param_xenstore(instance) == {"vm-data/user-metadata/my_key": "red"}
    bench.vmops.change_instance_metadata(instance, {"my key": ["-"]})
    assert bench.vmops.read_from_param_xenstore(instance) == {}


def test_the_live_store_of_a_halted_vm_is_not_found(bench, instance):
    with pytest.raises(exception.InstanceNotFound):
        bench.vmops.read_from_xenstore(instance, "vm-data")
