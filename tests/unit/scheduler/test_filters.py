"""Which hosts pass, which is best."""

import json

import pytest

from nova_lite import exception
from nova_lite.scheduler import filters, weights
from nova_lite.scheduler.filters import base
from nova_lite.scheduler.host_manager import HostManager, HostState

FLAVOR = {"id": 5, "name": "m", "memory_mb": 1024, "vcpus": 2, "root_gb": 10, "ephemeral_gb": 10, "extra_specs": {}}
CLASSES = {found.__name__: found for found in filters.all_filters()}


def state(host="h1", node="n1", **values):
    made = HostState(host, node)
    made.service, made.service_up = {"disabled": False}, True
    for name, value in values.items():
        setattr(made, name, value)
    return made


def passes(cell, name, host, *, extra_specs=None, flavor=None, **properties):
    properties.setdefault("request_spec", {})
    request = {"context": cell.context(), "instance_type": {**FLAVOR, **(flavor or {}),
                                                            "extra_specs": extra_specs or {}}, **properties}
    return bool(CLASSES[name](cell.services).filter_all([host], request))


def test_every_filter_of_the_reference_is_there(cell):
    assert set(CLASSES) >= {
        "RetryFilter", "AvailabilityZoneFilter", "RamFilter", "ComputeFilter", "ComputeCapabilitiesFilter",
        "ImagePropertiesFilter", "CoreFilter", "DiskFilter", "IoOpsFilter", "NumInstancesFilter", "SameHostFilter",
        "DifferentHostFilter", "SimpleCIDRAffinityFilter", "GroupAntiAffinityFilter", "IsolatedHostsFilter",
        "AggregateInstanceExtraSpecsFilter", "AggregateMultiTenancyIsolation", "TypeAffinityFilter",
        "AggregateTypeAffinityFilter", "AllHostsFilter", "JsonFilter", "TrustedFilter"}


def test_the_default_filters_are_loaded_in_order(cell):
    assert [type(one).__name__ for one in base.load_filters(cell.services)] == cell.conf.scheduler_default_filters


def test_an_unknown_filter_is_said_to_be_missing(make_cell):
    cell = make_cell(scheduler_default_filters=["NoSuchFilter"])

    with pytest.raises(exception.SchedulerHostFilterNotFound, match="NoSuchFilter"):
        base.load_filters(cell.services)


@pytest.mark.parametrize(("free_mb", "passing"), [(0, False), (1, True), (-512 + 1, False)])
def test_ram_may_be_promised_one_and_a_half_times(cell, free_mb, passing):
    host = state(total_usable_ram_mb=2047, free_ram_mb=free_mb)

    assert passes(cell, "RamFilter", host) is passing
    if passing:
        assert host.limits == {"memory_mb": 2047 * 1.5}


@pytest.mark.parametrize(("total", "used", "passing"), [(1, 14, True), (1, 15, False), (0, 99, True)])
def test_cores_may_be_promised_sixteen_times(cell, total, used, passing):
    host = state(vcpus_total=total, vcpus_used=used)

    assert passes(cell, "CoreFilter", host) is passing
    assert host.limits == ({"vcpu": 16.0} if passing and total else {})


@pytest.mark.parametrize(("free_gb", "passing"), [(20, True), (19, False)])
def test_disk_is_promised_once(cell, free_gb, passing):
    host = state(total_usable_disk_gb=100, free_disk_mb=free_gb * 1024)

    assert passes(cell, "DiskFilter", host) is passing
    assert host.limits == ({"disk_gb": 100.0} if passing else {})


@pytest.mark.parametrize(("name", "values", "passing"), [
    ("IoOpsFilter", {"num_io_ops": 7}, True), ("IoOpsFilter", {"num_io_ops": 8}, False),
    ("NumInstancesFilter", {"num_instances": 49}, True), ("NumInstancesFilter", {"num_instances": 50}, False),
    ("ComputeFilter", {}, True), ("ComputeFilter", {"service_up": False}, False),
    ("ComputeFilter", {"service": {"disabled": True}}, False),
    ("ComputeFilter", {"capabilities": {"enabled": False}}, False),
    ("ComputeFilter", {"capabilities": {"enabled": True}}, True), ("AllHostsFilter", {"service_up": False}, True)])
