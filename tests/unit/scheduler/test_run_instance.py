"""From a request for instances to orders for hosts."""

import pytest

from nova_lite import exception
from nova_lite.objects import task_states, vm_states
from nova_lite.rpc.client import RpcClient
from nova_lite.scheduler.manager import SchedulerManager
from nova_lite.scheduler.rpcapi import request_spec


def new_instance(cell, **fields):
    return cell.instance(**{"host": None, "node": None, "vm_state": vm_states.BUILDING,
                            "task_state": task_states.SCHEDULING, **fields})


def spec_of(cell, *instances, flavor="m1.small", image=None):
    from nova_lite.objects import BlockDeviceMappingList

    return request_spec(cell.flavor(flavor), image or {}, list(instances), ["default"],
                        BlockDeviceMappingList(objects=[]))


def run(cell, spec, filter_properties=None, **changes):
    arguments = {"admin_password": "pw", "injected_files": [], "requested_networks": None, "is_first_time": True,
                 **changes}
    SchedulerManager(services=cell.services).run_instance(cell.context(), spec,
                                                          filter_properties=filter_properties or {}, **arguments)


def test_the_host_with_most_memory_gets_the_instance(cell):
    small = cell.add_host("small", free_ram_mb=3000)
    large = cell.add_host("large", free_ram_mb=7000)
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance), requested_networks=[["net", None, None]])

    order, arguments = large.heard()
    assert order == "run_instance"
    assert arguments["instance"]["uuid"] == instance.uuid
    assert (arguments["node"], arguments["is_first_time"], arguments["admin_password"]) == ("large-node", True, "pw")
    assert arguments["requested_networks"] == [["net", None, None]]
    assert arguments["request_spec"]["instance_uuids"] == [instance.uuid]
    assert arguments["filter_properties"]["retry"] == {"num_attempts": 1, "hosts": [["large", "large-node"]]}
    assert arguments["filter_properties"]["limits"] == {"memory_mb": 8192 * 1.5}
    assert small.has_heard_nothing()


def test_a_scheduled_instance_has_an_event_and_a_time(cell):
    cell.add_host("h1")
    instance = new_instance(cell)
    cell.db.action_start(cell.context(), {"action": "create", "instance_uuid": instance.uuid, "request_id": "req-1",
                                          "user_id": "alice", "project_id": "red"})
    ctxt = cell.context(request_id="req-1")

    SchedulerManager(services=cell.services).run_instance(ctxt, spec_of(cell, instance), None, [], None, True, {})

    action = cell.db.action_get_by_request_id(ctxt, instance.uuid, "req-1")
    events = cell.db.action_events_get(ctxt, action["id"])
    assert [(event["event"], event["result"]) for event in events] == [("schedule", "Success")]
    assert cell.stored(instance).scheduled_at == cell.clock.utcnow()


def test_instances_of_one_request_spread_over_the_hosts(cell):
    hosts = [cell.add_host(name) for name in ("h1", "h2", "h3")]
    instances = [new_instance(cell, launch_index=index) for index in range(3)]

    run(cell, spec_of(cell, *instances))

    placed = {host.heard()[1]["instance"]["uuid"] for host in hosts}
    assert placed == {instance.uuid for instance in instances}


def test_what_was_given_away_is_not_given_twice(cell):
    first, second = cell.add_host("first", free_ram_mb=7000), cell.add_host("second", free_ram_mb=6000)
    manager = SchedulerManager(services=cell.services)

    for expected in (first, second):
        instance = new_instance(cell)
        manager.run_instance(cell.context(), spec_of(cell, instance), None, [], None, True, {})
        assert expected.heard()[1]["instance"]["uuid"] == instance.uuid


