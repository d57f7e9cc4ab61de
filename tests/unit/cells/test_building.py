"""New instances: from the top to the cell that builds them, and on to the next where one cannot."""

import datetime
import uuid

import pytest

from nova_lite import concurrency, exception, objects
from nova_lite.cells.scheduler import parts
from nova_lite.cells.timers import Timers
from nova_lite.objects import task_states, vm_states
from tests.fixtures.clock import FakeClock
from tests.unit.cells.live import flavor
from tests.unit.cells.tree import eventually

TREE = {"api": None, "west": "api", "rack1": "west", "rack2": "west"}


class ImpatientClock(concurrency.Clock):
    """Does not wait where nobody else is to do something meanwhile."""

    def __init__(self):
        self.slept: list[float] = []

    def sleep(self, seconds):
        if seconds:
            self.slept.append(seconds)


@pytest.fixture(scope="module")
def lasting_tree(make_lasting_tree):
    tree = make_lasting_tree(TREE, clock=ImpatientClock(),
                             overrides={"*": {("cells", "scheduler_retries"): 1}})
    tree.know_each_other()
    return tree


@pytest.fixture
def tree(lasting_tree):
    lasting_tree.settle()
    lasting_tree.forget()
    lasting_tree.clock.slept.clear()
    for cell in lasting_tree:
        for child in cell.state.get_child_cells():
            child.update_capacities({})
    return lasting_tree


def order(tree, count=1, hints=None, ctxt=None, **kwargs):
    """Write instances at the top, as the API does, and have them built; return them."""
    api = tree["api"]
    instances = [api.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING, uuid=str(uuid.uuid4()),
                            display_name=f"vm-{number}") for number in range(count)]
    build = {"instances": instances, "image": {"id": "i1"}, "admin_password": "secret", "injected_files": [],
             "filter_properties": {"instance_type": flavor(), "scheduler_hints": dict(hints or {})},
             "requested_networks": None, "security_groups": ["default"], "block_device_mapping": None, **kwargs}
    api.api.build_instances(ctxt or api.context(), **build)
    return instances


def at_top(tree, instance):
    return tree["api"].find(instance.uuid)


def has_room(tree, parent, child, units):
    tree[parent].child(child).update_capacities({"ram_free": {"total_mb": units * 512, "units_by_mb": {"512": units}}})


def builders(tree):
    return [cell.name for cell in tree for _build in cell.scheduler.builds]


def test_a_build_goes_to_a_leaf_and_the_top_learns_where(tree):
    [instance] = order(tree)

    eventually(lambda: (at_top(tree, instance).cell_name or "").startswith("api!west!rack"))
    assert builders(tree) in (["rack1"], ["rack2"])


def test_the_arguments_of_a_build_arrive_as_they_were(tree):
    order(tree)

    [kwargs] = eventually(lambda: [kwargs for cell in tree for kwargs in cell.scheduler.kwargs])
    assert kwargs["admin_password"] == "secret"
    assert kwargs["image"] == {"id": "i1"}
    assert kwargs["filter_properties"]["instance_type"].flavorid == "1"
    assert set(kwargs["filter_properties"]) == {"instance_type", "scheduler_hints"}


def test_all_instances_of_a_request_go_to_one_cell(tree):
    instances = order(tree, count=3)

    eventually(lambda: builders(tree))
    [built] = [build for cell in tree for build in cell.scheduler.builds]
    assert built == [instance.uuid for instance in instances]


def test_the_cell_with_most_room_is_chosen(tree):
    has_room(tree, "west", "rack1", 1)
    has_room(tree, "west", "rack2", 5)

    order(tree)

    eventually(lambda: builders(tree) == ["rack2"])


def test_D16b_a_burst_spreads_over_cells_with_the_same_room(tree):
    has_room(tree, "west", "rack1", 10)
    has_room(tree, "west", "rack2", 10)

    for _number in range(4):
        order(tree)

    eventually(lambda: sorted(builders(tree)) == ["rack1", "rack1", "rack2", "rack2"])


def test_D17_where_a_cell_cannot_build_the_next_one_does(tree):
    has_room(tree, "west", "rack1", 9)
    tree["rack1"].scheduler.error = exception.RpcUnavailable(method="run_instance", topic="scheduler", reason="away")

    [instance] = order(tree)

    eventually(lambda: builders(tree) == ["rack2"])
    eventually(lambda: at_top(tree, instance).cell_name == "api!west!rack2")
    assert tree["rack1"].find(instance.uuid) is None


