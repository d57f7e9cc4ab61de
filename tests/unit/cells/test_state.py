"""What a cell knows of itself and its neighbours."""

import contextlib
import datetime
import json
import os

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exc

from nova_lite import context, exception, rpc
from nova_lite.cells.passwords import mask_password
from nova_lite.cells.state import CellState, CellStateManager
from tests.fixtures.clock import FakeClock
from tests.fixtures.services import load_conf

NODES = [{"host": "h1", "memory_mb": 1024, "local_gb": 100, "free_ram_mb": 1024, "free_disk_gb": 50},
         {"host": "h2", "memory_mb": 1024, "local_gb": 100, "free_ram_mb": 512, "free_disk_gb": 50}]


class Table:
    """The rows a state manager reads; can fail."""

    def __init__(self, clock):
        self.cells, self.failures, self.reads, self.building = [], 0, 0, []
        self.services = [{"host": host, "binary": "nova-compute", "disabled": False, "forced_down": False,
                          "last_seen_up": clock.naive()} for host in ("h1", "h2")]

    def reader(self, ctxt):
        return contextlib.nullcontext()

    def cell_get_all(self, ctxt):
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise db_exc.DBConnectionError("away")
        return [dict(row) for row in self.cells]

    def service_get_all(self, ctxt):
        return self.services

    def compute_node_get_all(self, ctxt):
        return NODES

    def flavor_get_all(self, ctxt):
        return [{"memory_mb": 512, "root_gb": 1, "ephemeral_gb": 0}]

    def instance_get_all_by_filters(self, ctxt, filters, columns_to_join):
        assert filters == {"vm_state": "building", "deleted": False}
        return self.building

    def cell_create(self, ctxt, values):
        self.cells.append(values)
        return dict(values)

    def cell_get(self, ctxt, name):
        return next(row for row in self.cells if row["name"] == name)

    def cell_update(self, ctxt, name, values):
        self.cell_get(ctxt, name).update(values)
        return dict(self.cell_get(ctxt, values.get("name", name)))

    def cell_delete(self, ctxt, name):
        before = len(self.cells)
        self.cells = [row for row in self.cells if row["name"] != name]
        return before - len(self.cells)


def row(name, is_parent=False, **values):
    return {"name": name, "is_parent": is_parent, "transport_url": f"rabbit://user:secret@{name}-broker:5672/v",
            "weight_offset": 1.0, "weight_scale": 1.0, "api_url": None, **values}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def table(clock):
    table = Table(clock)
    table.cells = [row("c1"), row("c2"), row("up", True)]
    return table


@pytest.fixture
def make(table, clock):
    def build(**overrides):
        conf = load_conf({
            ("cells", "name"): "me", ("cells", "reserve_percent"): 0.0,
            **{("cells", name): value for name, value in overrides.items()}})
        return CellStateManager(services=context.Services(conf=conf, host="h", db=table, clock=clock,
                                                          rpc=rpc.Rpc(conf, clock=clock)))

    return build


def names(states):
    return [state.name for state in states]


def test_neighbours_are_parents_and_children(make):
    state = make()

    assert names(state.get_child_cells()) == ["c1", "c2"]
    assert names(state.get_parent_cells()) == ["up"]
    assert state.get_child_cell("up") is None
    assert state.get_parent_cell("up").name == "up"
    assert state.get_my_state().is_me


def test_lists_of_cells_are_the_callers_own(make):
    state = make()

    state.get_child_cells().append("mine")

    assert names(state.get_child_cells()) == ["c1", "c2"]


def test_new_gone_and_turned_neighbours_are_noticed_after_a_while(make, table, clock):
    state = make()
    state.get_child_cell("c1").update_capacities({"seen": 1})
    table.cells = [row("c1"), row("c2", True), row("c3")]

    assert names(state.get_child_cells()) == ["c1", "c2"]
    clock.advance(61)

    assert names(state.get_child_cells()) == ["c1", "c3"]
    assert names(state.get_parent_cells()) == ["c2"]
    assert state.get_child_cell("c1").capacities == {"seen": 1}


def test_D20_a_day_later_the_table_is_read_again(make, table, clock):
    state = make()
    reads = table.reads

    clock.advance(24 * 3600 + 5)
    state.get_child_cells()

    assert table.reads == reads + 1


def test_a_database_that_is_away_at_the_start_is_waited_for(make, table, clock):
    table.failures = 3

    assert names(make().get_child_cells()) == ["c1", "c2"]
    assert clock.monotonic() == pytest.approx(1000 + 3 * 30)


