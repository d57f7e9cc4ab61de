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


def test_what_may_be_given_away_beyond_what_there_is_is_told_apart():
    nodes = [node("h1", 1000, 100, -200, 50), node("h2", 1000, 100, 400, 100)]

    report = capacities.capacities(nodes, [flavor(100, 10, 0)], 0, ram_ratio=1.5, disk_ratio=1.0)

    assert report["ram_free"] == {"total_mb": 400, "units_by_mb": {"100": 4}}
    assert report["ram_allocatable"] == {"total_mb": 300 + 900, "units_by_mb": {"100": 3 + 9}}
    assert "disk_allocatable" not in report


def test_room_is_counted_with_what_may_be_given_away_beyond_what_there_is():
    report = {"ram_free": {"units_by_mb": {"512": 0}}, "ram_allocatable": {"units_by_mb": {"512": 4}},
              "disk_free": {"units_by_mb": {"1024": 3}}}

    assert capacities.room_for(report, 512, 1024) == 3
    assert capacities.room_for(report, 512, 0) == 4
    assert capacities.room_for(report, 4096, 2048) is None, "of these sizes nothing was told"


def test_what_is_sent_away_is_taken_off_all_that_was_told():
    report = {kind: {"total_mb": 1024, "units_by_mb": {"512": 2}} for kind in ("ram_free", "ram_allocatable")}

    after = capacities.debit(report, 512, 0, 1)

    assert {kind: free["units_by_mb"]["512"] for kind, free in after.items()} == {"ram_free": 1, "ram_allocatable": 1}


@pytest.mark.parametrize(("root_is_volume", "disk_mb"), [(False, 30 * 1024), (True, 10 * 1024), (None, 30 * 1024)])
def test_a_root_disk_that_is_a_volume_takes_no_disk_of_hosts(root_is_volume, disk_mb):
    spec = {"instance_type": flavor(512, 20, 10), "root_is_volume": root_is_volume}

    assert capacities.wanted_mb(spec) == (512, disk_mb)
