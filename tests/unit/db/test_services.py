"""Services, compute nodes, aggregates."""

import pytest

from nova_lite import exception

NODE = {"host": "h1", "hypervisor_hostname": "n1", "vcpus": 4, "memory_mb": 1000, "local_gb": 10, "vcpus_used": 1,
        "memory_mb_used": 100, "local_gb_used": 1, "hypervisor_type": "xen", "hypervisor_version": 0,
        "free_ram_mb": 900, "free_disk_gb": 9, "current_workload": 0, "running_vms": 2}


@pytest.fixture
def compute(db, ctxt):
    def make(host="h1", **values):
        return db.service_create(ctxt, {"host": host, "binary": "nova-compute", "topic": "compute", **values})

    return make


def test_a_service_is_found_by_what_it_is(db, ctxt, compute):
    service = compute()

    assert db.service_get(ctxt, service["id"]) == service
    assert db.service_get_by_args(ctxt, "h1", "nova-compute") == service
    assert db.service_get_by_compute_host(ctxt, "h1")["id"] == service["id"]
    with pytest.raises(exception.HostBinaryNotFound):
        db.service_get_by_args(ctxt, "h1", "nova-cells")
    with pytest.raises(exception.ComputeHostNotFound):
        db.service_get_by_compute_host(ctxt, "h2")
    with pytest.raises(exception.ServiceBinaryExists):
        compute()


def test_new_services_start_disabled_if_so_configured(services, compute):
    services.conf.set_override("enable_new_services", False)

    assert compute()["disabled"] is True


def test_a_heartbeat_is_a_sign_of_life(db, ctxt, compute, clock):
    service = compute()
    clock.advance(10)

    db.service_heartbeat(ctxt, service["id"])
    updated = db.service_update(ctxt, service["id"], {"report_count": 5})

    assert updated["report_count"] == 5
    assert updated["last_seen_up"] == updated["updated_at"] == clock.naive()


def test_services_are_listed_by_what_is_asked(db, ctxt, compute):
    compute("h1")
    compute("h2", disabled=True)
    db.service_create(ctxt, {"host": "h1", "binary": "nova-cells", "topic": "cells"})

    def found(rows):
        return [(row["host"], row["topic"]) for row in rows]

    assert len(db.service_get_all(ctxt)) == 3
    assert found(db.service_get_all(ctxt, disabled=True)) == [("h2", "compute")]
    assert found(db.service_get_all_by_topic(ctxt, "compute")) == [("h1", "compute")]
    assert found(db.service_get_all_by_host(ctxt, "h1")) == [("h1", "compute"), ("h1", "cells")]
    assert len(db.service_get_all_by_binary(ctxt, "nova-compute", include_disabled=True)) == 2


def test_zones_come_from_aggregates(db, ctxt, compute):
    compute("h1")
    compute("h2")
    db.service_create(ctxt, {"host": "h1", "binary": "nova-cells", "topic": "cells"})
    aggregate = db.aggregate_create(ctxt, {"name": "a"}, {"availability_zone": "east"})
    db.aggregate_host_add(ctxt, aggregate["id"], "h1")

    zones = {(row["host"], row["topic"]): row["availability_zone"] for row in db.service_get_all(ctxt)}

    assert zones == {("h1", "compute"): "east", ("h2", "compute"): "nova", ("h1", "cells"): "internal"}


def test_removing_a_service_removes_its_nodes(db, ctxt, compute):
    service = compute()
    db.compute_node_create(ctxt, {**NODE, "service_id": service["id"]})

    db.service_destroy(ctxt, service["id"])

    assert db.compute_node_get_all(ctxt) == []
    with pytest.raises(exception.ServiceNotFound):
        db.service_get(ctxt, service["id"])
    compute()


def test_a_node_made_twice_is_one_node(db, ctxt):
    first = db.compute_node_create(ctxt, NODE)

    second = db.compute_node_create(ctxt, {**NODE, "vcpus": 8})

    assert (second["id"], second["uuid"], second["vcpus"]) == (first["id"], first["uuid"], 8)


