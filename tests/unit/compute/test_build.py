"""Building instances."""

import base64

import pytest

from nova_lite import exception
from nova_lite.objects import power_state, task_states, vm_states


def run(world, instance, **arguments):
    world.compute.run_instance(world.context, instance=instance.to_legacy_dict(), **arguments)


def request_that_may_be_retried():
    return {"request_spec": {"instance_properties": {}},
            "filter_properties": {"retry": {"num_attempts": 1, "hosts": []}}}


def test_a_built_instance_is_active_here(world):
    instance = world.create()

    run(world, instance)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)
    assert (instance.host, instance.node, instance.launched_on) == ("here", "here-node", "here")
    assert instance.power_state == power_state.RUNNING
    assert instance.launched_at == world.clock.utcnow()
    assert world.guest(instance).state == power_state.RUNNING
    assert world.notifier.events() == ["create.start", "create.end"]
    assert world.events(instance) == {"compute_run_instance": "Success"}


def test_the_end_of_a_build_tells_addresses_and_image(world):
    instance = world.create()

    run(world, instance)

    payload = world.notifier.payload("create.end")
    assert payload["image_name"] == "small"
    assert payload["state"] == vm_states.ACTIVE
    assert isinstance(payload["fixed_ips"], list)


def test_room_is_taken_on_the_node(world):
    run(world, world.create())

    node = world.db.compute_node_get_by_host_and_nodename(world.context, "here", "here-node")
    assert node["memory_mb_used"] == world.conf.reserved_host_memory_mb + world.flavor.memory_mb
    assert node["running_vms"] == 1


def test_C1_a_message_delivered_again_changes_nothing(world):
    instance = world.create()
    run(world, instance)
    built = world.reload(instance)
    world.notifier.sent.clear()

    run(world, instance)

    again = world.reload(instance)
    assert (again.vm_state, again.task_state, again.revision) == (vm_states.ACTIVE, None, built.revision)
    assert world.notifier.events() == []
    assert world.faults(instance) == []


def test_a_message_for_an_instance_that_went_to_another_host_changes_nothing(world):
    instance = world.create(host="there", node="there-node", launched_on="there", task_state=task_states.NETWORKING)

    run(world, instance)

    assert world.reload(instance).task_state == task_states.NETWORKING
    assert world.guest(instance) is None


def test_an_instance_that_is_gone_needs_no_build(world):
    instance = world.create()
    world.reload(instance).destroy()

    run(world, instance)

    assert world.guest(instance) is None


def test_an_image_too_large_for_the_flavor_is_refused_before_anything_is_taken(world):
    instance = world.create()
    limit_b = world.flavor.root_gb * 1024 ** 3
    pretend_image_size(world, limit_b + 1)

    with pytest.raises(exception.ImageTooLarge):
        run(world, instance)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state, instance.host) == (vm_states.ERROR, None, None)
    assert world.notifier.events() == ["create.error"]
    assert world.faults(instance)[0]["message"] == "ImageTooLarge"


def pretend_image_size(world, size_b):
    """Show the image as a service with large images would."""
    show = world.services.image_api.show
    world.services.image_api.show = lambda context, image_id: {**show(context, image_id), "size": size_b}


def test_a_guest_of_that_name_is_an_error(world):
    instance = world.create()
    world.compute.driver.spawn(world.context, instance, {}, [], None)

    with pytest.raises(exception.InstanceExists):
        run(world, instance)

    assert world.reload(instance).vm_state == vm_states.ERROR


def test_files_are_decoded_for_the_driver(world):
    instance, seen = world.create(), []
    spawn = world.compute.driver.spawn
    world.compute.driver.spawn = lambda *args, **kwargs: (seen.append(args[3]), spawn(*args, **kwargs))

    run(world, instance, injected_files=[["/etc/motd", base64.b64encode(b"hello").decode()]])

    assert seen == [[("/etc/motd", b"hello")]]


def test_a_file_that_is_no_base64_is_named_without_its_contents(world):
    instance = world.create()
    with pytest.raises(exception.Base64Exception):
        run(world, instance, injected_files=[["/etc/motd", "secret!"]])
    fault = world.faults(instance)[0]
    assert "/etc/motd" in fault["details"]
    assert "secret" not in fault["details"]


