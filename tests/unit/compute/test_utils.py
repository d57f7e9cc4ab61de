"""Faults, actions, notifications, audits."""

import datetime
import sys

import pytest

from nova_lite import exception
from nova_lite.compute import utils
from nova_lite.objects import vm_states


class Recorder:
    def __init__(self):
        self.rows = []

    def instance_fault_create(self, context, values):
        self.rows.append(values)


def fault_of(world, error, with_traceback=False):
    recorder = Recorder()
    try:
        raise error
    except Exception as raised:
        utils.add_instance_fault_from_exc(world.context, recorder, {"uuid": "one"}, raised,
                                          sys.exc_info() if with_traceback else None)
    return recorder.rows[0]


def test_an_unexpected_error_is_recorded_with_its_traceback(world):
    fault = fault_of(world, NotImplementedError("test"), with_traceback=True)
    assert (fault["code"], fault["message"]) == (500, "NotImplementedError")
    assert fault["details"].startswith("test\n")
    assert "raise error" in fault["details"]


def test_without_exc_info_only_the_text_is_recorded(world):
    assert fault_of(world, NotImplementedError("test"))["details"] == "test"


def test_a_users_mistake_has_its_code_and_no_traceback(world):
    fault = fault_of(world, exception.Invalid("fake details", code=400), with_traceback=True)
    assert (fault["code"], fault["message"], fault["details"]) == (400, "Invalid", "fake details")


def test_a_remote_error_carries_its_text(world):
    fault = fault_of(world, exception.RemoteError("test", "My Test Message"))
    assert (fault["code"], fault["message"]) == (500, "My Test Message")
    assert fault["details"].startswith("Remote error")


def test_C33_a_message_fits_its_column(world):
    assert len(fault_of(world, exception.RemoteError("test", "x" * 1000))["message"]) == 255


def test_an_action_is_packed_with_its_request(world):
    packed = utils.pack_action_start(world.context, "one", "reboot")
    assert packed == {"action": "reboot", "instance_uuid": "one", "request_id": world.context.request_id,
                      "user_id": "alice", "project_id": "blue", "start_time": world.context.timestamp}
    assert utils.pack_action_finish(world.context, "one") == {
        "instance_uuid": "one", "request_id": world.context.request_id, "finish_time": world.clock.naive()}


def test_an_event_that_failed_is_packed_with_its_traceback(world):
    try:
        raise ValueError("no")
    except ValueError as error:
        packed = utils.pack_action_event_finish(world.context, "one", "compute_x", error, error.__traceback__)
    assert packed["result"] == "Error"
    assert packed["message"] == "no"
    assert "raise ValueError" in packed["traceback"]
    assert utils.pack_action_event_finish(world.context, "one", "compute_x")["result"] == "Success"


PAYLOAD_KEYS = {
    "tenant_id", "user_id", "instance_id", "display_name", "reservation_id", "hostname", "instance_type",
    "instance_type_id", "architecture", "memory_mb", "vcpus", "root_gb", "ephemeral_gb", "disk_gb", "host",
    "availability_zone", "created_at", "deleted_at", "launched_at", "image_ref_url", "os_type", "kernel_id",
    "ramdisk_id", "state", "state_description", "access_ip_v4", "access_ip_v6", "image_meta", "metadata",
}


def test_a_usage_notification_has_exactly_the_documented_keys(world):
    instance = world.boot(system_metadata={"image_min_ram": "1"}, metadata={"role": "web"})

    utils.notify_about_instance_usage(world.context, instance, "resize.start", extra_usage_info={"size": "big"})

    publisher, priority, event, payload = world.notifier.sent[-1]
    assert (publisher, priority, event) == ("compute.here", "INFO", "compute.instance.resize.start")
    assert set(payload) == PAYLOAD_KEYS | {"size"}
    assert payload["instance_type"] == "m1.tiny"
    assert payload["image_meta"] == {"min_ram": "1"}
    assert payload["metadata"] == {"role": "web"}
    assert payload["state"] == vm_states.ACTIVE
    assert payload["deleted_at"] == ""
    assert payload["launched_at"] == str(world.clock.naive())


def test_addresses_are_told_only_when_they_are_given(world):
    instance = world.boot()
    utils.notify_about_instance_usage(world.context, instance, "x",
                                      network_info=utils.get_nw_info_for_instance(instance))
    (address,) = world.notifier.sent[-1][3]["fixed_ips"]
    assert address["label"] == "net"
    assert address["address"].startswith("10.1.0.")


