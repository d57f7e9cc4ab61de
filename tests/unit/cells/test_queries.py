"""Questions asked at the top about hosts, services and tasks of all cells."""

import datetime

import pytest

from nova_lite import exception, objects
from nova_lite.cells import utils
from tests.unit.cells.tree import eventually

WEST, RACK1 = "api!west", "api!west!rack1"


@pytest.fixture(scope="module")
def lasting_tree(make_lasting_tree):
    tree = make_lasting_tree({"api": None, "west": "api", "rack1": "west"})
    tree.know_each_other()
    for name, host in (("west", "h1"), ("rack1", "h2")):
        cell = tree[name]
        cell.db.service_create(cell.context(), {"host": host, "binary": "nova-compute", "topic": "compute",
                                                "disabled": name == "west"})
        node = objects.ComputeNode(
            cell.context(), host=host, hypervisor_hostname=f"{host}.local", hypervisor_type="xen",
            hypervisor_version=0, vcpus=4, memory_mb=1024, local_gb=10, vcpus_used=1, memory_mb_used=24,
            local_gb_used=1, free_ram_mb=1000, free_disk_gb=9, current_workload=0, running_vms=1, cpu_info="{}",
            disk_available_least=5)
        node.create()
    return tree


@pytest.fixture
def api(lasting_tree):
    lasting_tree.forget()
    return lasting_tree["api"]


@pytest.fixture
def rack1(lasting_tree):
    return lasting_tree["rack1"]


def test_services_of_all_cells_carry_their_cell(api):
    services = api.api.service_get_all(api.context(), {"binary": "nova-compute"})

    assert sorted(service.host for service in services) == [f"{RACK1}@h2", f"{WEST}@h1"]
    assert all(isinstance(service, utils.ServiceProxy) for service in services)
    assert {service.id.rpartition("@")[0] for service in services} == {WEST, RACK1}


def test_disabled_services_can_be_asked_for(api):
    assert [service.host for service in api.api.service_get_all(
        api.context(), {"disabled": True, "binary": "nova-compute"})] == [f"{WEST}@h1"]


def test_the_service_of_a_host_is_found_by_its_full_name(api):
    service = api.api.service_get_by_compute_host(api.context(), f"{RACK1}@h2")

    assert (service.host, service.binary) == (f"{RACK1}@h2", "nova-compute")


def test_an_unknown_host_is_not_found(api):
    with pytest.raises(exception.ComputeHostNotFound):
        api.api.service_get_by_compute_host(api.context(), f"{RACK1}@h9")


@pytest.mark.parametrize("host", ["h2", "api!nobody@h2"])
def test_a_host_without_a_cell_or_in_an_unknown_one_cannot_be_routed(api, host):
    with pytest.raises(exception.CellRoutingInconsistency):
        api.api.service_get_by_compute_host(api.context(), host)


def test_a_service_can_be_changed_from_the_top(api, rack1):
    changed = api.api.service_update(api.context(), f"{RACK1}@h2", "nova-compute", {"disabled": True})
    try:
        assert changed.disabled
        assert rack1.db.service_get_by_args(rack1.context(), "h2", "nova-compute")["disabled"]
    finally:
        api.api.service_update(api.context(), f"{RACK1}@h2", "nova-compute", {"disabled": False})


def test_a_service_can_be_deleted_from_the_top(api, rack1):
    row = rack1.db.service_create(rack1.context(), {"host": "old", "binary": "nova-compute", "topic": "compute"})

    api.api.service_delete(api.context(), f"{RACK1}@{row['id']}")

    with pytest.raises(exception.HostBinaryNotFound):
        rack1.db.service_get_by_args(rack1.context(), "old", "nova-compute")


def test_D10_deleting_a_service_that_does_not_exist_is_told(api):
    with pytest.raises(exception.ServiceNotFound):
        api.api.service_delete(api.context(), f"{RACK1}@99999")


def test_compute_nodes_of_all_cells_carry_their_cell(api):
    nodes = api.api.compute_node_get_all(api.context())

    assert sorted(node.host for node in nodes) == [f"{RACK1}@h2", f"{WEST}@h1"]
    matching = api.api.compute_node_get_all(api.context(), hypervisor_match="h2")
    assert [node.hypervisor_hostname for node in matching] == ["h2.local"]


def test_a_compute_node_is_found_by_cell_and_id(api):
    [node] = api.api.compute_node_get_all(api.context(), hypervisor_match="h2")

    assert api.api.compute_node_get(api.context(), node.id).hypervisor_hostname == "h2.local"