def test_a_newer_report_of_the_host_is_believed(cell):
    cell.add_host("first", free_ram_mb=7000)
    cell.add_host("second", free_ram_mb=6000)
    manager = SchedulerManager(services=cell.services)
    manager.run_instance(cell.context(), spec_of(cell, new_instance(cell)), None, [], None, True, {})

    cell.clock.advance(1)
    node = next(node for node in cell.db.compute_node_get_all(cell.admin()) if node["host"] == "first")
    cell.db.compute_node_update(cell.admin(), node["id"], {"free_ram_mb": 7500})

    selected = manager.select_hosts(cell.context(), spec_of(cell, new_instance(cell)), {})
    assert selected == ["first"]


def test_without_any_host_the_instance_is_an_error_with_a_fault(cell):
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance))

    stored = cell.stored(instance)
    assert (stored.vm_state, stored.task_state) == (vm_states.ERROR, None)
    faults = cell.db.instance_fault_get_by_instance_uuids(cell.admin(), [instance.uuid])[instance.uuid]
    assert faults[0]["message"] == "NoValidHost"


def test_when_room_ends_the_first_instances_are_built(cell):
    host = cell.add_host("h1", memory_mb=2048, free_ram_mb=2048, memory_mb_used=0)
    first, second = new_instance(cell, launch_index=0), new_instance(cell, launch_index=1)

    run(cell, spec_of(cell, first, second))

    assert host.heard()[1]["instance"]["uuid"] == first.uuid
    assert cell.stored(second).vm_state == vm_states.ERROR
    assert cell.stored(first).vm_state == vm_states.BUILDING


def test_a_host_that_failed_is_not_tried_again(cell):
    tried, other = cell.add_host("tried", free_ram_mb=7600), cell.add_host("other", free_ram_mb=2100)
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance), {"retry": {"num_attempts": 1, "hosts": [["tried", "tried-node"]],
                                                  "exc": ["Traceback", "no disk"]}})

    retry = other.heard()[1]["filter_properties"]["retry"]
    assert retry == {"num_attempts": 2, "hosts": [["tried", "tried-node"], ["other", "other-node"]]}
    assert tried.has_heard_nothing()


def test_attempts_are_limited(cell):
    host = cell.add_host("h4")
    instance = new_instance(cell)
    tried = [[f"h{number}", f"h{number}-node"] for number in range(3)]

    run(cell, spec_of(cell, instance), {"retry": {"num_attempts": 3, "hosts": tried}})

    assert cell.stored(instance).vm_state == vm_states.ERROR
    details = cell.db.instance_fault_get_by_instance_uuids(cell.admin(), [instance.uuid])[instance.uuid][0]["details"]
    assert "scheduler_max_attempts (3)" in details
    assert host.has_heard_nothing()


def test_with_one_attempt_there_is_no_record_of_attempts(make_cell):
    cell = make_cell(scheduler_max_attempts=1)
    host = cell.add_host("h1")

    run(cell, spec_of(cell, new_instance(cell)))

    assert "retry" not in host.heard()[1]["filter_properties"]


def test_a_forced_host_is_taken_whatever_the_filters_say(cell):
    full = cell.add_host("full", free_ram_mb=-5000)
    cell.add_host("empty")

    run(cell, spec_of(cell, new_instance(cell)), {"force_hosts": ["full"]})

    assert full.heard()[0] == "run_instance"


def test_an_ignored_host_is_not_taken(cell):
    cell.add_host("large")
    small = cell.add_host("small", free_ram_mb=3000)

    run(cell, spec_of(cell, new_instance(cell)), {"ignore_hosts": ["large"]})

    assert small.heard()[0] == "run_instance"


def test_an_instance_deleted_meanwhile_is_skipped(cell):
    host = cell.add_host("h1")
    gone, there = new_instance(cell), new_instance(cell)
    spec = spec_of(cell, gone, there)
    gone.destroy()

    run(cell, spec)

    assert host.heard()[1]["instance"]["uuid"] == there.uuid
    assert host.has_heard_nothing()


