"""Passwords, files, diagnostics, consoles, rescue and snapshots of guests."""

import io

import pytest

from nova_lite import exception
from nova_lite.concurrency import spawn
from nova_lite.objects import power_state, task_states, vm_states

# --- Password ---


def set_password(world, instance, **arguments):
    world.compute.set_admin_password(world.context, instance=instance.to_legacy_dict(), **arguments)


def test_a_password_is_set_in_the_guest(world):
    instance = world.busy(world.boot(), task_states.UPDATING_PASSWORD)
    seen = []
    world.compute.driver.set_admin_password = lambda instance, password: seen.append(password)
    set_password(world, instance, new_pass="correct horse")
    assert seen == ["correct horse"]
    assert world.reload(instance).task_state is None


def test_without_a_password_one_is_made(world):
    instance = world.busy(world.boot(), task_states.UPDATING_PASSWORD)
    seen = []
    world.compute.driver.set_admin_password = lambda instance, password: seen.append(password)
    set_password(world, instance)
    assert len(seen[0]) == world.conf.password_length


def test_a_guest_that_does_not_run_takes_no_password(world):
    instance = world.busy(world.boot(), task_states.UPDATING_PASSWORD)
    world.guest(instance).state = power_state.SHUTDOWN
    with pytest.raises(exception.InstancePasswordSetFailed, match="not running"):
        set_password(world, instance, new_pass="x")
    assert world.reload(instance).task_state is None


def test_C15_a_guest_that_refuses_a_password_stays_active_and_the_password_stays_secret(world):
    instance = world.busy(world.boot(), task_states.UPDATING_PASSWORD)
    with (world.failing("set_admin_password", RuntimeError("agent timed out on hunter2")),
          pytest.raises(exception.InstancePasswordSetFailed)):
        set_password(world, instance, new_pass="hunter2")
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)
    fault = world.faults(instance)[0]
    assert fault["message"] == "InstancePasswordSetFailed"
    assert "hunter2" not in fault["details"]
    assert "hunter2" not in str(world.notifier.sent)


def test_a_driver_that_sets_no_passwords_says_so(world):
    instance = world.busy(world.boot(), task_states.UPDATING_PASSWORD)
    with world.failing("set_admin_password", NotImplementedError()), pytest.raises(NotImplementedError):
        set_password(world, instance)
    assert world.reload(instance).task_state is None


# --- Files, metadata, diagnostics ---

def test_a_file_reaches_the_guest(world):
    instance, seen = world.boot(), []
    world.compute.driver.inject_file = lambda instance, path, contents: seen.append((path, contents))
    world.compute.inject_file(world.context, "/etc/motd", "hello", instance=instance)
    assert seen == [("/etc/motd", "hello")]


def test_a_change_of_metadata_reaches_the_guest(world):
    instance, seen = world.boot(), []
    world.compute.driver.change_instance_metadata = lambda context, instance, diff: seen.append(diff)
    world.compute.change_instance_metadata(world.context, {"a": ["+", "1"], "b": ["-"]}, instance)
    assert seen == [{"a": ["+", "1"], "b": ["-"]}]


def test_only_a_running_guest_has_diagnostics(world):
    instance = world.boot()
    assert world.compute.get_diagnostics(world.context, instance=instance)["memory"] == 524288
    world.guest(instance).state = power_state.SHUTDOWN
    assert world.compute.get_diagnostics(world.context, instance=instance) is None


# --- Consoles ---

@pytest.mark.parametrize(("tail_length", "shown"), [
    (None, "FAKE CONSOLE OUTPUT\nANOTHER\nLAST LINE"),
    (2, "ANOTHER\nLAST LINE"),
    ("1", "LAST LINE"),
    (0, ""),
    ("many", ""),
    (100, "FAKE CONSOLE OUTPUT\nANOTHER\nLAST LINE"),
])
def test_console_output_is_cut_to_its_last_lines(world, tail_length, shown):
    instance = world.boot()
    assert world.compute.get_console_output(world.context, instance=instance, tail_length=tail_length) == shown


