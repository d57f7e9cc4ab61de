import pytest

from nova_lite.cells import capacities


def node(host, total_mb, total_gb, free_mb, free_gb):
    return {"host": host, "memory_mb": total_mb, "local_gb": total_gb, "free_ram_mb": free_mb, "free_disk_gb": free_gb}


def flavor(memory_mb, root_gb, ephemeral_gb):
    return {"memory_mb": memory_mb, "root_gb": root_gb, "ephemeral_gb": ephemeral_gb}


NODES = [node("h1", 1024, 100, 0, 0), node("h2", 1024, 100, -1, -1), node("h3", 1024, 100, 1024, 100),
         node("h4", 1024, 100, 300, 30)]
FLAVORS = [flavor(0, 0, 0), flavor(50, 12, 13), flavor(50, 2, 4), flavor(10, 20, 5)]


@pytest.mark.parametrize(("reserve_percent", "ram_units", "disk_units"), [(0, 26, 5), (50, 10, 2), (100, 0, 0)])
def test_units_of_each_size_are_counted_host_by_host(reserve_percent, ram_units, disk_units):
    report = capacities.capacities(NODES, FLAVORS, reserve_percent)

    assert report["ram_free"]["units_by_mb"]["50"] == ram_units
    assert report["disk_free"]["units_by_mb"][str(25 * 1024)] == disk_units
    assert report["ram_free"]["units_by_mb"]["0"] == report["disk_free"]["units_by_mb"]["0"] == 0


def test_D16c_negative_free_memory_does_not_lower_the_total():
    # The reference's own vector has 1323 and 129 GB, the -1 of h2 taken off.
    report = capacities.capacities(NODES, FLAVORS, 0)

    assert report["ram_free"]["total_mb"] == 1324
    assert report["disk_free"]["total_mb"] == 130 * 1024


def test_nodes_of_one_host_are_one_pool():
    nodes = [{**one, "host": host} for one, host in zip(NODES, ["a", "a", "b", "b"], strict=True)]

    report = capacities.capacities(nodes, FLAVORS, 50)

    assert report["ram_free"]["units_by_mb"]["50"] == 6
    assert report["disk_free"]["units_by_mb"][str(25 * 1024)] == 1


def test_a_cell_without_hosts_has_no_capacities_at_all():
    assert capacities.capacities([], FLAVORS, 0) == {}


def test_flavor_sizes_are_string_keys_and_disk_counts_root_and_ephemeral():
    report = capacities.capacities(NODES, [flavor(1024, 10, 100), flavor(2048, 20, 200)], 0)

    assert set(report["ram_free"]["units_by_mb"]) == {"1024", "2048"}
    assert set(report["disk_free"]["units_by_mb"]) == {"112640", "225280"}


def test_a_node_with_unknown_free_disk_counts_as_full():
    report = capacities.capacities([node("h", 1024, 100, 1024, None)], FLAVORS, 0)

    assert report["disk_free"]["total_mb"] == 0


def test_reports_are_added_key_by_key():
    ours = {"ram_free": {"total_mb": 5, "units_by_mb": {"512": 1}}}

    capacities.merge(ours, {"ram_free": {"total_mb": 7, "units_by_mb": {"512": 2, "1024": 3}}, "disk_free": {}})

    assert ours == {"ram_free": {"total_mb": 12, "units_by_mb": {"512": 3, "1024": 3}}, "disk_free": {}}


def test_merging_leaves_what_is_merged_alone():
    child = {"ram_free": {"total_mb": 7, "units_by_mb": {"512": 2}}}

    merged = capacities.merge({}, child)
    capacities.merge(merged, child)

    assert child == {"ram_free": {"total_mb": 7, "units_by_mb": {"512": 2}}}


def test_D16b_a_build_sent_to_a_cell_is_taken_off_its_report():
    report = {"ram_free": {"total_mb": 2048, "units_by_mb": {"512": 4, "1024": 2, "100": 20}}}

    after = capacities.debit(report, ram_mb=512, disk_mb=0, count=2)

    assert after == {"ram_free": {"total_mb": 1024, "units_by_mb": {"512": 2, "1024": 1, "100": 9}}}
    assert report["ram_free"]["total_mb"] == 2048
