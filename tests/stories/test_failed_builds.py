"""Builds that fail at some step of spawn, planted in the simulated XenServers: where they end, and what they leave."""

import pytest

from nova_lite import exception
from nova_lite.objects import vm_states
from tests.fixtures.xen_probe import XenProbe

STEPS_OF_SPAWN = (
    "host.compute_free_memory",
    "VDI.create",
    "PUT /import_raw_vdi",
    "VDI.clone",
    "VDI.set_name_label",
    "VDI.resize",
    "VM.create",
    "VBD.create",
    "VIF.create",
    "VM.start_on",
    "VM.unpause",
)
NO_SPACE = ["SR_BACKEND_FAILURE_44", "", "planted", ""]


@pytest.fixture
def hosts(tree):
    """The compute hosts by name; nothing planted remains in their XenServers."""
    yield {host.name: host for host in tree.hosts}
    for host in tree.hosts:
        host.simulator.control.clear()


@pytest.fixture
def counts(tree):
    """A function that counts what every XenServer holds."""
    probes = {host.name: XenProbe(host.url, host.simulator.username, host.simulator.password) for host in tree.hosts}
    return lambda: {name: probe.counts() for name, probe in probes.items()}


def new_image(tree):
    """Store an image that no XenServer has in its cache."""
    with tree.image.path.open("rb") as stream:
        meta = {"name": "new", "disk_format": tree.image.disk_format, "container_format": "bare"}
        return tree.api.services.image_api.create(tree.context(), meta, stream)["id"]


def create(tree, image_id, **options):
    ctxt = tree.context()
    flavor = ctxt.services.db.flavor_get_by_flavor_id(ctxt, "1")
    return tree.api.compute_api.create(ctxt, flavor, image_id, **options)[0][0]


def forget(tree, instance):
    tree.api.compute_api.delete(tree.context(), tree.read(instance))

    def gone():
        try:
            return tree.read(instance) is None
        except exception.InstanceNotFound:
            return True

    tree.until(gone, "the failed instance cannot be deleted")


@pytest.mark.parametrize("step", STEPS_OF_SPAWN)
def test_a_build_that_fails_on_every_host_ends_in_error_with_its_fault_and_leaves_nothing(tree, hosts, counts, step):
    before = counts()
    for host in hosts.values():
        host.simulator.control.fail(step, error=NO_SPACE)

    instance = tree.until_idle(create(tree, new_image(tree)), vm_states.ERROR)

    assert {name: host.simulator.control.faults() for name, host in hosts.items()} == dict.fromkeys(hosts, [])

    fault = tree.until(lambda: tree.read(instance).fault, "no fault at the top")
    assert fault.code == 500
    assert fault.message
    tree.until(lambda: counts() == before, lambda: f"left behind: {counts()} instead of {before}")
    forget(tree, instance)


def test_a_build_that_fails_on_one_host_of_a_cell_runs_on_its_other_host(tree, hosts, counts):
    before = counts()
    planted = hosts["west-1"].simulator.control
    planted.fail("VM.start_on", error=NO_SPACE)

    instances = []
    # Memory decides between the two hosts, so that one of the first two builds goes to west-1.
    while planted.faults() and len(instances) < 2:
        asked = create(tree, tree.image_id, scheduler_hints={"target_cell": "api!west"})
        instances.append(tree.until_idle(asked, vm_states.ACTIVE))

    assert planted.faults() == []
    assert instances[-1].host == "west-2"
    assert tree.power_state(instances[-1]) == "Running"
    for instance in instances:
        forget(tree, instance)
    tree.until(lambda: counts() == before, lambda: f"left behind: {counts()} instead of {before}")


def test_a_build_that_fails_in_one_cell_runs_in_the_next(tree, hosts):
    for name in ("west-1", "west-2"):
        hosts[name].simulator.control.fail("VM.create", count=10, error=NO_SPACE)

    instances = [tree.until_idle(create(tree, tree.image_id), vm_states.ACTIVE) for _ in range(2)]

    assert {instance.cell_name for instance in instances} == {"api!east"}
    for instance in instances:
        forget(tree, instance)
