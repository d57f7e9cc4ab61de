"""Builds that were ordered are built, whoever dies on the way."""

import datetime
import uuid

import pytest
import sqlalchemy

from nova_lite import exception
from nova_lite.objects import task_states, vm_states
from tests.fixtures.clock import FakeClock
from tests.unit.cells.live import flavor
from tests.unit.cells.tree import eventually

PASSWORD = "only-the-guest-may-know"
A_WHILE_S = 120


@pytest.fixture(scope="module")
def lasting_tree(make_lasting_tree):
    tree = make_lasting_tree({"api": None, "west": "api", "east": "api"}, clock=FakeClock())
    tree.know_each_other()
    return tree


@pytest.fixture
def tree(lasting_tree):
    lasting_tree.settle()
    lasting_tree.forget()
    api = lasting_tree["api"]
    for child in api.state.get_child_cells():
        child.update_capacities({"ram_free": {"total_mb": 512, "units_by_mb": {"512": 9}}})
    yield lasting_tree
    for cell in lasting_tree:
        ctxt = cell.context()
        for instance in cell.db.instance_get_all(ctxt):
            cell.db.instance_destroy(ctxt, instance["uuid"], replicate=False)
    lasting_tree.clock.advance(A_WHILE_S)
    look(lasting_tree)


def write_down(tree):
    """Do as the user-level API does before it sends an order; return the instance and the build's arguments."""
    api = tree["api"]
    instance = api.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=str(uuid.uuid4()))
    kwargs = {"instances": [instance], "image": {"id": "i1"}, "admin_password": PASSWORD, "injected_files": [],
              "filter_properties": {"instance_type": flavor(), "scheduler_hints": {}}, "requested_networks": None,
              "security_groups": ["default"], "block_device_mapping": None}
    ctxt = api.context()
    api.db.build_order_create(ctxt, [instance.uuid], {"ctxt": ctxt.to_dict(), "kwargs": kwargs},
                              tree.clock.utcnow() + datetime.timedelta(seconds=60))
    return instance, kwargs


def look(tree):
    """Have the top look through its orders."""
    for cell in tree:
        for child in cell.state.get_child_cells():
            child.update_capacities(child.capacities)  # heard of just now
    tree["api"].manager._repeat_lost_orders(tree["api"].context())


def builds(tree):
    return [cell.name for cell in tree for _build in cell.scheduler.builds]


def orders(tree):
    tree.clock.advance(A_WHILE_S)
    return tree["api"].db.build_orders_due(tree["api"].context())


def test_an_order_that_no_cell_has_heard_of_is_given_again_as_it_was(tree):
    instance, _kwargs = write_down(tree)
    tree.clock.advance(A_WHILE_S)

    look(tree)

    [cell] = eventually(lambda: [tree[name] for name in builds(tree)])
    assert cell.scheduler.builds == [[instance.uuid]]
    assert cell.scheduler.kwargs[0]["admin_password"] == PASSWORD
    eventually(lambda: tree["api"].find(instance.uuid).cell_name == f"api!{cell.name}")


def test_an_order_is_not_looked_at_before_its_time(tree):
    write_down(tree)

    look(tree)

    assert tree["api"].db.build_orders_due(tree["api"].context()) == []
    assert builds(tree) == []


def test_an_order_is_forgotten_when_a_host_has_the_instance(tree):
    instance, _kwargs = write_down(tree)
    tree["api"].db.instance_update(tree["api"].context(), instance.uuid, {"host": "w1"}, replicate=False)
    tree.clock.advance(A_WHILE_S)

    look(tree)

    assert orders(tree) == []
    assert builds(tree) == []


def test_an_order_that_a_cell_has_just_begun_with_is_left_to_it(tree):
    instance, _kwargs = write_down(tree)
    tree.clock.advance(A_WHILE_S)
    row = tree["west"].create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=instance.uuid)

    look(tree)

    assert row.uuid == instance.uuid
    assert len(orders(tree)) == 1
    assert builds(tree) == []