def no_host(cell, instance):
    cell.services.cells_notifier.build_failed(cell.context(), [instance.uuid], "No valid host was found")


def test_D17_where_no_host_is_found_the_next_cell_builds(tree):
    has_room(tree, "west", "rack1", 9)
    [instance] = order(tree)
    eventually(lambda: builders(tree) == ["rack1"])
    eventually(lambda: at_top(tree, instance).cell_name == "api!west!rack1")

    no_host(tree["rack1"], instance)

    eventually(lambda: builders(tree) == ["rack1", "rack2"])
    eventually(lambda: at_top(tree, instance).cell_name == "api!west!rack2")
    below = tree["rack1"].find(instance.uuid)
    assert below.deleted
    assert not at_top(tree, instance).deleted


def test_D17_a_cell_that_gave_a_build_back_can_be_asked_to_build_it_again(tree):
    has_room(tree, "west", "rack1", 9)
    [instance] = order(tree)
    eventually(lambda: builders(tree) == ["rack1"])
    kwargs = tree["rack1"].scheduler.kwargs[0]
    no_host(tree["rack1"], instance)
    eventually(lambda: builders(tree) == ["rack1", "rack2"])

    tree["rack1"].runner.scheduler.local.build(tree["rack1"].context(), {"instances": [instance], **kwargs})

    assert not tree["rack1"].find(instance.uuid).deleted


def test_D17_a_failure_that_the_parent_cannot_be_told_of_leaves_no_trace_that_would_keep_the_top_from_ordering_again(
        tree, monkeypatch):
    has_room(tree, "west", "rack1", 9)
    [instance] = order(tree)
    eventually(lambda: at_top(tree, instance).cell_name == "api!west!rack1")
    rack1 = tree["rack1"]

    def is_away(message, server=None):
        raise exception.RpcUnavailable(method="m", topic="t", reason="away")

    monkeypatch.setattr(rack1.parent("west"), "send_message", is_away)

    rack1.runner.scheduler.local_build_failed(rack1.context(), [instance.uuid], "No valid host was found")

    assert rack1.find(instance.uuid).deleted
    assert rack1.db.outbox_count(rack1.context()) == 0
    assert at_top(tree, instance).vm_state == vm_states.BUILDING


def test_D17_when_every_cell_has_failed_the_top_says_so(tree):
    [instance] = order(tree)
    for _number in range(2):
        built = eventually(lambda: [cell for cell in tree if cell.scheduler.builds
                                    and not cell.find(instance.uuid).deleted])
        no_host(built[0], instance)
        eventually(lambda built=built: built[0].find(instance.uuid).deleted)

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.ERROR)
    assert at_top(tree, instance).task_state is None
    fault = eventually(lambda: objects.InstanceFault.get_latest_for_instance(tree["api"].context(), instance.uuid))
    assert "No valid host" in fault.details
    assert "api!west!rack1" in fault.details


def test_a_machine_that_has_run_is_not_built_elsewhere(tree):
    [instance] = order(tree)
    [cell] = eventually(lambda: [cell for cell in tree if cell.scheduler.builds])
    below = eventually(lambda: cell.find(instance.uuid))
    below.vm_state = vm_states.ACTIVE
    below.save()

    no_host(cell, instance)

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.ACTIVE)
    assert len(builders(tree)) == 1


def test_a_build_can_be_sent_to_a_named_cell(tree):
    has_room(tree, "west", "rack1", 9)

    order(tree, hints={"target_cell": "api!west!rack2"})

    eventually(lambda: builders(tree) == ["rack2"])


def latest_fault(tree, instance):
    return objects.InstanceFault.get_latest_for_instance(tree["api"].context(), instance.uuid)


def test_a_cell_that_was_asked_for_and_finds_no_host_is_not_replaced_by_another(tree):
    [instance] = order(tree, hints={"target_cell": "api!west!rack2"})
    eventually(lambda: builders(tree) == ["rack2"])

    no_host(tree["rack2"], instance)

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.ERROR)
    fault = eventually(lambda: latest_fault(tree, instance))
    assert "Cell api!west!rack2 was asked for" in fault.details
    assert "No valid host" in fault.details
    assert builders(tree) == ["rack2"]
    assert at_top(tree, instance).task_state is None