def test_stats_are_replaced_by_key_and_pruned_when_asked(db, ctxt):
    node = db.compute_node_create(ctxt, {**NODE, "stats": {"a": "1", "b": "2"},
                                         "supported_instances": [["x86_64", "xapi", "hvm"]]})

    kept = db.compute_node_update(ctxt, node["id"], {"stats": {"b": "3"}})
    pruned = db.compute_node_update(ctxt, node["id"], {"stats": {"c": "4"}}, prune_stats=True)

    assert kept["stats"] == {"a": "1", "b": "3"}
    assert pruned["stats"] == {"c": "4"}
    assert db.compute_node_get(ctxt, node["uuid"])["supported_instances"] == [["x86_64", "xapi", "hvm"]]


def test_an_update_without_changes_refreshes_a_node(db, ctxt, clock):
    node = db.compute_node_create(ctxt, NODE)
    clock.advance(30)

    assert db.compute_node_update(ctxt, node["id"], {})["updated_at"] == clock.naive()


def test_nodes_are_found(db, ctxt):
    node = db.compute_node_create(ctxt, NODE)
    db.compute_node_create(ctxt, {**NODE, "host": "h2", "hypervisor_hostname": "n_2"})

    assert db.compute_node_get_by_host_and_nodename(ctxt, "h1", "n1")["id"] == node["id"]
    assert [row["host"] for row in db.compute_node_search_by_hypervisor(ctxt, "n")] == ["h1", "h2"]
    assert [row["host"] for row in db.compute_node_search_by_hypervisor(ctxt, "_")] == ["h2"]
    assert len(db.compute_node_get_all_by_host(ctxt, "h1")) == 1
    with pytest.raises(exception.ComputeHostNotFound):
        db.compute_node_get_by_host_and_nodename(ctxt, "h1", "n9")


def test_statistics_count_enabled_hosts_only(db, ctxt, compute):
    compute("h1")
    compute("h2", disabled=True)
    for host, name in (("h1", "n1"), ("h1", "n2"), ("h2", "n3"), ("h3", "n4")):
        db.compute_node_create(ctxt, {**NODE, "host": host, "hypervisor_hostname": name})

    assert db.compute_node_statistics(ctxt) == {
        "count": 2, "vcpus": 8, "memory_mb": 2000, "local_gb": 20, "vcpus_used": 2, "memory_mb_used": 200,
        "local_gb_used": 2, "free_ram_mb": 1800, "free_disk_gb": 18, "current_workload": 0, "running_vms": 4,
        "disk_available_least": 0}


def test_aggregates(db, ctxt):
    aggregate = db.aggregate_create(ctxt, {"name": "pool"}, {"a": "1", "b": "2"})
    db.aggregate_host_add(ctxt, aggregate["id"], "h1")
    db.aggregate_metadata_add(ctxt, aggregate["id"], {"b": "3", "c": "4"})
    db.aggregate_metadata_delete(ctxt, aggregate["id"], "a")

    [found] = db.aggregate_get_by_host(ctxt, "h1")
    assert (found["name"], found["hosts"], found["metadetails"]) == ("pool", ["h1"], {"b": "3", "c": "4"})
    assert db.aggregate_get_by_host(ctxt, "h1", key="zzz") == []
    with pytest.raises(exception.AggregateNameExists):
        db.aggregate_create(ctxt, {"name": "pool"})
    with pytest.raises(exception.AggregateHostExists):
        db.aggregate_host_add(ctxt, aggregate["id"], "h1")
    with pytest.raises(exception.AggregateMetadataNotFound):
        db.aggregate_metadata_delete(ctxt, aggregate["id"], "a")
    db.aggregate_host_delete(ctxt, aggregate["id"], "h1")
    with pytest.raises(exception.AggregateHostNotFound):
        db.aggregate_host_delete(ctxt, aggregate["id"], "h1")
    db.aggregate_delete(ctxt, aggregate["id"])
    with pytest.raises(exception.AggregateNotFound):
        db.aggregate_get(ctxt, aggregate["id"])


def test_agent_builds(db, ctxt):
    build = {"hypervisor": "xen", "os": "linux", "architecture": "x86_64", "version": "1", "url": "u", "md5hash": "m"}
    db.agent_build_create(ctxt, build)

    assert db.agent_build_get_by_triple(ctxt, "xen", "linux", "x86_64")["version"] == "1"
    assert db.agent_build_get_by_triple(ctxt, "xen", "windows", "x86_64") is None
    with pytest.raises(exception.AgentBuildExists):
        db.agent_build_create(ctxt, build)