def test_console_output_is_plain_ascii(world):
    instance = world.boot()
    world.compute.driver.get_console_output = lambda instance: b"caf\xe9 \xc3\xbc"
    assert world.compute.get_console_output(world.context, instance=instance) == "caf? ?"


def test_a_vnc_console_comes_with_a_token_and_its_url(world):
    info = world.compute.get_vnc_console(world.context, "novnc", instance=world.boot())
    assert (info["host"], info["port"], info["internal_access_path"]) == ("fakevncconsole.com", 6969, "FAKE")
    assert info["access_url"] == f"{world.conf.novncproxy_base_url}?token={info['token']}"


@pytest.mark.parametrize(("method", "console_type", "options"), [
    ("get_vnc_console", "spice-html5", {}),
    ("get_vnc_console", "novnc", {"vnc_enabled": False}),
    ("get_spice_console", "spice-html5", {}),
])
def test_a_console_that_is_not_offered_is_refused(make_world, method, console_type, options):
    world = make_world(**options)
    with pytest.raises(exception.ConsoleTypeInvalid):
        getattr(world.compute, method)(world.context, console_type, instance=world.boot())


def test_a_guest_that_is_being_built_has_no_console_yet(world):
    instance = world.create()
    with (world.failing("get_vnc_console", exception.InstanceNotFound(instance_id="x")),
          pytest.raises(exception.InstanceNotReady)):
        world.compute.get_vnc_console(world.context, "novnc", instance=instance)


def test_console_ports_are_compared_as_numbers(world):
    instance = world.boot()
    assert world.compute.validate_console_port(world.context, instance, "6969", "novnc")
    assert not world.compute.validate_console_port(world.context, instance, 6970, "novnc")


# --- Rescue ---

def test_a_rescued_instance_boots_the_image_its_own_was_made_from(world):
    base = world.services.image_api.create(world.context, {"name": "base", "disk_format": "raw",
                                                           "container_format": "bare"}, io.BytesIO(b"x"))
    instance = world.busy(world.boot(system_metadata={"image_base_image_ref": base["id"]}), task_states.RESCUING)
    seen = []
    world.compute.driver.rescue = lambda context, instance, nw, image, password: seen.append((image["id"], password))
    world.clock.advance(100)

    world.compute.rescue_instance(world.context, instance=instance.to_legacy_dict(), rescue_password="pw")

    assert seen == [(base["id"], "pw")]
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.RESCUED, None)
    assert instance.launched_at == world.clock.utcnow()
    assert world.notifier.events() == ["rescue.start", "exists", "rescue.end"]
    assert world.notifier.payload("rescue.end")["rescue_image_name"] == "base"


@pytest.mark.parametrize(("asked", "rescued_with"), [(None, "small"), ("other", "other")])
def test_the_rescue_image_can_be_chosen(world, asked, rescued_with):
    other = world.services.image_api.create(world.context, {"name": "other", "disk_format": "raw",
                                                            "container_format": "bare"}, io.BytesIO(b"x"))
    instance = world.busy(world.boot(), task_states.RESCUING)
    world.compute.rescue_instance(world.context, instance=instance, rescue_image_ref=asked and other["id"])
    assert world.notifier.payload("rescue.start")["rescue_image_name"] == rescued_with


@pytest.mark.parametrize(("clean", "stopped"), [(True, True), (False, False)])
def test_a_guest_gets_time_to_shut_down_before_it_is_rescued(world, clean, stopped):
    instance, asked = world.busy(world.boot(), task_states.RESCUING), []
    world.compute.driver.power_off = lambda instance, timeout_s, interval_s: asked.append(timeout_s)
    world.compute.rescue_instance(world.context, instance=instance, clean_shutdown=clean)
    assert asked == ([world.conf.shutdown_timeout] if stopped else [])


def test_a_failed_rescue_is_an_error(world):
    instance = world.busy(world.boot(), task_states.RESCUING)
    with world.failing("rescue", RuntimeError()), pytest.raises(RuntimeError):
        world.compute.rescue_instance(world.context, instance=instance)
    assert world.reload(instance).vm_state == vm_states.ERROR