def test_a_cell_that_was_asked_for_and_cannot_hand_over_is_not_replaced_by_another(tree):
    tree["rack2"].scheduler.error = exception.RpcUnavailable(method="run_instance", topic="scheduler", reason="away")

    [instance] = order(tree, hints={"target_cell": "api!west!rack2"})

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.ERROR)
    assert "Cell api!west!rack2 was asked for" in eventually(lambda: latest_fault(tree, instance)).details
    assert builders(tree) == []


def test_the_own_cell_when_asked_for_is_not_replaced_by_another(tree):
    tree["api"].scheduler.error = exception.RpcUnavailable(method="run_instance", topic="scheduler", reason="away")

    [instance] = order(tree, hints={"target_cell": "api"})

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.ERROR)
    assert "Cell api was asked for" in eventually(lambda: latest_fault(tree, instance)).details
    assert builders(tree) == []
    assert tree.clock.slept == []


def test_a_user_who_may_not_choose_a_cell_is_served_by_any(tree):
    tree["rack1"].scheduler.error = tree["api"].scheduler.error = exception.RpcUnavailable(
        method="run_instance", topic="scheduler", reason="away")
    has_room(tree, "west", "rack1", 9)

    order(tree, hints={"target_cell": "api!west!rack1"}, ctxt=tree["api"].context(is_admin=False))

    eventually(lambda: builders(tree) == ["rack2"])


def test_D16b_a_cell_without_room_is_not_asked(tree):
    has_room(tree, "west", "rack1", 0)
    has_room(tree, "west", "rack2", 2)

    order(tree)

    eventually(lambda: builders(tree) == ["rack2"])


def test_a_cell_can_be_left_out_by_its_full_name(tree):
    has_room(tree, "west", "rack1", 9)

    order(tree, hints={"different_cell": "api!west!rack1"})

    eventually(lambda: builders(tree) == ["rack2"])


@pytest.mark.parametrize("path", ["api!nobody", "api!west!nobody", "elsewhere"])
def test_D17b_a_named_cell_that_does_not_exist_is_an_error_with_a_fault(tree, path):
    [instance] = order(tree, hints={"target_cell": path})

    eventually(lambda: at_top(tree, instance).vm_state == vm_states.ERROR)
    fault = eventually(lambda: objects.InstanceFault.get_latest_for_instance(tree["api"].context(), instance.uuid))
    assert fault.details
    assert builders(tree) == []


def test_draining_cells_get_no_new_builds(tree):
    tree["west"].child("rack1").db_info["draining"] = True
    try:
        for _number in range(3):
            order(tree)
        eventually(lambda: builders(tree) == ["rack2"] * 3)
    finally:
        tree["west"].child("rack1").db_info["draining"] = False


@pytest.fixture
def waiting(make_live_tree):
    """A tree without a cell for builds, its clock, and what the scheduler at the top has put off."""
    tree = make_live_tree({"api": None, "west": "api"}, clock=FakeClock(),
                          overrides={"*": {("cells", "scheduler_retries"): 3, ("cells", "scheduler_retry_delay"): 4}})
    tree["api"].child("west").db_info["draining"] = True
    return tree, tree.clock, tree["api"].runner.scheduler.retries


def all_in_error(tree, instances):
    return all(at_top(tree, instance).vm_state == vm_states.ERROR for instance in instances)


def test_D17c_when_no_cell_is_available_it_is_tried_again_and_then_given_up(waiting):
    tree, clock, put_off = waiting

    instances = order(tree, count=2)
    for number in range(3):
        eventually(lambda: [due_s for due_s, *_job in list(put_off._waiting)] == [clock.monotonic() + 4])
        assert clock.monotonic() == 1000 + number * 4, "nobody has slept"
        clock.advance(4)

    eventually(lambda: all_in_error(tree, instances))
    assert builders(tree) == []


def test_D17c_a_build_that_was_put_off_is_made_when_a_cell_is_there(waiting):
    tree, clock, put_off = waiting
    order(tree)
    eventually(lambda: len(put_off) == 1)

    tree["api"].child("west").db_info["draining"] = False
    clock.advance(4)

    eventually(lambda: builders(tree) == ["west"])
    assert len(put_off) == 0