def test_statistics_are_added_up(api, lasting_tree, monkeypatch):
    for name, stats in (("api", {"k1": 1, "k2": 2}), ("west", {"k2": 1, "k3": 2}), ("rack1", {"k3": 1, "k4": 2})):
        monkeypatch.setattr(lasting_tree[name].db, "compute_node_statistics", lambda ctxt, stats=stats: stats)

    assert api.api.compute_node_stats(api.context()) == {"k1": 1, "k2": 3, "k3": 3, "k4": 2}


def test_statistics_of_the_tables_are_integers(api):
    stats = api.api.compute_node_stats(api.context())

    assert stats["count"] == 1, "the service of h1 is disabled"
    assert stats["memory_mb"] == 1024


def test_the_uptime_of_a_host_comes_from_its_cell(api, rack1):
    rack1.hosts.results["get_host_uptime"] = "up 3 days"

    assert api.api.get_host_uptime(api.context(), f"{RACK1}@h2") == "up 3 days"
    assert rack1.hosts.called("get_host_uptime") == [(("h2",), {})]


def log_row(cell):
    return [{"id": 1, "host": "h2", "state": "DONE", "period_beginning": datetime.datetime(2026, 11, 1)}]


@pytest.mark.parametrize(("host", "asked"), [
    (None, {"api", "west", "rack1"}), (RACK1, {"rack1"}), (f"{RACK1}@h2", {"rack1"})])
def test_task_logs_of_all_cells_or_of_one(api, lasting_tree, monkeypatch, host, asked):
    hosts = {}

    def rows(name):
        def get(ctxt, task_name, begin, end, host=None, state=None):
            hosts[name] = host
            return log_row(name)
        return get

    for cell in lasting_tree:
        monkeypatch.setattr(cell.db, "task_log_get_all", rows(cell.name), raising=False)

    found = api.api.task_log_get_all(api.context(), "audit", "b", "e", host=host)

    assert set(hosts) == asked
    assert f"{RACK1}@h2" in {row["host"] for row in found}
    assert f"{RACK1}@1" in {row["id"] for row in found}
    assert hosts["rack1"] == ("h2" if host == f"{RACK1}@h2" else None)


def migration(number):
    return objects.MigrationList(objects=[objects.Migration(id=number, status="done")])


def test_migrations_of_all_cells_below_are_one_list(api, lasting_tree):
    for number, name in enumerate(("api", "west", "rack1")):
        lasting_tree[name].compute.results["get_migrations"] = migration(number)

    found = api.api.get_migrations(api.context(), {"status": "done"})

    assert sorted(one.id for one in found) == [1, 2]


def test_migrations_of_one_cell_are_asked_by_its_path_below(api, rack1):
    rack1.compute.results["get_migrations"] = migration(5)

    assert [one.id for one in api.api.get_migrations(api.context(), {"cell_name": "west!rack1"})] == [5]
    assert rack1.compute.called("get_migrations") == [(({},), {})]


@pytest.mark.parametrize("path", ["nobody", "west!nobody"])
def test_D12b_migrations_of_an_unknown_cell_are_none(api, path):
    assert api.api.get_migrations(api.context(), {"cell_name": path}) == []


class Host:
    """A nova-compute that serves what a proxied message asks for."""

    version = "2.27"
    remote_methods = frozenset(("set_host_enabled", "validate_console_port"))

    def __init__(self):
        self.calls = []

    def set_host_enabled(self, ctxt, host=None, enabled=None):
        self.calls.append((host, enabled))
        return "enabled"

    def validate_console_port(self, ctxt, instance, port, console_type):
        self.calls.append((instance["uuid"], port, console_type))
        return port == 5900


@pytest.fixture
def host(rack1):
    host = Host()
    server = rack1.rpc.server("compute", [host], server_name="h2", bind=rack1.services)
    server.start()
    yield host
    server.stop()
    server.wait(5)


def proxied(**args):
    return {"method": "set_host_enabled", "namespace": None, "version": "2.0", "args": args}


def test_D11_a_message_to_a_host_of_another_cell_arrives_there(api, host):
    result = api.api.proxy_rpc_to_manager(api.context(), proxied(host="h2", enabled=True), f"compute.{RACK1}@h2",
                                          call=True, timeout=5)

    assert result == "enabled"
    assert host.calls == [("h2", True)]


def test_D12_a_cast_to_a_host_of_another_cell_returns_nothing_and_arrives(api, host):
    assert api.api.proxy_rpc_to_manager(api.context(), proxied(enabled=False), f"compute.{RACK1}@h2") is None

    eventually(lambda: host.calls == [(None, False)])


def test_D12_the_version_of_a_proxied_message_counts(api, host):
    message = {**proxied(), "version": "3.0"}

    with pytest.raises(exception.UnsupportedRpcVersion):
        api.api.proxy_rpc_to_manager(api.context(), message, f"compute.{RACK1}@h2", call=True, timeout=5)