def test_a_rescue_that_lasts_too_long_is_ended_through_the_api(make_world):
    world = make_world(rescue_timeout=60)
    instance = world.busy(world.boot(), task_states.RESCUING)
    world.compute.rescue_instance(world.context, instance=instance)
    world.compute._poll_rescued_instances(world.context)
    assert world.compute_api.calls == []
    world.clock.advance(61)
    world.compute._poll_rescued_instances(world.context)
    assert world.compute_api.calls == [("unrescue", instance.uuid)]


# --- Snapshots ---

def new_image(world, **properties):
    return world.services.image_api.create(world.context, {
        "name": "snap", "disk_format": "vhd", "container_format": "bare", "properties": properties})


def test_a_snapshot_ends_idle_and_is_told(world):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    world.compute.snapshot_instance(world.context, new_image(world)["id"], instance=instance.to_legacy_dict())
    assert world.reload(instance).task_state is None
    assert world.notifier.events() == ["snapshot.start", "snapshot.end"]


def test_a_snapshot_shows_its_progress_step_by_step(world):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    seen = []

    def snapshot(context, guest, image_id, update_task_state):
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        seen.append(world.reload(instance).task_state)
        update_task_state(task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD)
        seen.append(world.reload(instance).task_state)

    world.compute.driver.snapshot = snapshot
    world.compute.snapshot_instance(world.context, new_image(world)["id"], instance=instance)
    assert seen == [task_states.IMAGE_PENDING_UPLOAD, task_states.IMAGE_UPLOADING]


def test_a_failed_snapshot_deletes_its_image(world):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    image = new_image(world)
    with world.failing("snapshot", RuntimeError("disk full")), pytest.raises(RuntimeError):
        world.compute.snapshot_instance(world.context, image["id"], instance=instance)
    with pytest.raises(exception.ImageNotFound):
        world.services.image_api.show(world.context, image["id"])
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)


def test_an_image_deleted_during_its_upload_ends_the_snapshot_without_an_error(world):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    image = new_image(world)
    with world.failing("snapshot", exception.ImageNotFound(image_id=image["id"])):
        world.compute.snapshot_instance(world.context, image["id"], instance=instance)
    assert world.reload(instance).task_state is None
    assert world.faults(instance) == []


@pytest.mark.parametrize(("arguments", "error"), [
    ({"image_type": "snapshot", "rotation": 1}, exception.ImageRotationNotAllowed),
    ({"image_type": "backup"}, exception.RotationRequiredForBackup),
    ({"image_type": "backup", "rotation": -1}, exception.RotationRequiredForBackup),
    ({"image_type": "clone"}, exception.Invalid),
])
def test_a_wrong_rotation_is_refused_before_the_upload(world, arguments, error):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    with (world.failing("snapshot", AssertionError("must not be asked")), pytest.raises(error)):
        world.compute.snapshot_instance(world.context, new_image(world)["id"], instance=instance, **arguments)


@pytest.mark.parametrize(("rotation", "kept"), [(2, 2), (0, 0), (9, 4)])
def test_only_the_newest_backups_are_kept(world, rotation, kept):
    instance = world.boot()
    mine = {"image_type": "backup", "backup_type": "daily", "instance_uuid": instance.uuid}
    images = [new_image(world, **mine) for _ in range(4)]
    weekly = new_image(world, **{**mine, "backup_type": "weekly"})
    world.busy(instance, task_states.IMAGE_BACKUP)

    world.compute.snapshot_instance(world.context, images[-1]["id"], instance=instance, image_type="backup",
                                    backup_type="daily", rotation=rotation)

    names = {image["id"] for image in world.services.image_api.detail(world.context)}
    assert len(names & {image["id"] for image in images}) == kept
    assert weekly["id"] in names


def test_a_delete_does_not_wait_for_a_snapshot(world):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)

    def deleted_meanwhile(context, guest, image_id, update_task_state):
        world.busy(instance, task_states.DELETING)
        spawn(world.compute.terminate_instance, world.context, instance=instance).wait(10)
        update_task_state(task_state=task_states.IMAGE_UPLOADING)

    world.compute.driver.snapshot = deleted_meanwhile
    with pytest.raises(exception.InstanceNotFound):
        world.compute.snapshot_instance(world.context, new_image(world)["id"], instance=instance)
    assert world.guest(instance) is None