def test_by_what_the_host_says(cell, name, values, passing):
    assert passes(cell, name, state(**values)) is passing


@pytest.mark.parametrize(("retry", "passing"), [
    (None, True), ({"hosts": []}, True), ({"hosts": [["h1", "n2"]]}, True), ({"hosts": [["h1", "n1"]]}, False),
    ({"hosts": [("h1", "n1")]}, False)])
def test_a_node_is_tried_once(cell, retry, passing):
    assert passes(cell, "RetryFilter", state(), retry=retry) is passing


@pytest.mark.parametrize(("zone", "aggregates", "passing"), [
    (None, [], True), ("nova", [], True), ("east", [], False), ("east", [{"availability_zone": "east"}], True),
    ("nova", [{"availability_zone": "east"}], False), ("east", [{"availability_zone": "west"}, {"x": "y"}], False)])
def test_zones_come_from_aggregates(cell, zone, aggregates, passing):
    host = state(aggregates=[{"metadetails": metadata} for metadata in aggregates])
    spec = {"instance_properties": {"availability_zone": zone}}

    assert passes(cell, "AvailabilityZoneFilter", host, request_spec=spec) is passing


REQUIREMENTS = [
    ("1", "1", True), ("", "1", False), ("3", "1", False), ("222", "2", False), ("4", "= 2", True), ("2", "= 3", False),
    ("124", "== 123", False), ("123", "== 123", True), ("99", "!= 99", False), ("98", "!= 99", True),
    ("100", ">= 99", True), ("99", ">= 100", False), ("2", "<= 10", True), ("12", "<= 10", False),
    ("1", "s== 1", True), ("222", "s== 2", False), ("abc", "s!= abc", False), ("a", "s< b", True), ("b", "s< a", False),
    ("b", "s> a", True), ("2", "s<= 10", False), ("2", "s>= 10", True), ("12311321", "<in> 11", True),
    ("12310321", "<in> 11", False), ("12", "<or> 11 <or> 12", True), ("13", "<or> 11 <or> 12", False),
    ("12", "<or> 12", True), ("abc", ">= 1", False), ("", ">=", False)]


@pytest.mark.parametrize(("value", "requirement", "satisfied"), REQUIREMENTS)
def test_requirements(value, requirement, satisfied):
    assert base.satisfies(value, requirement) is satisfied


@pytest.mark.parametrize(("specs", "passing"), [
    ({}, True), ({"hypervisor_type": "xen"}, True), ({"capabilities:hypervisor_type": "s== kvm"}, False),
    ({"capabilities:stats:io_workload": "<= 2"}, True), ({"capabilities:stats:io_workload": "<= 0"}, False),
    ({"other:hypervisor_type": "kvm"}, True), ({"capabilities:no_such": "1"}, False),
    ({"capabilities:free_ram_mb": ">= 500"}, True), ({"capabilities:free_ram_mb:deeper": "1"}, False)])
def test_extra_specs_are_compared_with_capabilities(cell, specs, passing):
    host = state(capabilities={"hypervisor_type": "xen", "stats": {"io_workload": "1"}}, free_ram_mb=600)

    assert passes(cell, "ComputeCapabilitiesFilter", host, extra_specs=specs) is passing


@pytest.mark.parametrize(("properties", "supported", "passing"), [
    ({}, [], True), ({"architecture": "x86_64"}, [["x86_64", "xapi", "xen"]], True),
    ({"architecture": "arm"}, [["x86_64", "xapi", "xen"]], False), ({"vm_mode": "hvm"}, [], False),
    ({"architecture": "i686", "vm_mode": "hvm"}, [["i686", "xapi", "xen"], ["x86_64", "xapi", "hvm"]], False),
    ({"architecture": "x86_64", "hypervisor_type": "xapi", "vm_mode": "pv"}, [["x86_64", "xapi", "xen"]], True)])
def test_images_need_a_host_that_supports_them(cell, properties, supported, passing):
    host = state(supported_instances=supported)

    assert passes(cell, "ImagePropertiesFilter", host, request_spec={"image": {"properties": properties}}) is passing


