"""What users do beyond starting and stopping, from the top cell down to the XenServer and back."""

import pytest

from nova_lite import exception, objects
from tests.fixtures.tree import RunningTree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    directory = tmp_path_factory.mktemp("volumes-tree")
    overrides = {("volume", "backend"): "local", ("volume", "store_path"): str(directory / "volumes")}
    with RunningTree(directory, overrides=overrides).start() as running:
        yield running


@pytest.fixture(scope="module")
def machine(tree):
    """A machine in the cell that has two hosts, so that it can move."""
    hints = {"target_cell": "api!west"}
    flavor = objects.Flavor.get_by_name(tree.context(), "m1.tiny")
    (instance,), _ = tree.api.compute_api.create(tree.context(), flavor, tree.image_id, display_name="walker",
                                                 scheduler_hints=hints)
    return tree.until_idle(instance, "active")


@pytest.fixture
def order(tree, machine):
    """Give an order at the top and return the machine once it is idle in the state that follows."""

    def give(operation, *arguments, goal="active", **keywords):
        getattr(tree.api.compute_api, operation)(tree.context(), tree.read(machine), *arguments, **keywords)
        return tree.until_idle(machine, goal)

    return give


def used(tree, resource):
    ctxt = tree.context()
    row = tree.api.services.db.quota_usage_get_all_by_project(ctxt, ctxt.project_id)[resource]
    return row["in_use"], row["reserved"]


def test_a_machine_is_rescued_and_runs_on(tree, machine, order):
    order("rescue", "pw", goal="rescued")
    order("unrescue")

    assert tree.power_state(tree.read(machine)) == "Running"


def test_a_machine_is_rebuilt_from_its_image(tree, machine, order):
    assert order("rebuild", tree.image_id, "pw").image_ref == tree.image_id

    disk = tree.xenserver_of(tree.read(machine)).root_disk(machine.uuid, tree.image.size_b)
    assert disk.digest == tree.image.digest


@pytest.mark.parametrize(("operation", "arguments"), [("snapshot", ("s",)), ("backup", ("b", "daily", 1))])
def test_an_image_of_a_machine_is_filled(tree, machine, operation, arguments):
    image = getattr(tree.api.compute_api, operation)(tree.context(), tree.read(machine), *arguments)

    images = tree.api.services.image_api
    shown = tree.until(lambda: (found := images.show(tree.context(), image["id"]))["status"] == "active" and found,
                       "the image stayed empty")
    assert shown["size"] > 0
    tree.until_idle(machine, "active")


def test_a_larger_flavor_is_confirmed_and_counted(tree, machine, order):
    before = used(tree, "ram")[0]

    order("resize", "2", goal="resized")
    resized = order("confirm_resize")

    assert (resized.flavor.name, resized.memory_mb) == ("m1.small", 2048)
    tree.until(lambda: used(tree, "ram") == (before + 2048 - 512, 0), lambda: f"used: {used(tree, 'ram')}")
    assert tree.power_state(tree.read(machine)) == "Running"


def test_a_move_is_taken_back(tree, machine, order):
    before = tree.read(machine).host

    order("resize", goal="resized")
    assert order("revert_resize").host == before


def test_a_running_machine_moves(tree, machine, order):
    before = tree.read(machine).host

    assert order("live_migrate", True, False, None).host != before
    assert tree.power_state(tree.read(machine)) == "Running"


def test_a_volume_comes_and_goes(tree, machine):
    volumes, ctxt = tree.api.services.volume_api, tree.context()
    made = volumes.create(ctxt, 1, "data", "")

    assert tree.api.compute_api.attach_volume(ctxt, tree.read(machine), made["id"]) == "/dev/xvdb"
    tree.until(lambda: volumes.get(ctxt, made["id"])["status"] == "in-use", "the volume was not attached")
    tree.until(lambda: tree.api.services.db.block_device_mapping_get_all_by_instance(ctxt, machine.uuid),
               "the top was not told of the volume")

    tree.api.compute_api.detach_volume(ctxt, tree.read(machine), made["id"])
    tree.until(lambda: volumes.get(ctxt, made["id"])["status"] == "available", "the volume was not detached")


def test_a_console_opens_with_its_token_only(tree, machine):
    tokens, ctxt = tree.api.services.console_tokens, tree.context()

    url = tree.api.compute_api.get_vnc_console(ctxt, tree.read(machine), "novnc")["url"]

    token = url.partition("token=")[2]
    assert tokens.check_token(ctxt, token)["instance_uuid"] == machine.uuid
    assert tokens.check_token(ctxt, token[::-1]) is None


def test_what_was_done_is_told_by_the_cell(tree, machine):
    actions = tree.api.action_api.actions_get(tree.context(), tree.read(machine))

    assert {"create", "rescue", "rebuild", "resize", "confirmResize"} <= {action["action"] for action in actions}


def test_a_host_takes_no_machines_while_it_is_disabled(tree, machine):
    hosts, ctxt = tree.api.host_api, tree.context()

    hosts.set_host_enabled(ctxt, "api!east@east-1", False)
    try:
        assert hosts.service_get_by_compute_host(ctxt, "api!east@east-1")["disabled"]
    finally:
        hosts.set_host_enabled(ctxt, "api!east@east-1", True)
    with pytest.raises(exception.HostNotFound):
        hosts.get_host_uptime(ctxt, "api!nowhere@east-1")


def test_a_deleted_machine_can_come_back_until_it_is_gone_for_good(tree, machine, order):
    order("soft_delete", goal="soft-delete")
    order("restore")
    assert tree.power_state(tree.read(machine)) == "Running"

    tree.api.compute_api.force_delete(tree.context(), tree.read(machine))

    def is_gone():
        try:
            objects.Instance.get_by_uuid(tree.context(), machine.uuid)
        except exception.InstanceNotFound:
            return True
        return False

    tree.until(is_gone, "the machine stayed")
    # What the cell has made of the orders is booked after their rows are changed.
    tree.until(lambda: (used(tree, "instances"), used(tree, "ram")) == ((0, 0), (0, 0)),
               lambda: f"still used: {used(tree, 'instances')}, {used(tree, 'ram')}")
