"""Several `nova-cells` processes in one cell."""

import contextlib
import datetime
import uuid

import pytest

from nova_lite import objects
from nova_lite.cells.share import Share
from nova_lite.objects import task_states, vm_states
from tests.unit.cells.live import LiveCell, flavor
from tests.unit.cells.tree import eventually


@pytest.fixture
def tree(make_live_tree):
    tree = make_live_tree({"api": None, "rack1": "api", "rack2": "api"})
    tree.know_each_other()
    api = tree["api"]
    api.db.cell_update(api.context(), "rack1", {"weight_offset": 100.0})  # the first to be asked, room or not
    api.state.refresh()
    return tree


@pytest.fixture
def second(tree):
    """A second process of the cell api."""
    with another_process(tree, "api") as cell:
        yield cell


@contextlib.contextmanager
def another_process(tree, name):
    """A second process of a cell, on another host; both are known to be alive."""
    first = tree[name]
    cell = LiveCell(tree, name, tree.clock, {(None, "host"): f"second-host-of-{name}",
                                             ("database", "connection"): first.conf.database.connection})
    cell.build()
    cell.start()
    for process in (first, cell):
        first.db.service_create(first.context(), {"host": process.conf.host, "binary": "nova-cells", "topic": "cells",
                                                  "last_seen_up": tree.clock.utcnow().replace(tzinfo=None)})
        eventually(lambda process=process: all(neighbour.is_ours for neighbour in neighbours_of(process)))
    yield cell
    cell.stop()
    cell.rpc.close()
    cell.db.dispose()


def neighbours_of(process):
    return [*process.state.get_child_cells(), *process.state.get_parent_cells()]


def build_by(process):
    """Have one process send a build on; return the instance."""
    instance = process.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=str(uuid.uuid4()))
    process.manager.build_instances(process.context(), {
        "instances": [instance], "image": {}, "filter_properties": {"instance_type": flavor()}})
    return instance


def no_host(cell, instance):
    cell.services.cells_notifier.build_failed(cell.context(), [instance.uuid], "No valid host was found")


def builders(tree):
    return [cell.name for cell in tree for _build in cell.scheduler.builds]


def test_a_failed_build_is_taken_up_by_the_process_that_sent_it(tree, second):
    first = tree["api"]
    instance = build_by(first)
    eventually(lambda: builders(tree) == ["rack1"])
    first.manager.driver.stop_servers()  # only the second process hears from other cells

    no_host(tree["rack1"], instance)

    eventually(lambda: builders(tree) == ["rack1", "rack2"])
    assert first.find(instance.uuid).vm_state == vm_states.BUILDING


def test_when_every_cell_has_failed_either_process_says_so(tree, second):
    first = tree["api"]
    instance = build_by(first)
    first.manager.driver.stop_servers()
    for name in ("rack1", "rack2"):
        eventually(lambda name=name: tree[name].scheduler.builds)
        no_host(tree[name], instance)

    eventually(lambda: first.find(instance.uuid).vm_state == vm_states.ERROR)
    fault = eventually(lambda: objects.InstanceFault.get_latest_for_instance(first.context(), instance.uuid))
    assert "No valid host" in fault.details


def test_a_build_sent_by_a_process_that_is_gone_ends_in_a_fault(tree, second):
    first = tree["api"]
    instance = build_by(first)
    eventually(lambda: builders(tree) == ["rack1"])
    first.manager.driver.stop_servers()
    first._server.stop()
    first._server.wait(5)

    no_host(tree["rack1"], instance)

    eventually(lambda: second.find(instance.uuid).vm_state == vm_states.ERROR)
    assert builders(tree) == ["rack1"]


def test_an_answer_finds_the_process_that_asked(tree, second):
    for process in (tree["api"], second):
        for _number in range(3):
            response = process.runner.ping(process.context(), "api!rack1")
            assert response.value_or_raise()["cell"] == "api!rack1"


def test_what_a_child_reports_is_heard_by_every_process(tree, second):
    rack1 = tree["rack1"]

    rack1.runner.tell_parents_our_capabilities(rack1.context())

    for process in (tree["api"], second):
        eventually(lambda process=process: process.state.get_child_cell("rack1").capabilities)


def test_a_build_is_not_taken_up_by_a_process_that_does_not_know_it(tree, second):
    assert not second.manager.own_methods.take_failed_build(
        second.context(), [str(uuid.uuid4())], "no host", [], "rack1")


def rows_of(tree, instances):
    now = tree.clock.utcnow().replace(tzinfo=None)
    return [{"instance_uuid": uuid_, "created_at": now, "id": number} for number, uuid_ in enumerate(instances)]


def test_D25_each_instances_updates_are_sent_by_one_of_the_processes(tree):
    uuids = [str(uuid.uuid4()) for _number in range(40)] * 2
    with another_process(tree, "rack1") as second:
        shares = [Share(process.services).mine(rows_of(tree, uuids)) for process in (tree["rack1"], second)]

    assert sorted(row["id"] for share in shares for row in share) == list(range(len(uuids)))
    ones, others = ({row["instance_uuid"] for row in share} for share in shares)
    assert ones and others
    assert not ones & others


def test_D25_what_a_process_leaves_behind_is_sent_by_the_others(tree):
    rows = rows_of(tree, [str(uuid.uuid4()) for _number in range(20)])
    with another_process(tree, "rack1"):
        share = Share(tree["rack1"].services)
        at_first = share.mine(rows)
        down_time = datetime.timedelta(seconds=tree["rack1"].conf.service_down_time + 1)
        old = [{**row, "created_at": row["created_at"] - down_time} for row in rows]

        assert len(at_first) < len(rows)
        assert share.mine(old) == old


def test_D25_updates_of_a_cell_with_several_processes_all_arrive(tree):
    with another_process(tree, "rack1") as second:
        instances = [process.create() for process in (tree["rack1"], second) for _number in range(6)]
        for instance in instances:
            instance.vm_state = vm_states.PAUSED
            instance.save()

        tree.settle()

        assert {tree["api"].find(instance.uuid).vm_state for instance in instances} == {vm_states.PAUSED}
        sent = [process.runner.outbox.counts["sent"] for process in (tree["rack1"], second)]
        assert all(sent), "both processes have sent"