def test_hints_about_other_instances(cell):
    here = cell.instance(host="h1")
    hints = {"same_host": [here.uuid], "different_host": here.uuid}

    def both(host):
        return (passes(cell, "SameHostFilter", state(host), scheduler_hints=hints),
                passes(cell, "DifferentHostFilter", state(host), scheduler_hints=hints))

    assert both("h1") == (True, False)
    assert both("h2") == (False, True)
    assert passes(cell, "SameHostFilter", state("h2"))


@pytest.mark.parametrize(("hints", "passing"), [
    ({}, True), ({"build_near_host_ip": "10.8.1.9"}, True), ({"build_near_host_ip": "10.8.2.9"}, False),
    ({"build_near_host_ip": "10.8.2.9", "cidr": "/16"}, True)])
def test_hosts_near_an_address(cell, hints, passing):
    assert passes(cell, "SimpleCIDRAffinityFilter", state(host_ip="10.8.1.1"), scheduler_hints=hints) is passing


@pytest.mark.parametrize(("name", "hints"), [
    ("SimpleCIDRAffinityFilter", {"build_near_host_ip": "nonsense"}),
    ("SimpleCIDRAffinityFilter", {"build_near_host_ip": 7}),
    ("SameHostFilter", {"same_host": 7}), ("DifferentHostFilter", {"different_host": [{"a": 1}]})])
def test_a_bad_hint_is_the_users_mistake(cell, name, hints):
    with pytest.raises(exception.InvalidInput):
        passes(cell, name, state(host_ip="10.8.1.1"), scheduler_hints=hints)


@pytest.mark.parametrize(("query", "passing"), [
    (["and", [">=", "$free_ram_mb", 1024], ["in", "$host", "h1", "h2"]], True),
    (["and", [">=", "$free_ram_mb", 9999], ["in", "$host", "h1"]], False),
    (["or", ["=", "$host", "h9"], ["not", ["<", "$free_disk_mb", 100]]], True),
    (["=", "$capabilities.stats.x", "7"], True), (["=", "$no_such", None], False), ([], True)])
def test_a_query_decides(cell, query, passing):
    host = state(free_ram_mb=2048, free_disk_mb=500, capabilities={"stats": {"x": "7"}})

    assert passes(cell, "JsonFilter", host, scheduler_hints={"query": json.dumps(query)}) is passing


@pytest.mark.parametrize("query", ["{", '["nonsense", 1, 2]', '[">", "$host", 5]', "[" * 100_000])
def test_a_query_that_makes_no_sense_is_the_users_mistake(cell, query):
    with pytest.raises(exception.InvalidInput):
        passes(cell, "JsonFilter", state(), scheduler_hints={"query": query})


@pytest.mark.parametrize(("image", "host", "passing"), [
    ("special", "lonely", True), ("special", "other", False), ("plain", "lonely", False), ("plain", "other", True)])
def test_isolated_images_and_hosts_belong_together(make_cell, image, host, passing):
    cell = make_cell(isolated_images=["special"], isolated_hosts=["lonely"])

    assert passes(cell, "IsolatedHostsFilter", state(host),
                  request_spec={"instance_properties": {"image_ref": image}}) is passing


@pytest.mark.parametrize(("name", "metadata", "passing"), [
    ("AggregateInstanceExtraSpecsFilter", {"ssd": "true"}, True), ("AggregateInstanceExtraSpecsFilter", {}, False),
    ("AggregateInstanceExtraSpecsFilter", {"ssd": "false"}, False),
    ("AggregateMultiTenancyIsolation", {}, True), ("AggregateMultiTenancyIsolation", {"filter_tenant_id": "red"}, True),
    ("AggregateMultiTenancyIsolation", {"filter_tenant_id": "blue"}, False),
    ("AggregateTypeAffinityFilter", {}, True), ("AggregateTypeAffinityFilter", {"instance_type": "m"}, True),
    ("AggregateTypeAffinityFilter", {"instance_type": "xl"}, False)])