def test_the_parent_cell_decides_about_a_first_build(make_cell):
    cell = make_cell()
    told = []

    class Notifier:
        def build_failed(self, context, instance_uuids, reason):
            told.append((instance_uuids, reason))

        def outbox_ready(self, context):
            pass

    cell.services = cell.services.with_(cells_notifier=Notifier())
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance))

    assert told == [([instance.uuid], "No valid host was found. ")]
    assert cell.stored(instance).vm_state == vm_states.BUILDING


def test_an_instance_that_has_run_is_not_handed_back(make_cell):
    cell = make_cell()
    told = []

    class Notifier:
        def build_failed(self, context, instance_uuids, reason):
            told.append(instance_uuids)

        def outbox_ready(self, context):
            pass

    cell.services = cell.services.with_(cells_notifier=Notifier())
    instance = new_instance(cell, launched_at=cell.clock.utcnow())

    run(cell, spec_of(cell, instance))

    assert told == []
    assert cell.stored(instance).vm_state == vm_states.ERROR


def test_select_hosts_wants_a_host_for_each(cell):
    cell.add_host("h1", memory_mb=2048, free_ram_mb=2048)
    manager = SchedulerManager(services=cell.services)

    with pytest.raises(exception.NoValidHost):
        manager.select_hosts(cell.context(), spec_of(cell, new_instance(cell), new_instance(cell)), {})


def test_the_resources_of_a_host_are_shown_by_project(cell):
    cell.add_host("h1")
    cell.instance(host="h1")
    cell.instance(cell.context("bob", "blue"), host="h1", flavor="m1.tiny")

    shown = SchedulerManager(services=cell.services).show_host_resources(cell.admin(), "h1")

    assert shown["resource"]["memory_mb"] == 8192
    assert {project: usage["memory_mb"] for project, usage in shown["usage"].items()} == {"red": 2048, "blue": 512}
    with pytest.raises(exception.ComputeHostNotFound):
        SchedulerManager(services=cell.services).show_host_resources(cell.admin(), "h2")


def test_C25_a_request_reads_the_nodes_once(cell):
    import sqlalchemy

    host = cell.add_host("h1")
    instances = [new_instance(cell) for _ in range(3)]
    reads = []

    def count(connection, cursor, statement, *rest):
        if "FROM compute_nodes" in statement:
            reads.append(statement)

    for engine in (cell.db.store.engines.reader, cell.db.store.engines.writer):
        sqlalchemy.event.listen(engine, "before_cursor_execute", count)
    run(cell, spec_of(cell, *instances))

    assert [host.heard()[0] for _ in instances] == ["run_instance"] * 3
    assert len(reads) == 1


def test_hosts_can_be_drawn_by_lot(make_cell):
    cell = make_cell(scheduler_driver="nova_lite.scheduler.chance.ChanceScheduler")
    full = cell.add_host("full", free_ram_mb=-5000)
    cell.add_host("down", up=False)
    cell.add_host("disabled", disabled=True)
    cell.add_host("ignored")

    run(cell, spec_of(cell, new_instance(cell)), {"ignore_hosts": ["ignored"]})

    assert full.heard()[0] == "run_instance"


def test_the_lot_finds_no_host_where_none_is_up(make_cell):
    cell = make_cell(scheduler_driver="nova_lite.scheduler.chance.ChanceScheduler")
    cell.add_host("down", up=False)
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance))

    assert cell.stored(instance).vm_state == vm_states.ERROR


def test_a_host_that_does_not_listen_is_passed_over(cell):
    cell.add_host("deaf", serves=False)
    other = cell.add_host("other", free_ram_mb=3000)
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance))

    arguments = other.heard()[1]
    assert arguments["instance"]["uuid"] == instance.uuid
    assert arguments["filter_properties"]["retry"] == {"num_attempts": 2, "hosts": [["deaf", "deaf-node"],
                                                                                    ["other", "other-node"]]}
    assert cell.stored(instance).vm_state == vm_states.BUILDING