def test_an_instance_in_the_form_of_old_releases_is_told_alike(world):
    instance = world.boot()
    utils.notify_about_instance_usage(world.context, instance, "x")
    utils.notify_about_instance_usage(world.context, instance.to_legacy_dict(), "x")
    ours, theirs = (sent[3] for sent in world.notifier.sent[-2:])
    assert theirs["instance_type"] == ours["instance_type"]
    assert theirs["image_meta"] == ours["image_meta"]


def test_existence_is_told_with_its_period_and_bandwidth(world):
    instance = world.boot()
    utils.notify_usage_exists(world.context, instance, current_period=True, extra_usage_info={"why": "test"})
    payload = world.notifier.payload("exists")
    assert payload["audit_period_beginning"] == "2026-11-01 00:00:00"
    assert payload["audit_period_ending"] == str(world.clock.naive())
    assert payload["bandwidth"] == {}
    assert payload["why"] == "test"


def test_bandwidth_is_told_by_network_of_the_interfaces_that_there_are(world):
    instance = world.boot()
    (vif,) = utils.get_nw_info_for_instance(instance)
    for mac, more in ((vif["address"], 0), ("02:00:00:00:00:99", 1)):  # the second one has gone
        world.db.bw_usage_update_all(world.context, datetime.datetime(2026, 11, 1), [
            {"uuid": instance.uuid, "mac": mac, "bw_in": 10 + more, "bw_out": 20, "last_ctr_in": 0, "last_ctr_out": 0}],
            last_refreshed=world.clock.naive(), update_cells=False)

    utils.notify_usage_exists(world.context, instance, current_period=True)

    assert world.notifier.payload("exists")["bandwidth"] == {"net": {"bw_in": 10, "bw_out": 20}}


def test_bandwidth_that_cannot_be_had_is_none_or_an_error(world):
    instance = world.create()

    class Away:
        def get_instance_nw_info(self, *args, **kwargs):
            raise ConnectionError("the network service is away")

    context = world.context.elevated().bind(world.services.with_(network_api=Away()))
    utils.notify_usage_exists(context, instance)
    assert world.notifier.payload("exists")["bandwidth"] is None
    with pytest.raises(ConnectionError):
        utils.notify_usage_exists(context, instance, ignore_missing_network_data=False)


def test_an_audit_begins_and_ends_once(world):
    begin, end = datetime.datetime(2026, 10, 1), datetime.datetime(2026, 11, 1)
    conductor = world.compute.conductor_api
    assert not utils.has_audit_been_run(world.context, conductor, "here")
    utils.start_instance_usage_audit(world.context, conductor, begin, end, "here", 3)
    with pytest.raises(exception.TaskAlreadyRunning):
        utils.start_instance_usage_audit(world.context, conductor, begin, end, "here", 3)
    assert utils.has_audit_been_run(world.context, conductor, "here")
    utils.finish_instance_usage_audit(world.context, conductor, begin, end, "here", 0, "done")
    assert conductor.task_log_get(world.context, "instance_usage_audit", begin, end, "here")["state"] == "DONE"
    with pytest.raises(exception.TaskNotRunning):
        utils.finish_instance_usage_audit(world.context, conductor, begin, end, "there", 0, "done")


def volume_row(**times):
    return {"volume_id": "v", "instance_id": "i", "tot_last_refreshed": None, "curr_last_refreshed": None,
            "tot_reads": 1, "curr_reads": 2, "tot_read_bytes": 10, "curr_read_bytes": 20, "tot_writes": 3,
            "curr_writes": 4, "tot_write_bytes": 30, "curr_write_bytes": 40, **times}


@pytest.mark.parametrize(("times", "shown"), [
    ({}, ""),
    ({"tot_last_refreshed": datetime.datetime(2026, 1, 1)}, "2026-01-01 00:00:00"),
    ({"tot_last_refreshed": datetime.datetime(2026, 1, 1), "curr_last_refreshed": datetime.datetime(2026, 1, 2)},
     "2026-01-02 00:00:00"),
])
def test_volume_usage_is_the_sum_of_total_and_current(times, shown):
    assert utils.usage_volume_info(volume_row(**times)) == {
        "volume_id": "v", "instance_id": "i", "last_refreshed": shown, "reads": 3, "read_bytes": 30, "writes": 7,
        "write_bytes": 70}