def test_a_node_without_room_sends_the_build_back_to_the_scheduler(world):
    instance = world.create()
    sent = record_reschedules(world)
    arguments = request_that_may_be_retried()
    arguments["filter_properties"]["limits"] = {"memory_mb": 100}

    run(world, instance, **arguments)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state, instance.host) == (
        vm_states.BUILDING, task_states.SCHEDULING, None)
    assert sent[0]["request_spec"]["instance_uuids"] == [instance.uuid]
    assert "ComputeResourcesUnavailable" in "".join(sent[0]["filter_properties"]["retry"]["exc"])


def record_reschedules(world):
    sent = []
    world.compute._rescheduler._scheduler.run_instance = lambda context, **arguments: sent.append(arguments)
    return sent


def test_C13_a_failed_spawn_is_cleared_away_and_tried_elsewhere(world):
    instance = world.create()
    sent = record_reschedules(world)

    with world.failing("spawn", RuntimeError("no disk")):
        run(world, instance, injected_files=[["/f", "aGk="]], admin_password="pw", is_first_time=True,
            **request_that_may_be_retried())

    assert sent[0]["injected_files"] == [["/f", "aGk="]]
    assert sent[0]["admin_password"] == "pw"
    instance = world.reload(instance)
    assert (instance.task_state, instance.host, instance.node) == (task_states.SCHEDULING, None, None)
    assert world.faults(instance)[0]["message"] == "RuntimeError"
    assert world.events(instance) == {"compute_run_instance": "Success"}
    assert world.notifier.events() == ["create.start", "shutdown.start", "shutdown.end"]
    world.compute.update_available_resource(world.context)
    node = world.db.compute_node_get_by_host_and_nodename(world.context, "here", "here-node")
    assert node["memory_mb_used"] == world.conf.reserved_host_memory_mb


def test_C35_a_failed_spawn_without_retry_is_an_error_for_good(world):
    instance = world.create()

    with world.failing("spawn", RuntimeError("no disk")), pytest.raises(RuntimeError):
        run(world, instance)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state, instance.host) == (vm_states.ERROR, None, None)
    assert world.notifier.events()[-1] == "create.error"
    told = world.notifier.payload("create.error")
    assert "no disk" in told["message"]
    assert told["state"] == vm_states.ERROR
    assert len(world.faults(instance)) == 1
    assert world.events(instance) == {"compute_run_instance": "Error"}


@pytest.mark.parametrize("step", ["macs_for_instance", "spawn"])
def test_C4_a_delete_ends_the_build_at_its_next_step(world, step):
    instance = world.create()
    driver = world.compute.driver
    original = getattr(driver, step)

    def deleted_meanwhile(*args, **kwargs):
        world.busy(instance, task_states.DELETING)
        return original(*args, **kwargs)

    setattr(driver, step, deleted_meanwhile)

    run(world, instance)

    after = world.reload(instance)
    assert after.task_state == task_states.DELETING
    assert after.vm_state == vm_states.BUILDING
    assert "create.end" not in world.notifier.events()
    world.compute.terminate_instance(world.context, instance=instance.to_legacy_dict())
    assert world.guest(instance) is None


def test_an_instance_deleted_during_its_spawn_leaves_no_guest(world):
    instance = world.create()
    driver = world.compute.driver
    spawn = driver.spawn

    def gone_meanwhile(*args, **kwargs):
        spawn(*args, **kwargs)
        world.db.instance_destroy(world.context, instance.uuid)

    driver.spawn = gone_meanwhile

    with pytest.raises(exception.InstanceNotFound):
        run(world, instance)

    assert world.guest(instance) is None


def test_what_a_driver_tells_of_a_build_does_not_hide_that_it_was_overtaken(world):
    instance = world.create()
    driver = world.compute.driver
    spawn = driver.spawn

    def overtaken_meanwhile(*args, **kwargs):
        world.db.instance_update(world.context, instance.uuid, {"task_state": task_states.DELETING})
        world.compute.virtapi.instance_update(world.context, instance.uuid, {"progress": 50})
        spawn(*args, **kwargs)

    driver.spawn = overtaken_meanwhile

    run(world, instance)

    after = world.reload(instance)
    assert (after.task_state, after.vm_state, after.progress) == (task_states.DELETING, vm_states.BUILDING, 50)
    assert "create.end" not in world.notifier.events()