def test_the_hosts_have_their_time_to_come_back_after_a_broker_that_was_long_away(cell, monkeypatch):
    host = cell.add_host("h1")
    instance = new_instance(cell)
    back_s = cell.clock.monotonic() + 20
    send = RpcClient.cast

    def lose_some(client, ctxt, method, **how):
        now_s = cell.clock.monotonic()
        if method == "run_instance" and now_s < back_s + 2:
            raise exception.RpcUnavailable(method=method, topic="compute", reason="nobody hears",
                                           is_broker_there=now_s >= back_s)
        return send(client, ctxt, method, **how)

    monkeypatch.setattr(RpcClient, "cast", lose_some)

    run(cell, spec_of(cell, instance))

    assert host.heard()[0] == "run_instance"
    assert cell.stored(instance).vm_state == vm_states.BUILDING


@pytest.mark.parametrize("is_broker_there", [False, True])
def test_a_broker_that_has_gone_and_come_back_is_no_reason_to_give_a_host_up(cell, monkeypatch, is_broker_there):
    host = cell.add_host("h1")
    instance = new_instance(cell)
    failures = 8
    send = RpcClient.cast

    def lose_some(client, ctxt, method, **how):
        nonlocal failures
        if method == "run_instance" and failures:
            failures -= 1
            raise exception.RpcUnavailable(method=method, topic="compute", reason="it is away",
                                           is_broker_there=is_broker_there)
        return send(client, ctxt, method, **how)

    monkeypatch.setattr(RpcClient, "cast", lose_some)

    run(cell, spec_of(cell, instance))

    assert host.heard()[0] == "run_instance"
    assert cell.stored(instance).vm_state == vm_states.BUILDING


@pytest.mark.parametrize("state", [{"vm_state": vm_states.ACTIVE, "task_state": None},
                                   {"task_state": task_states.SPAWNING}])
def test_a_request_that_comes_again_leaves_an_instance_to_the_host_that_has_it(cell, state):
    host = cell.add_host("h1")
    instance = new_instance(cell, host="h1", node="h1-node", launched_on="h1", **state)

    run(cell, spec_of(cell, instance))

    assert host.has_heard_nothing()
    assert (cell.stored(instance).host, cell.stored(instance).vm_state) == ("h1", instance.vm_state)


def test_when_nobody_listens_the_instance_is_an_error(cell):
    for number in range(5):
        cell.add_host(f"h{number}", serves=False)
    instance = new_instance(cell)

    run(cell, spec_of(cell, instance))

    assert cell.stored(instance).vm_state == vm_states.ERROR


def test_a_scheduler_starts_while_its_broker_is_away(cell, monkeypatch):
    def away(*_args, **_kwargs):
        raise exception.RpcUnavailable(method="publish_service_capabilities", topic="compute", reason="it is away")

    manager = SchedulerManager(cell.services)
    monkeypatch.setattr(RpcClient, "cast", away)

    manager.post_start_hook(cell.admin())


def test_members_of_a_group_are_kept_apart_and_other_projects_do_not_count(make_cell):
    cell = make_cell(scheduler_default_filters=["GroupAntiAffinityFilter"])
    best, other = cell.add_host("best", free_ram_mb=7000), cell.add_host("other", free_ram_mb=5000)
    cell.instance(cell.context(project="blue"), host="best", system_metadata={"group": "web"})
    hints = {"scheduler_hints": {"group": "web"}}

    run(cell, spec_of(cell, new_instance(cell)), hints)
    placed = best.heard()[1]["instance"]
    assert {"key": "group", "value": "web"} in placed["system_metadata"]
    cell.db.instance_update(cell.admin(), placed["uuid"], {"host": "best"})
    run(cell, spec_of(cell, new_instance(cell)), hints)

    assert other.heard()[0] == "run_instance"
