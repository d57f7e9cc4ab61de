"""What the manager looks after from time to time."""

import contextlib
import json
import pathlib

import pytest

from nova_lite import exception, objects
from nova_lite.compute import usage, watch
from nova_lite.compute.manager import ANSWERS_SPREAD_S
from nova_lite.concurrency import spawn
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.virt.fake import FakeInstance


def test_every_task_runs_in_one_pass_without_an_error(make_world):
    world = make_world(instance_usage_audit=True, volume_usage_poll_interval=60, reboot_timeout=60, rescue_timeout=60,
                       resize_confirm_window=60, instance_build_timeout=60, reclaim_instance_interval=60)
    world.boot()
    assert world.compute.periodic_tasks(world.context, raise_on_error=True) <= 60


# --- Builds and reboots that take too long ---

def test_a_build_that_takes_too_long_is_an_error_with_a_fault(make_world):
    world = make_world(instance_build_timeout=60)
    slow = world.create(host="here", node="here-node")
    elsewhere = world.create(host="there", node="there-node")
    world.compute._check_instance_build_time(world.context)
    assert world.reload(slow).vm_state == vm_states.BUILDING

    world.clock.advance(61)
    world.compute._check_instance_build_time(world.context)

    assert world.reload(slow).vm_state == vm_states.ERROR
    assert world.faults(slow)[0]["message"] == "InstanceDeployFailure"
    assert world.reload(elsewhere).vm_state == vm_states.BUILDING


def test_C21_reboots_that_hang_here_are_handed_to_the_driver(make_world):
    world = make_world(reboot_timeout=60)
    instance = world.busy(world.boot(), task_states.REBOOTING)
    world.busy(world.boot(), task_states.REBOOTING, host="there")
    handed = []
    world.compute.driver.poll_rebooting_instances = lambda timeout, instances: handed.append(
        [each.uuid for each in instances])
    world.clock.advance(61)
    world.compute._poll_rebooting_instances(world.context)
    assert handed == [[instance.uuid]]


# --- Deleted instances whose guests still run ---

@pytest.mark.parametrize(("action", "guest_found"), [
    ("noop", power_state.RUNNING), ("log", power_state.RUNNING), ("shutdown", power_state.SHUTDOWN), ("reap", None)])
def test_guests_of_deleted_instances_are_treated_as_configured(make_world, action, guest_found):
    world = make_world(running_deleted_instance_action=action)
    instance, healthy = world.boot(), world.boot()
    world.db.instance_destroy(world.context, instance.uuid)
    world.clock.advance(1)

    world.compute._cleanup_running_deleted_instances(world.context)

    guest = world.guest(instance)
    assert (guest.state if guest else None) == guest_found
    assert world.guest(healthy).state == power_state.RUNNING


def test_guests_are_known_by_name_where_the_driver_knows_no_uuids(make_world):
    world = make_world(running_deleted_instance_action="reap")
    instance, healthy = world.boot(), world.boot()
    world.compute.driver.instances["stranger"] = FakeInstance("stranger", "nobody", power_state.RUNNING)
    world.db.instance_destroy(world.context, instance.uuid)
    world.clock.advance(1)

    with world.failing("list_instance_uuids", NotImplementedError()):
        world.compute._cleanup_running_deleted_instances(world.context)

    assert sorted(world.compute.driver.instances) == sorted([healthy.name, "stranger"])


# --- Cached network info ---

def test_C22_the_caches_of_idle_instances_are_healed_in_batches(world, monkeypatch):
    monkeypatch.setattr(watch, "HEALED_AT_ONCE", 2)
    idle = [world.boot() for _ in range(4)]
    world.busy(world.boot(), task_states.PAUSING)
    passes = []
    world.services.network_api.heal_info_caches = lambda context, instances: passes.append(
        [instance.uuid for instance in instances])

    for _ in range(3):
        world.compute._heal_instance_info_cache(world.context)
        world.clock.advance(61)

    assert all(len(healed) <= 2 for healed in passes)
    assert sorted(uuid for healed in passes for uuid in healed) == sorted(instance.uuid for instance in idle)


# --- Bandwidth ---

def counters(instance, bw_in, bw_out=0):
    return [{"uuid": instance.uuid, "mac_address": "aa:bb:cc:00:00:01", "bw_in": bw_in, "bw_out": bw_out}]


def read_bandwidth(world, instance, bw_in):
    world.compute.driver.get_all_bw_counters = lambda instances: counters(instance, bw_in)
    world.compute._poll_bandwidth_usage(world.context)
    world.clock.advance(601)
    begin = usage.notifications.last_completed_audit_period("month", world.clock.naive())[1]
    (row,) = world.db.bw_usage_get_by_uuids(world.context, [instance.uuid], begin)
    return row["bw_in"], row["last_ctr_in"]


def test_bandwidth_adds_up_from_the_first_reading_and_survives_a_reset(world):
    instance = world.boot()
    assert read_bandwidth(world, instance, 1000) == (0, 1000)
    assert read_bandwidth(world, instance, 1500) == (500, 1500)
    assert read_bandwidth(world, instance, 200) == (700, 200)