def test_after_an_hour_of_waiting_the_start_fails(make, table):
    table.failures = 1000

    with pytest.raises(db_exc.DBConnectionError):
        make()
    assert table.failures == 1000 - 121


def test_a_database_that_goes_away_later_leaves_what_was_known(make, table, clock):
    state = make()
    table.failures = 1
    clock.advance(61)

    assert names(state.get_child_cells()) == ["c1", "c2"]


def test_capabilities_are_read_from_the_configuration(make):
    state = make(capabilities=["hypervisor=xenserver;kvm", "note=a=b"])

    assert state.get_our_capabilities() == {"hypervisor": {"xenserver", "kvm"}, "note": {"a=b"}}


def test_capabilities_of_children_that_speak_are_ours_too(make, clock):
    state = make(capabilities=["os=linux"])
    state.update_cell_capabilities("c1", {"os": ["windows"], "gpu": ["yes"]})

    assert state.get_our_capabilities() == {"os": {"linux", "windows"}, "gpu": {"yes"}}
    assert state.get_our_capabilities(include_children=False) == {"os": {"linux"}}
    assert state.my_cell_state.capabilities == {"os": {"linux"}}


def test_mute_children_are_not_spoken_for(make, clock):
    state = make(capabilities=["os=linux"])
    state.update_cell_capabilities("c1", {"os": ["windows"]})

    clock.advance(301)

    assert state.get_our_capabilities() == {"os": {"linux"}}


def report(units):
    return {"ram_free": {"total_mb": units * 512, "units_by_mb": {"512": units}}}


def test_our_capacities_are_those_of_live_hosts_and_the_children(make):
    state = make()
    state.update_cell_capacities("c1", report(4))

    assert state.get_our_capacities()["ram_free"] == {"total_mb": 1536 + 2048, "units_by_mb": {"512": 3 + 4}}
    assert state.get_capacities("me") == state.get_capacities(None) == state.get_our_capacities()
    assert state.get_capacities("c1") == report(4)


@pytest.mark.parametrize("name", ["up", "nobody"])
def test_capacities_of_others_are_not_known(make, name):
    with pytest.raises(exception.CellNotFound):
        make().get_capacities(name)


def test_D16_mute_and_draining_children_do_not_count(make, table, clock):
    table.cells[1]["draining"] = True
    state = make()
    state.update_cell_capacities("c1", report(4))
    clock.advance(301)
    for service in table.services:
        service["last_seen_up"] = clock.naive()
    state.update_cell_capacities("c2", report(2))

    assert state.get_our_capacities()["ram_free"]["units_by_mb"] == {"512": 3}


@pytest.mark.parametrize("change", [{"disabled": True}, {"forced_down": True},
                                    {"last_seen_up": datetime.datetime(2001, 1, 1)}])
def test_D16c_hosts_that_are_off_do_not_count(make, table, change):
    table.services[0].update(change)

    assert make().get_our_capacities()["ram_free"]["total_mb"] == 512


@pytest.mark.parametrize(("values", "units"), [
    ({}, 2), ({"host": "h1"}, 3), ({"created_at": datetime.datetime(2001, 1, 1)}, 3)])
def test_what_was_sent_here_and_has_no_host_yet_is_not_offered_again(make, table, clock, values, units):
    table.building = [{"host": None, "memory_mb": 512, "root_gb": 1, "ephemeral_gb": 0, "cell_name": None,
                       "created_at": clock.naive(), **values}]

    assert make().get_our_capacities()["ram_free"]["units_by_mb"] == {"512": units}


def test_a_change_of_capacity_is_counted_soon_but_not_all_the_time(make, table, clock):
    state = make()
    reads = table.reads

    for seconds, expected in ((0, 0), (4, 1), (1, 1), (3, 2), (60, 2)):
        clock.advance(seconds)
        if seconds != 60:
            state.recount_soon()
        state.recount_if_stale()
        assert table.reads - reads == expected


def test_what_strangers_tell_is_ignored(make):
    state = make()

    state.update_cell_capacities("stranger", report(4))
    state.update_cell_capabilities("stranger", {})

    assert names(state.get_neighbours()) == ["c1", "c2", "up"]


def test_what_is_shown_of_a_neighbour_has_no_password(make):
    shown = make().get_cell_info_for_neighbors()

    assert shown[0] == {"name": "c1", "capabilities": {}, "is_parent": False, "weight_scale": 1.0, "weight_offset": 1.0,
                        "username": "user", "rpc_host": "c1-broker", "rpc_port": 5672}
    assert "secret" not in json.dumps(shown)