def test_by_what_is_said_of_aggregates(cell, name, metadata, passing):
    host = state(aggregates=[{"metadetails": metadata}])
    spec = {"instance_properties": {"project_id": "red"}}

    assert passes(cell, name, host, request_spec=spec,
                  extra_specs={"aggregate_instance_extra_specs:ssd": "true", "other:x": "1"}) is passing


def test_one_flavor_a_host(cell):
    small = cell.instance(host="h1")

    assert passes(cell, "TypeAffinityFilter", state("h1"), flavor={"id": small.instance_type_id})
    assert not passes(cell, "TypeAffinityFilter", state("h1"), flavor={"id": 99})
    assert passes(cell, "TypeAffinityFilter", state("h2"), flavor={"id": 99})


def test_a_group_is_spread(cell):
    assert not passes(cell, "GroupAntiAffinityFilter", state("h1"), group_hosts=["h1"])
    assert passes(cell, "GroupAntiAffinityFilter", state("h2"), group_hosts=["h1"])


@pytest.mark.parametrize(("multiplier", "best"), [(1.0, "large"), (-1.0, "small")])
def test_memory_weighs(make_cell, multiplier, best):
    cell = make_cell(ram_weight_multiplier=multiplier)
    hosts = [state("small", free_ram_mb=512), state("large", free_ram_mb=4096)]

    weighed = weights.weigh(weights.load_weighers(cell.services), hosts, {})

    assert weighed[0].state.host == best
    assert weighed[0].weight == multiplier * weighed[0].state.free_ram_mb


FILL_FIRST = "nova_lite.scheduler.least_cost.compute_fill_first_cost_fn"
NOOP = "nova_lite.scheduler.least_cost.noop_cost_fn"


@pytest.mark.parametrize(("options", "best", "weight"), [
    ({"compute_fill_first_cost_fn_weight": 2.0}, "small", -1024),
    ({"compute_fill_first_cost_fn_weight": -2.0}, "large", 8192),
    ({"least_cost_functions": [FILL_FIRST]}, "large", 4096),
    ({"least_cost_functions": [NOOP], "noop_cost_fn_weight": 3.0}, "small", -3),
])
def test_least_costs_take_over_from_weighers(make_cell, options, best, weight):
    cell = make_cell(ram_weight_multiplier=0.0, **options)
    hosts = [state("small", free_ram_mb=512), state("large", free_ram_mb=4096)]

    weighed = weights.weigh(weights.load_weighers(cell.services), hosts, {})

    assert (weighed[0].state.host, weighed[0].weight) == (best, weight)


def test_a_host_state_is_what_the_node_reported(cell):
    cell.add_host("h1", memory_mb=4096, free_ram_mb=-10, local_gb=50, local_gb_used=20, free_disk_gb=30,
                  disk_available_least=25, vcpus=8, vcpus_used=3,
                  stats={"num_instances": "3", "io_workload": "1", "num_proj_red": "2", "num_os_type_linux": "3",
                         "num_vm_active": "3", "num_task_None": "2"})

    (found,) = HostManager(cell.services).get_all_host_states(cell.context())

    assert (found.total_usable_ram_mb, found.free_ram_mb, found.free_disk_mb) == (4096, -10, 25 * 1024)
    assert (found.vcpus_total, found.vcpus_used, found.num_instances, found.num_io_ops) == (8, 3, 3, 1)
    assert found.num_instances_by_project == {"red": 2}
    assert found.vm_states == {"active": 3}
    assert found.service_up


def test_nodes_that_vanish_are_forgotten(cell):
    cell.add_host("h1")
    manager = HostManager(cell.services)
    assert len(manager.get_all_host_states(cell.context())) == 1

    node = cell.db.compute_node_get_all(cell.admin())[0]
    cell.db.compute_node_delete(cell.admin(), node["id"])

    assert manager.get_all_host_states(cell.context()) == []


def test_fanned_out_capabilities_are_a_hint(cell):
    cell.add_host("h1")
    manager = HostManager(cell.services)

    manager.update_service_capabilities("compute", "h1", {"enabled": False})
    manager.update_service_capabilities("volume", "h1", {"enabled": True})

    (found,) = manager.get_all_host_states(cell.context())
    assert found.capabilities["enabled"] is False
