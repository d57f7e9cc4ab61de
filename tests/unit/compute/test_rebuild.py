"""Rebuilding in place, and evacuating."""

import base64

import pytest

from nova_lite import exception, objects
from nova_lite.objects import power_state, task_states, vm_states


def rebuild(world, instance, compute=None, **arguments):
    (compute or world.compute).rebuild_instance(
        world.context, instance=instance.to_legacy_dict(),
        **{"orig_image_ref": world.image["id"], "image_ref": world.image["id"], "injected_files": [],
           "new_pass": "pw", **arguments})


def test_a_rebuilt_instance_runs_again(world):
    instance = world.busy(world.boot(), task_states.REBUILDING)
    before = world.guest(instance)

    rebuild(world, instance)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)
    assert world.guest(instance) is not before
    assert world.notifier.events() == ["exists", "rebuild.start", "rebuild.end"]
    assert world.notifier.payload("rebuild.start")["image_name"] == "small"
    assert world.notifier.payload("exists")["image_ref_url"].endswith(f"/images/{world.image['id']}")
    assert "fixed_ips" not in world.notifier.payload("rebuild.start")
    told = world.notifier.payload("rebuild.end")
    assert (told["image_name"], told["fixed_ips"][0]["label"]) == ("small", "net")


def test_its_files_and_password_reach_the_driver(world):
    instance = world.busy(world.boot(), task_states.REBUILDING)
    seen, spawn = [], world.compute.driver.spawn

    def watched(context, guest, image_meta, files, password, **kwargs):
        seen.append((files, password))
        spawn(context, guest, image_meta, files, password, **kwargs)

    world.compute.driver.spawn = watched
    rebuild(world, instance, injected_files=[["/f", base64.b64encode(b"hi").decode()]])
    assert seen == [([("/f", b"hi")], "pw")]


def test_an_instance_that_was_stopped_is_stopped_again_and_never_looks_terminated(world):
    instance = world.busy(world.boot(), task_states.REBUILDING, vm_state=vm_states.STOPPED)
    world.guest(instance).state = power_state.SHUTDOWN

    rebuild(world, instance)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state, instance.terminated_at) == (vm_states.STOPPED, None, None)
    assert world.guest(instance).state == power_state.SHUTDOWN
    assert "power_off.end" in world.notifier.events()


def test_a_failed_rebuild_is_an_error_and_told(world):
    instance = world.busy(world.boot(), task_states.REBUILDING)
    with world.failing("spawn", RuntimeError("no disk")), pytest.raises(RuntimeError):
        rebuild(world, instance)
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ERROR, None)
    assert world.notifier.events()[-1] == "rebuild.error"


def test_disks_that_cannot_be_preserved_are_not_touched(world):
    instance = world.busy(world.boot(), task_states.REBUILDING)
    with pytest.raises(exception.Invalid):
        rebuild(world, instance, preserve_ephemeral=True)
    assert world.reload(instance).vm_state == vm_states.ACTIVE


# --- Evacuation ---

def evacuated_from_here(world):
    """An instance of `here`, which has died, and the host `there` that is to build it again."""
    world.there = world.add_host("there")
    return world.busy(world.boot(), task_states.REBUILDING)


EVACUATION = {"orig_image_ref": None, "image_ref": None, "injected_files": None, "recreate": True}


def test_C30_an_evacuated_instance_runs_on_its_new_host_which_counts_it(world):
    instance = evacuated_from_here(world)

    rebuild(world, instance, world.there, **EVACUATION)

    instance = world.reload(instance)
    assert (instance.host, instance.node, instance.vm_state, instance.task_state) == (
        "there", "there-node", vm_states.ACTIVE, None)
    assert world.guest(instance, world.there).state == power_state.RUNNING
    node = world.db.compute_node_get_by_host_and_nodename(world.context, "there", "there-node")
    assert node["memory_mb_used"] == world.conf.reserved_host_memory_mb + 512


def test_the_old_host_learns_at_its_start_what_was_evacuated(world):
    instance = evacuated_from_here(world)
    rebuild(world, instance, world.there, **EVACUATION)
    record = objects.MigrationList.get_by_filters(world.context, {"instance_uuid": instance.uuid})[0]
    assert (record.migration_type, record.source_compute, record.dest_compute, record.status) == (
        "evacuation", "here", "there", "done")

    world.compute.init_host()

    assert world.guest(instance) is None
    assert world.guest(instance, world.there) is not None


def test_a_failed_evacuation_leads_back_to_the_disks(world):
    instance = evacuated_from_here(world)
    with world.failing("spawn", RuntimeError("no SR"), compute=world.there), pytest.raises(RuntimeError):
        rebuild(world, instance, world.there, **EVACUATION)
    instance = world.reload(instance)
    assert (instance.host, instance.node, instance.vm_state) == ("here", "here-node", vm_states.ERROR)
    assert objects.MigrationList.get_by_filters(world.context, {"instance_uuid": instance.uuid})[0].status == "error"


@pytest.mark.parametrize(("on_disk", "claimed"), [(True, False), (False, True)])
def test_what_is_said_about_shared_storage_must_be_true(world, on_disk, claimed):
    instance = evacuated_from_here(world)
    world.there.driver.instance_on_disk = lambda instance: on_disk
    with pytest.raises(exception.InvalidSharedStorage):
        rebuild(world, instance, world.there, **EVACUATION, on_shared_storage=claimed)


def test_a_driver_that_cannot_recreate_refuses(world):
    instance = evacuated_from_here(world)
    world.there.driver.capabilities = {"supports_recreate": False, "has_imagecache": False}
    with pytest.raises(exception.InstanceRecreateNotSupported):
        rebuild(world, instance, world.there, **EVACUATION)