def test_C24_counters_are_read_and_written_in_bulk(world):
    instance, calls = world.boot(), []

    def counted(count):
        world.compute.driver.get_all_bw_counters = lambda instances: [
            {"uuid": instance.uuid, "mac_address": f"aa:bb:cc:00:00:{number:02x}", "bw_in": 1, "bw_out": 1}
            for number in range(count)]
        calls.clear()
        world.compute._poll_bandwidth_usage(world.context)
        world.clock.advance(601)
        return list(calls)

    for name in ("bw_usage_get_by_uuids", "bw_usage_update_all", "bw_usage_update", "bw_usage_get"):
        act = getattr(world.db, name)
        setattr(world.db, name, lambda *args, act=act, name=name, **kwargs: calls.append(name) or act(*args, **kwargs))

    assert counted(50) == counted(1)


@pytest.mark.parametrize(("interval_s", "told"), [(1200, [True, False, True]), (0, [False] * 3)])
def test_readings_go_up_at_their_own_interval(make_world, interval_s, told):
    world = make_world(grouped={("cells", "bandwidth_update_interval"): interval_s})
    instance, seen = world.boot(), []
    world.compute.driver.get_all_bw_counters = lambda instances: counters(instance, 1)
    world.db.bw_usage_update_all = lambda *args, update_cells, **kwargs: seen.append(update_cells)

    for _ in told:
        world.compute._poll_bandwidth_usage(world.context)
        world.clock.advance(601)

    assert seen == told


@pytest.mark.parametrize(("last", "current", "more"), [(None, 5, 0), (5, 5, 0), (5, 8, 3), (8, 5, 5)])
def test_a_counter_that_went_back_was_reset(last, current, more):
    assert usage.counted(last, current) == more


def test_a_driver_that_counts_no_bandwidth_is_asked_once(world):
    asked = []

    def unknown(instances):
        asked.append(1)
        raise NotImplementedError

    world.compute.driver.get_all_bw_counters = unknown
    for _ in range(3):
        world.compute._poll_bandwidth_usage(world.context)
        world.clock.advance(601)
    assert asked == [1]


# --- Volume usage ---

def test_volume_usage_is_stored_and_told(make_world):
    world = make_world(volume_usage_poll_interval=60)
    instance, volume_id = world.boot(), world.shelf.add("attaching")
    world.compute.attach_volume(world.context, volume_id, "/dev/xvdb", instance)
    world.compute.driver.get_all_volume_usage = lambda context, attached: [
        {"volume": entry["instance_bdms"][0].volume_id, "instance": entry["instance"], "rd_req": 1, "rd_bytes": 2,
         "wr_req": 3, "wr_bytes": 4} for entry in attached]

    world.compute._poll_volume_usage(world.context)

    publisher, _, event, payload = world.notifier.sent[-1]
    assert (publisher, event) == ("volume.here", "volume.usage")
    assert (payload["volume_id"], payload["reads"], payload["write_bytes"]) == (volume_id, 1, 4)


# --- The audit ---

def test_a_period_is_audited_once(make_world):
    world = make_world(instance_usage_audit=True, instance_usage_audit_period="hour")
    instance = world.boot()
    world.clock.advance(3601)
    world.compute._instance_usage_audit(world.context)
    world.compute._instance_usage_audit(world.context)
    assert world.notifier.events().count("exists") == 1
    assert world.notifier.payload("exists")["instance_id"] == instance.uuid


def test_C31_an_audit_that_died_is_taken_up_again(make_world):
    world = make_world(instance_usage_audit=True, instance_usage_audit_period="hour")
    world.boot()
    world.clock.advance(3601)
    begin, end = usage.notifications.last_completed_audit_period("hour", world.clock.naive())
    world.db.task_log_begin_task(world.context, "instance_usage_audit", begin, end, "here", 1, "started")

    world.compute._instance_usage_audit(world.context)

    assert world.notifier.events().count("exists") == 1
    assert world.db.task_log_get(world.context, "instance_usage_audit", begin, end, "here")["state"] == "DONE"


# --- What schedulers hear ---

def test_schedulers_hear_the_hosts_figures(world):
    heard = []
    world.compute.scheduler_rpcapi.update_service_capabilities = lambda *args: heard.append(args[1:])
    world.compute._report_driver_status(world.context)
    world.compute.publish_service_capabilities(world.context)
    (service, host, (figures,)) = heard[0]
    assert (service, host) == ("compute", "here")
    assert figures["host_ip"] == world.conf.my_ip
    assert figures["hypervisor_hostname"] == "here-node"