def test_D17c_builds_that_were_put_off_do_not_outlast_the_service(waiting):
    tree, clock, put_off = waiting
    instances = order(tree)
    eventually(lambda: len(put_off) == 1)

    tree["api"].runner.scheduler.stop()

    eventually(lambda: all_in_error(tree, instances))


def test_D17c_a_request_too_large_for_any_cell_is_split_over_several(tree):
    has_room(tree, "api", "west", 5)
    has_room(tree, "west", "rack1", 3)
    has_room(tree, "west", "rack2", 2)

    instances = order(tree, count=5)

    eventually(lambda: sorted(builders(tree)) == ["rack1", "rack2"])
    [first], [second] = tree["rack1"].scheduler.builds, tree["rack2"].scheduler.builds
    assert (len(first), len(second)) == (3, 2)
    assert sorted([*first, *second]) == sorted(instance.uuid for instance in instances)


def test_D17c_a_request_too_large_for_all_cells_together_is_not_begun(tree):
    has_room(tree, "west", "rack1", 3)
    has_room(tree, "west", "rack2", 2)

    instances = order(tree, count=6)

    eventually(lambda: all_in_error(tree, instances))
    assert builders(tree) == []


def test_D17c_a_request_for_a_cell_that_was_named_is_not_split(tree):
    has_room(tree, "api", "west", 9)
    has_room(tree, "west", "rack1", 1)
    has_room(tree, "west", "rack2", 1)

    instances = order(tree, count=2, hints={"target_cell": "api!west!rack1"})

    eventually(lambda: builders(tree) == ["rack1"])
    assert tree["rack1"].scheduler.builds == [[instance.uuid for instance in instances]]


@pytest.mark.parametrize(("count", "rooms", "sizes"), [
    (5, [2, 3], [3, 2]), (4, [2, 3, 3], [3, 1]), (3, [5], [3]), (6, [2, 3], []), (1, [], []), (2, [0, 1, 1], [1, 1])])
def test_D17c_the_largest_rooms_are_filled_first(count, rooms, sizes):
    assert parts(count, rooms) == sizes


def test_D17c_there_is_a_limit_to_what_is_put_off():
    put_off = Timers(FakeClock(), "test", limit=1)
    put_off.later(1, lambda: None)

    with pytest.raises(concurrency.PoolFull):
        put_off.later(1, lambda: None)
    assert len(put_off.stop()) == 1


def test_an_unexpected_error_is_not_tried_again(tree):
    broken = list(tree["api"].runner.scheduler._filters)[:1]
    broken[0].filter_all, original = None, broken[0].filter_all
    try:
        [instance] = order(tree)
        eventually(lambda: at_top(tree, instance).vm_state == vm_states.ERROR)
    finally:
        broken[0].filter_all = original
    assert tree.clock.slept == []


def test_dicts_of_older_clients_are_made_objects(tree):
    api = tree["api"]
    instance = api.create(vm_state=vm_states.BUILDING, uuid=str(uuid.uuid4()))
    plain = {"id": 2, "name": "m1.tiny", "memory_mb": 512, "vcpus": 1, "root_gb": 1, "ephemeral_gb": 0, "swap": 0,
             "flavorid": "1", "rxtx_factor": 1.0, "extra_specs": {}}

    api.api.cast(api.context(), "build_instances", "1.8", build_inst_kwargs={
        "instances": [instance.to_legacy_dict()], "image": {}, "filter_properties": {"instance_type": plain}})

    eventually(lambda: (at_top(tree, instance).cell_name or "").startswith("api!west!rack"))


def test_a_single_cell_builds_by_itself_and_knows_where_its_instances_are(make_live_tree):
    tree = make_live_tree({"only": None}, overrides={"*": {("cells", "cell_type"): "api"}})
    only = tree["only"]
    instance = objects.Instance(only.context(), uuid=str(uuid.uuid4()), user_id="u1", project_id="p1",
                                flavor=flavor(), memory_mb=512)

    only.api.build_instances(only.context(), instances=[instance], image={},
                             filter_properties={"instance_type": flavor()})

    eventually(lambda: only.scheduler.builds == [[instance.uuid]])
    built = eventually(lambda: (found := only.find(instance.uuid)).cell_name == "only" and found)
    only.api.pause_instance(only.context(), built)
    eventually(lambda: only.compute.called("pause"))