def test_an_order_that_a_cell_has_forgotten_is_given_to_the_same_cell_again(tree):
    instance, _kwargs = write_down(tree)
    tree["west"].create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=instance.uuid)
    tree["api"].child("west").update_capacities({"ram_free": {"total_mb": 0, "units_by_mb": {"512": 0}}})
    tree.clock.advance(A_WHILE_S)
    made = []
    tree["west"].scheduler.build_instances, original = (
        lambda ctxt, instances, **kwargs: made.append([one.uuid for one in instances]),
        tree["west"].scheduler.build_instances)
    try:
        look(tree)
        eventually(lambda: made == [[instance.uuid]])
    finally:
        tree["west"].scheduler.build_instances = original
    assert builds(tree) == []


def test_while_a_cell_that_may_have_it_is_silent_an_order_waits(tree):
    write_down(tree)
    tree.clock.advance(tree["api"].conf.cells.mute_child_interval + 1)
    tree["api"].child("east").update_capacities({})

    tree["api"].manager._repeat_lost_orders(tree["api"].context())

    assert builds(tree) == []
    assert len(orders(tree)) == 1


def test_an_order_nobody_could_carry_out_for_long_is_forgotten(tree):
    write_down(tree)
    tree.clock.advance(tree["api"].conf.cells.lost_build_timeout + 1)

    look(tree)

    assert orders(tree) == []
    assert builds(tree) == []


def test_a_failed_build_that_nobody_remembers_goes_to_the_next_cell_as_it_was_ordered(tree):
    instance, _kwargs = write_down(tree)
    api = tree["api"]

    tree["west"].runner.send_targeted(
        tree["west"].context(), "build_failed",
        {"instance_uuids": [instance.uuid], "reason": "no host", "cells_tried": ["api!west"]}, "up",
        tree["west"].parent("api"))

    eventually(lambda: builds(tree) == ["east"])
    assert tree["east"].scheduler.kwargs[0]["admin_password"] == PASSWORD
    assert api.find(instance.uuid).vm_state == vm_states.BUILDING


def test_what_no_host_has_taken_up_for_long_goes_back_to_the_cell_above(tree):
    instance, _kwargs = write_down(tree)
    west = tree["west"]
    west.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=instance.uuid)
    tree.clock.advance(west.conf.cells.lost_build_timeout + 1)

    west.manager._end_lost_builds(west.context())

    eventually(lambda: builds(tree) == ["east"])
    assert west.find(instance.uuid).deleted


def test_a_build_that_was_given_back_is_no_deletion(tree, monkeypatch):
    api, west = tree["api"], tree["west"]
    instance, _kwargs = write_down(tree)
    west.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=instance.uuid)
    tree.settle()
    assert api.find(instance.uuid).cell_name == "api!west"
    with monkeypatch.context() as patch:  # the word of it is lost
        patch.setattr(west.runner.scheduler, "build_failed", lambda *_args: None)
        west.runner.scheduler.local_build_failed(west.context(), [instance.uuid], "no host")
    assert west.find(instance.uuid).deleted

    west.runner.healer.sweep(west.context())
    west.runner.healer.push(west.context(), instance.uuid)
    tree.settle()

    assert not api.find(instance.uuid).deleted


def test_an_instance_deleted_while_it_was_built_is_told_as_deleted(tree):
    api, west = tree["api"], tree["west"]
    instance, _kwargs = write_down(tree)
    row = west.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=instance.uuid)
    tree.settle()
    west.db.instance_destroy(west.context(), row.uuid, replicate=False)

    west.runner.healer.sweep(west.context())

    eventually(lambda: api.find(instance.uuid).deleted)


def test_what_an_order_holds_cannot_be_read_in_the_table(tree):
    write_down(tree)

    with tree["api"].db.reader(None) as session:
        [stored] = session.execute(sqlalchemy.text("SELECT payload FROM build_orders")).scalars()

    assert stored
    assert PASSWORD not in stored


def test_an_order_for_a_broker_that_is_away_stays(tree, monkeypatch):
    write_down(tree)
    tree.clock.advance(A_WHILE_S)

    def away(*args, **kwargs):
        raise exception.RpcUnavailable(method="process_message", topic="cells", reason="away")

    for child in tree["api"].state.get_child_cells():
        monkeypatch.setattr(child.driver, "send_message_to_cell", away)
    look(tree)

    assert builds(tree) == []
    assert len(orders(tree)) == 1