def test_a_message_to_an_unknown_host_is_refused(api):
    with pytest.raises(exception.ComputeHostNotFound):
        api.api.proxy_rpc_to_manager(api.context(), proxied(), f"compute.{RACK1}@h9", call=True, timeout=5)


def test_a_console_is_validated_on_its_host(api, rack1, host):
    below = rack1.create(host="h2")
    eventually(lambda: api.find(below.uuid) and api.find(below.uuid).host)

    assert api.api.validate_console_port(api.context(), below.uuid, 5900, "novnc")
    assert host.calls == [(below.uuid, 5900, "novnc")]


def test_a_console_of_an_instance_without_a_cell_is_refused(api):
    with pytest.raises(exception.InstanceUnknownCell):
        api.api.validate_console_port(api.context(), api.create().uuid, 5900, "novnc")


def test_neighbours_and_capacities_are_told_over_rpc(api):
    [west] = api.api.get_cell_info_for_neighbors(api.context())
    assert west["name"] == "west"
    assert api.api.get_capacities(api.context(), "west") == api.state.get_child_cell("west").capacities
    with pytest.raises(exception.CellNotFound):
        api.api.get_capacities(api.context(), "nobody")


def test_a_neighbour_is_made_changed_told_and_deleted_over_rpc(api):
    ctxt = api.context()

    api.api.cell_create(ctxt, {"name": "new", "is_parent": False, "transport_url": "rabbit://u:secret@h:1/v"})
    api.api.cell_update(ctxt, "new", {"weight_offset": 3.0})

    assert api.api.cell_get(ctxt, "new")["weight_offset"] == 3.0
    assert api.api.cell_get(ctxt, "new")["transport_url"] == "rabbit://u:***@h:1/v"
    assert api.api.cell_delete(ctxt, "new") == 1
    with pytest.raises(exception.CellNotFound):
        api.api.cell_get(ctxt, "new")


def test_D28_an_operator_sees_the_whole_tree(api):
    cells = {one["cell"]: one for one in api.manager.own_methods.tree_info(api.context())}

    assert set(cells) == {"api", WEST, RACK1}
    assert [one["name"] for one in cells[WEST]["neighbours"]] == ["rack1", "api"]
    assert all(one["is_ours"] for one in cells[WEST]["neighbours"])
    assert {one["sending"]["state"] for one in cells[WEST]["neighbours"]} == {"closed"}


def test_D28_a_ping_is_answered_by_the_cell_it_names(api):
    answer = api.manager.own_methods.ping(api.context(), RACK1)

    assert answer["cell"] == RACK1
    assert answer["round_trip_s"] < 5


@pytest.fixture
def rack1_fails(api, lasting_tree, monkeypatch):
    """Rack1, which answered a moment ago, cannot answer questions about services and hosts."""
    api.api.service_get_all(api.context())

    def fail(*_args, **_kwargs):
        raise exception.ComputeHostNotFound(host="rack1's database")

    for method in ("service_get_all", "compute_node_statistics", "compute_node_get_all"):
        monkeypatch.setattr(lasting_tree["rack1"].db, method, fail)
    return monkeypatch


def test_D27_lists_hold_what_the_other_cells_have_answered(api, rack1_fails):
    assert {service.host for service in api.api.service_get_all(api.context())} == {f"{WEST}@h1"}
    assert [node.host for node in api.api.compute_node_get_all(api.context())] == [f"{WEST}@h1"]
    assert api.api.compute_node_stats(api.context())["count"] == 0


def test_D27_cells_that_are_missing_in_lists_are_told_and_logged_once(api, rack1_fails, caplog):
    for _number in range(3):
        api.api.service_get_all(api.context())

    [missing] = api.manager.own_methods.cell_failures(api.context())
    assert (missing["cell"], missing["operation"]) == (RACK1, "service_get_all")
    assert "rack1's database" in missing["error"]
    assert caplog.text.count(f"Cell {RACK1} is missing in service_get_all") == 1

    rack1_fails.undo()
    api.api.service_get_all(api.context())
    assert api.manager.own_methods.cell_failures(api.context()) == []


def test_D27_who_wants_all_or_nothing_can_have_it(api, rack1_fails):
    api.conf.set_override("strict_queries", True, "cells")
    try:
        with pytest.raises(exception.ComputeHostNotFound):
            api.api.service_get_all(api.context())
    finally:
        api.conf.clear_override("strict_queries", "cells")


def test_D27_a_list_to_which_no_cell_has_answered_is_a_failure(api, rack1):
    rack1.compute.results["get_migrations"] = exception.Invalid("nonsense")

    with pytest.raises(exception.Invalid):
        api.api.get_migrations(api.context(), {"cell_name": "west!rack1"})