def test_below_a_parent_of_the_reference_the_next_cell_is_tried_all_the_same(make_live_tree):
    tree = make_live_tree({"mid": None, "rack1": "mid", "rack2": "mid", "top": None})
    tree.join("top", "mid")
    mid = tree["mid"]
    mid.state.refresh()
    assert not mid.parent("top").is_ours
    has_room(tree, "mid", "rack1", 9)
    instance = objects.Instance(mid.context(), uuid=str(uuid.uuid4()), user_id="u1", project_id="p1",
                                flavor=flavor(), memory_mb=512)
    mid.api.build_instances(mid.context(), instances=[instance], image={},
                            filter_properties={"instance_type": flavor()})
    eventually(lambda: builders(tree) == ["rack1"])

    no_host(tree["rack1"], instance)

    eventually(lambda: builders(tree) == ["rack1", "rack2"])


@pytest.mark.parametrize("image", [None, {}, {"properties": None}, {"id": "i1", "properties": {"hw": "x"}}])
def test_a_build_needs_no_image_nor_properties_of_one(tree, image):
    order(tree, image=image)

    eventually(lambda: builders(tree))


def test_a_flavor_without_extra_specs_and_metadata_in_rows_are_no_obstacle(tree):
    api = tree["api"]
    instance = api.create(vm_state=vm_states.BUILDING, uuid=str(uuid.uuid4()), metadata={"role": "front"},
                          key_name="key", key_data="ssh-rsa AAAA key@home")
    told = instance.to_legacy_dict()
    told["metadata"] = [{"key": "role", "value": "front"}]

    api.manager.build_instances(api.context(), {
        "instances": [told], "image": {}, "filter_properties": {"instance_type": {
            "id": 2, "name": "m1.tiny", "memory_mb": 512, "vcpus": 1, "root_gb": 1, "ephemeral_gb": 0, "swap": 0,
            "flavorid": "1", "rxtx_factor": 1.0}}})

    [cell] = eventually(lambda: [cell for cell in tree if cell.scheduler.builds])
    built = eventually(lambda: cell.find(instance.uuid))
    assert (built.metadata, built.key_data) == ({"role": "front"}, "ssh-rsa AAAA key@home")


def at_the_top(tree, instance):
    return tree["api"].find(instance.uuid)


def age(tree, instance, hours=1):
    """Let the top have heard nothing of an instance for some time."""
    api = tree["api"]
    long_ago = tree.clock.utcnow().replace(tzinfo=None) - datetime.timedelta(hours=hours)
    api.db.instance_update(api.context(), instance.uuid, {"updated_at": long_ago}, replicate=False)


def test_D17_a_build_that_no_cell_has_taken_fails_in_the_end(tree):
    api = tree["api"]
    lost = api.create(vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING)
    age(tree, lost)

    api.manager._end_lost_builds(api.context())

    found = at_the_top(tree, lost)
    assert (found.vm_state, found.task_state) == (vm_states.ERROR, None)
    faults = api.db.instance_fault_get_by_instance_uuids(api.context(), [lost.uuid])[lost.uuid]
    assert "nothing was heard" in faults[0]["details"]


def test_D17_a_build_whose_cell_has_it_not_any_more_fails_in_the_end(tree):
    api = tree["api"]
    lost = api.create(vm_state=vm_states.BUILDING, cell_name="api!west!rack1")
    age(tree, lost)

    api.manager._end_lost_builds(api.context())

    assert at_the_top(tree, lost).vm_state == vm_states.ERROR


def test_a_build_that_takes_long_in_its_cell_is_left_alone(tree):
    api = tree["api"]
    slow = tree["rack1"].create(vm_state=vm_states.BUILDING)
    tree.settle()
    age(tree, slow)

    api.manager._end_lost_builds(api.context())

    assert at_the_top(tree, slow).vm_state == vm_states.BUILDING


def test_a_build_whose_cell_cannot_be_asked_is_left_alone(tree):
    api = tree["api"]
    unknown = api.create(vm_state=vm_states.BUILDING, cell_name="api!nowhere")
    age(tree, unknown)

    api.manager._end_lost_builds(api.context())

    assert at_the_top(tree, unknown).vm_state == vm_states.BUILDING


def test_a_build_that_has_just_been_ordered_is_left_alone(tree):
    api = tree["api"]
    fresh = api.create(vm_state=vm_states.BUILDING)

    api.manager._end_lost_builds(api.context())

    assert at_the_top(tree, fresh).vm_state == vm_states.BUILDING