@pytest.mark.parametrize(("url", "user", "host", "port"), [
    ("rabbit://u:p@h:5671/v?ssl=1&x=a@b", "u", "h", 5671), ("rabbit://h/v", None, "h", None),
    ("rabbit://u:p@[2001:db8::1]:5672/v", "u", "[2001:db8::1]", 5672),
    ("rabbit://u:p@h1:1,w:q@h2:2/v", "u", "h1", 1), ("rabbit://u:p%40%3A@h:1/", "u", "h", 1),
    ("memory://", None, "", None), ("", None, None, None)])
def test_the_first_broker_of_any_url_is_shown(url, user, host, port):
    cell = CellState("c1")
    cell.update_db_info({"name": "c1", "is_parent": False, "transport_url": url})

    shown = cell.get_cell_info()

    assert (shown["username"], shown["rpc_host"], shown["rpc_port"]) == (user, host, port)
    assert "p%40" not in json.dumps(shown)


@pytest.mark.parametrize(("url", "masked"), [
    ("rabbit://u:p@h:1/v", "rabbit://u:***@h:1/v"), ("rabbit://u:p@h:1,w:q@i:2/v", "rabbit://u:***@h:1,w:***@i:2/v"),
    ("memory://h/v", "memory://h/v"), ("rabbit://u:p%40x@h/", "rabbit://u:***@h/")])
def test_D19c_passwords_in_urls_are_masked(url, masked):
    assert mask_password(url) == masked


def test_D20_a_neighbour_is_told_as_a_plain_dict_with_its_password_masked(make):
    told = make().cell_get(None, "c1").to_dict()

    assert json.loads(json.dumps(told)) == told
    assert told["transport_url"] == "rabbit://user:***@c1-broker:5672/v"
    assert set(told) >= {"name", "is_parent", "transport_url", "weight_offset", "weight_scale", "api_url",
                         "capabilities"}


def test_an_unknown_neighbour_is_not_found(make):
    with pytest.raises(exception.CellNotFound):
        make().cell_get(None, "nobody")


def test_neighbours_can_be_made_changed_and_deleted(make, table):
    state = make()

    created = state.cell_create(None, row("c9"))
    updated = state.cell_update(None, "c9", {"weight_offset": 7.0, "transport_url": "rabbit://user:***@moved:5672/v"})

    assert created["transport_url"] == "rabbit://user:***@c9-broker:5672/v"
    assert updated["transport_url"] == "rabbit://user:***@moved:5672/v"
    assert table.cells[-1]["transport_url"] == "rabbit://user:secret@moved:5672/v"
    assert state.get_child_cell("c9").db_info["weight_offset"] == 7.0
    assert state.cell_delete(None, "c9") == 1
    assert state.get_child_cell("c9") is None


def test_D22_names_of_neighbours_are_checked(make):
    with pytest.raises(exception.Invalid):
        make().cell_create(None, row("a!b"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cells.json"
    path.write_text(json.dumps({"c1": row("c1"), "up": row("up", True)}))
    os.utime(path, (1000, 1000))
    return path


def test_neighbours_can_come_from_a_file(make, file):
    state = make(cells_config=str(file))

    assert names(state.get_child_cells()) == ["c1"]
    assert names(state.get_parent_cells()) == ["up"]
    assert state.get_child_cell("c1").db_info["transport_url"].startswith("rabbit://")


def test_a_changed_file_is_read_again(make, file, clock):
    state = make(cells_config=str(file))
    file.write_text(json.dumps({"c5": row("c5")}))
    os.utime(file, (2000, 2000))

    clock.advance(61)

    assert names(state.get_child_cells()) == ["c5"]
    assert state.get_parent_cells() == []


def test_a_file_that_is_not_there_stops_the_start(make, tmp_path):
    with pytest.raises(cfg.ConfigFilesNotFoundError):
        make(cells_config=str(tmp_path / "nothing.json"))


@pytest.mark.parametrize(("method", "arguments"), [
    ("cell_create", ({"name": "x"},)), ("cell_update", ("c1", {})), ("cell_delete", ("c1",))])
def test_neighbours_from_a_file_cannot_be_changed(make, file, method, arguments):
    with pytest.raises(exception.CellsUpdateUnsupported):
        getattr(make(cells_config=str(file)), method)(None, *arguments)
