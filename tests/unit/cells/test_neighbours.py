"""How cells get to know each other, and whom they believe."""

import json

import pytest

from nova_lite import exception, objects, rpc
from nova_lite.cells.rpc_driver import InterCellRPCDispatcher
from tests.fixtures.clock import FakeClock
from tests.unit.cells.live import LiveCell
from tests.unit.cells.tree import eventually

LINE = {"api": None, "west": "api", "rack1": "west"}


def ask(tree, target="api!west"):
    api = tree["api"]
    return api.runner.send_targeted(api.context(), "probe", {}, "down", target, need_response=True,
                                    deadline=tree.clock.time() + 0.5)


def test_every_cell_learns_its_full_name_from_its_parent(make_live_tree):
    tree = make_live_tree(LINE)

    eventually(lambda: tree["rack1"].runner.place.full_name() == "api!west!rack1")
    assert tree["rack1"].runner.place.path_to_top() == "rack1!west!api"
    assert tree["west"].parent("api").is_ours
    assert tree["west"].child("rack1").is_ours


def test_a_leaf_tells_what_it_can_do_at_its_start_and_it_travels_to_the_top(make_live_tree):
    tree = make_live_tree(LINE, overrides={"rack1": {("cells", "capabilities"): ["gpu=yes"]}})

    eventually(lambda: tree["api"].child("west").capabilities.get("gpu") == {"yes"})


def test_a_parent_that_starts_asks_its_children(make_live_tree):
    tree = make_live_tree(LINE)
    eventually(lambda: tree["api"].child("west").capabilities)
    tree["api"].child("west").capabilities = {}

    tree["api"].manager.driver.stop_servers()
    tree["api"].manager.post_start_hook()

    eventually(lambda: tree["api"].child("west").capabilities)


def test_a_neighbour_with_another_broker_is_found_there_without_a_restart(make_live_tree):
    tree = make_live_tree({"api": None, "west": "api"})
    tree.know_each_other()
    api, moved = tree["api"], f"memory://{tree.id}/moved"
    elsewhere = LiveCell(tree, "west", tree.clock, {
        (None, "transport_url"): moved, ("database", "connection"): tree["west"].conf.database.connection})
    elsewhere.build()
    (server := elsewhere.rpc.server("cells.intercell.targeted", [InterCellRPCDispatcher(elsewhere.runner)],
                                    server_name="elsewhere", bind=elsewhere.services,
                                    serializer=rpc.PlainSerializer())).start()
    try:
        api.api.cell_update(api.context(), "west", {"transport_url": moved})
        api.runner.send_targeted(api.context(), "announce_capacities", {}, "down", api.child("west"))

        eventually(lambda: server.counters["received"])
    finally:
        server.stop()
        server.wait(5)
        elsewhere.rpc.close()
        elsewhere.db.dispose()


def test_a_neighbour_that_was_forgotten_hears_nothing_more(make_live_tree):
    tree = make_live_tree({"api": None, "west": "api"})
    tree.know_each_other()
    api = tree["api"]

    api.api.cell_delete(api.context(), "west")

    with pytest.raises(exception.CellRoutingInconsistency, match="Unknown child"):
        api.manager.get_host_uptime(api.context(), "api!west@h1")


def tell_of(tree, teller, method, **kwargs):
    tree[teller].runner.send_targeted(tree[teller].context(), method, kwargs, "up", tree[teller].parent("api"))


def test_D19b_a_cell_cannot_report_in_anothers_name(make_live_tree):
    tree = make_live_tree({"api": None, "west": "api", "east": "api"})
    tree.know_each_other()

    tell_of(tree, "west", "update_capacities", cell_name="east", capacities={"ram_free": {"total_mb": 10 ** 9}})
    tell_of(tree, "west", "update_capabilities", cell_name="east", capabilities={"gold": ["yes"]})
    tell_of(tree, "west", "update_capabilities", cell_name="west", capabilities={"iron": ["yes"]})

    eventually(lambda: "iron" in tree["api"].child("west").capabilities)
    assert "gold" not in tree["api"].child("east").capabilities
    assert tree["api"].child("east").capacities == {}


@pytest.mark.parametrize(("method", "report"), [
    ("update_capacities", {"capacities": ["x"]}),
    ("update_capacities", {"capacities": {"ram_free": {"total_mb": "x"}}}),
    ("update_capacities", {"capacities": {"ram_free": {"units_by_mb": {"many": 1}}}}),
    ("update_capabilities", {"capabilities": {"os": "linux"}}), ("update_capabilities", {"capabilities": {"os": [7]}})])
def test_a_report_that_is_none_is_not_taken_up(reporting_tree, method, report):
    tree = reporting_tree
    before = tree["api"].child("west").capacities, tree["api"].child("west").capabilities

    tell_of(tree, "west", method, cell_name="west", **report)
    tell_of(tree, "west", "update_capabilities", cell_name="west", capabilities={"iron": [str(report)]})

    eventually(lambda: tree["api"].child("west").capabilities == {"iron": {str(report)}})
    assert tree["api"].child("west").capacities == before[0]
    assert tree["api"].state.get_our_capacities() == {}