def test_C26_hosts_that_a_starting_scheduler_asks_answer_at_moments_of_their_own(world):
    world.compute.scheduler_rpcapi.update_service_capabilities = lambda *args: None
    asked = RequestContext(is_admin=True, operation_id="of-the-message").bind(world.services)
    waited_s = set()
    for _ in range(8):
        before_s = world.clock.time()
        world.compute.publish_service_capabilities(asked)
        waited_s.add(world.clock.time() - before_s)

    assert len(waited_s) > 1
    assert max(waited_s) <= ANSWERS_SPREAD_S


def test_paced_tasks_keep_their_interval(world):
    reports = []
    get_host_stats = world.compute.driver.get_host_stats
    world.compute.driver.get_host_stats = lambda refresh=False: reports.append(1) or get_host_stats(refresh)
    for _ in range(6):
        world.compute._report_driver_status(world.context)
        world.clock.advance(30)
    assert len(reports) == 2


# --- Tasks nobody works on ---

@pytest.mark.parametrize(("task_state", "found"), [
    (task_states.POWERING_OFF, (vm_states.STOPPED, None)),
    (task_states.PAUSING, (vm_states.ACTIVE, None)),
    (task_states.IMAGE_SNAPSHOT, (vm_states.ACTIVE, None)),
    (task_states.MIGRATING, (vm_states.ACTIVE, None)),
    (task_states.RESIZE_PREP, (vm_states.ACTIVE, None)),
    (task_states.REBUILDING, (vm_states.ERROR, None)),
])
def test_C10_a_task_whose_message_was_lost_is_taken_up_in_time(world, task_state, found):
    instance = world.busy(world.boot(), task_state)
    world.compute._recover_stuck_instances(world.context)
    assert world.reload(instance).task_state == task_state

    world.clock.advance(1801)
    world.compute._recover_stuck_instances(world.context)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == found
    assert bool(world.faults(instance)) is (found[1] is None)


def test_a_build_and_a_deletion_that_broke_off_between_two_tasks_are_ended_in_time(world):
    building, deleted = (world.busy(world.boot(), None, vm_state=state)
                         for state in (vm_states.BUILDING, vm_states.DELETED))
    world.clock.advance(1801)

    world.compute._recover_stuck_instances(world.context)

    assert world.reload(building).vm_state == vm_states.ERROR
    assert world.guest(building) is None
    with pytest.raises(exception.InstanceNotFound):
        world.reload(deleted)


@pytest.mark.parametrize("task_state", [task_states.MIGRATING, task_states.RESIZE_MIGRATED, task_states.REBUILDING])
def test_a_move_that_another_host_works_on_is_left_alone(world, task_state):
    instance = world.busy(world.boot(), task_state)
    world.clock.advance(1801)
    objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="here", dest_compute="there",
                      migration_type="resize", status="migrating").create()

    world.compute._recover_stuck_instances(world.context)

    assert world.reload(instance).task_state == task_state


def test_a_task_that_takes_long_but_is_worked_on_is_left_alone(world):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    world.clock.advance(1801)
    with world.compute.compute_host.locks.hold(instance.uuid):
        spawn(world.compute._recover_stuck_instances, world.context).wait(10)
    assert world.reload(instance).task_state == task_states.IMAGE_SNAPSHOT


# --- A hypervisor that does not answer ---

def service_of(world):
    return world.db.service_get_by_compute_host(world.context, "here")


def report(world, times=1):
    for _ in range(times):
        world.clock.advance(121)
        with contextlib.suppress(RuntimeError):
            world.compute._report_driver_status(world.context)


def test_C17_a_host_whose_hypervisor_is_dead_takes_no_builds_until_it_answers(world):
    with world.failing("get_host_stats", RuntimeError("no answer")):
        report(world, 2)
        assert not service_of(world)["disabled"]
        report(world)
        assert service_of(world)["disabled"]
    report(world)
    assert not service_of(world)["disabled"]


def test_a_host_that_an_operator_disabled_stays_so(world):
    world.db.service_update(world.context, service_of(world)["id"], {"disabled": True, "disabled_reason": "repair"})
    report(world)
    assert service_of(world)["disabled_reason"] == "repair"


# --- Cached images ---

def test_C23_cached_images_are_swept_for_all_hosts_on_our_storage(world):
    mine, theirs = world.boot(), world.create(host="neighbour")
    world.create(host="stranger")
    registry = pathlib.Path(world.conf.instances_path) / "compute_nodes"
    registry.parent.mkdir(parents=True)
    registry.write_text(json.dumps({"neighbour": world.clock.time() - 60, "gone": world.clock.time() - 10 ** 6}))
    swept = []
    world.compute.driver.manage_image_cache = lambda context, instances: swept.append({i.uuid for i in instances})

    world.compute._run_image_cache_manager_pass(world.context)

    assert swept == [{mine.uuid, theirs.uuid}]
    assert set(json.loads(registry.read_text())) == {"here", "neighbour", "gone"}


def test_a_driver_without_an_image_cache_is_not_asked(world):
    world.compute.driver.capabilities = {"has_imagecache": False, "supports_recreate": True}
    with world.failing("manage_image_cache", AssertionError("must not be asked")):
        world.compute._run_image_cache_manager_pass(world.context)