@pytest.fixture(scope="module")
def reporting_tree(make_lasting_tree):
    tree = make_lasting_tree({"api": None, "west": "api"})
    tree.know_each_other()
    return tree


def test_the_way_to_the_top_ends_at_a_parent_of_the_reference(make_tree):
    tree = make_tree(LINE)

    tree["rack1"].runner.place.greeted(tree["rack1"].context(), "west", "api!west")

    assert tree["rack1"].runner.place.path_to_top() is None, "west was never heard of"


def test_a_greeting_of_a_stranger_or_in_anothers_name_is_ignored(make_tree):
    tree = make_tree(LINE)
    tree.know_each_other()
    runner, ctxt = tree["rack1"].runner, tree["rack1"].context()

    runner.place.greeted(ctxt, "stranger", "api!stranger")
    runner.place.greeted(ctxt, "west", "api!someone-else")

    assert runner.place.full_name() is None


def with_key(tree, *pairs):
    for cell, neighbour, key in pairs:
        found = tree[cell].child(neighbour) or tree[cell].parent(neighbour)
        found.db_info["shared_key"] = key


def test_D19b_cells_that_share_a_key_understand_each_other(make_tree):
    tree = make_tree(LINE)
    with_key(tree, ("api", "west", "k1"), ("west", "api", "k1"))

    assert ask(tree).value_or_raise() == "api!west"
    assert ask(tree, "api!west!rack1").value_or_raise() == "api!west!rack1"


@pytest.mark.parametrize(("theirs", "reason"), [("other", "does not fit"), (None, "unsigned")])
def test_D19b_what_is_not_signed_with_the_shared_key_is_refused(make_tree, theirs, reason, caplog):
    tree = make_tree(LINE)
    with_key(tree, ("api", "west", theirs), ("west", "api", "k1"))

    with pytest.raises(exception.CellTimeout):
        ask(tree).value_or_raise()

    assert tree["west"].runner.counts["unsigned"] == 1
    assert reason in caplog.text


def test_D19b_a_neighbour_cannot_sign_for_another(make_tree):
    tree = make_tree({"api": None, "west": "api", "east": "api"})
    with_key(tree, ("api", "west", "k1"), ("api", "east", "k2"), ("west", "api", "k1"))
    west = tree["west"]
    forged = json.dumps({"message_type": "broadcast", "routing_path": "east", "ctxt": {}, "method_name": "probe",
                         "method_kwargs": {}, "direction": "up"})

    tree["api"].runner.receive(west.runner.seal(west.parent("api"), forged))

    assert tree.probes == []
    assert tree["api"].runner.counts["unsigned"] == 1


def test_a_changed_message_is_refused(make_tree):
    tree = make_tree(LINE)
    with_key(tree, ("api", "west", "k1"), ("west", "api", "k1"))
    api = tree["api"]
    text = json.dumps({"message_type": "broadcast", "routing_path": "api", "ctxt": {}, "method_name": "probe",
                       "method_kwargs": {}, "direction": "down"})
    sealed = json.loads(api.runner.seal(api.child("west"), text))
    sealed["signed"] = sealed["signed"].replace("probe", "probe_with")

    tree["west"].runner.receive(json.dumps(sealed))

    assert tree.probes == []


def test_a_change_below_is_reported_at_once(make_live_tree):
    tree = make_live_tree(LINE)
    eventually(lambda: tree["api"].child("west").capabilities)
    rack1 = tree["rack1"]
    rack1.state.get_my_state().update_capabilities({"gpu": {"yes"}})

    rack1.manager._report_changes(rack1.context())

    eventually(lambda: tree["api"].child("west").capabilities.get("gpu") == {"yes"})


def test_a_host_that_joins_is_reported_without_waiting_for_the_next_look(make_live_tree):
    tree = make_live_tree(LINE, clock=FakeClock())
    rack1 = tree["rack1"]
    eventually(lambda: tree["api"].child("west").capabilities)
    rack1.db.service_create(rack1.context(), {"host": "h1", "binary": "nova-compute", "topic": "compute",
                                              "last_seen_up": tree.clock.naive()})
    tree.clock.advance(5)

    objects.ComputeNode(
        rack1.context(), host="h1", hypervisor_hostname="h1", hypervisor_type="xen", hypervisor_version=0, vcpus=4,
        memory_mb=1024, local_gb=10, vcpus_used=0, memory_mb_used=0, local_gb_used=0, free_ram_mb=1024,
        free_disk_gb=10, cpu_info="{}").create()
    eventually(lambda: rack1.state._is_stale)
    rack1.manager._report_changes(rack1.context())

    eventually(lambda: tree["api"].child("west").capacities.get("ram_free", {}).get("total_mb") == 1024)


def test_a_parent_that_was_not_there_is_told_again(make_live_tree):
    tree = make_live_tree(LINE)
    rack1 = tree["rack1"]
    rack1.manager._report_changes(rack1.context())
    eventually(lambda: tree["west"].child("rack1").capabilities)
    tree["west"].child("rack1").capabilities = {}
    rack1.parent("west").is_reachable = False

    rack1.manager._report_changes(rack1.context())

    eventually(lambda: tree["west"].child("rack1").capabilities)
