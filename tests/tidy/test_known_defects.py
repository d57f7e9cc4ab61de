"""What the reference is known to get wrong, and the tests that it is right here.

A test of one of these has its number in its name: test_C7_… for compute, test_defect_7_… for the XenAPI layer.
"""

import ast
import re

import pytest

from tests.tidy.source import REPOSITORY

COMPUTE = {
    1: "a build that is delivered again puts a healthy instance into error",
    2: "orders that come late act on instances that are gone, or in their state already",
    3: "only four actions exclude each other",
    4: "a deletion waits for the whole build",
    5: "a failed action wipes the task of a newer one",
    6: "some transitions expect no state",
    7: "the comparison of power states cannot stop a stopped instance, and races with users",
    8: "device names stay reserved for volumes that nobody attaches",
    9: "every attribute of the manager can be called from outside",
    10: "an order that is lost leaves an instance building or busy for ever",
    11: "after a crash most tasks are never ended",
    12: "a failed resize leaves an error, data on two hosts, and no way back",
    13: "an aborted claim keeps the instance's host and node",
    14: "a deletion whose network stays cannot be tried again",
    15: "a password that cannot be set puts a healthy guest into error",
    16: "a failed reboot looks like a good one",
    17: "a host whose hypervisor is dead takes builds",
    18: "periodic work asks the hypervisor about every guest, and slow work holds up all other",
    19: "every update of an instance asks the hypervisor for the host's figures",
    20: "every update of an instance writes the host's record",
    21: "every host looks after the whole cell's builds and reboots",
    22: "cached network information of busy instances is healed",
    23: "the image cache reads all instances of the cell",
    24: "every interface's counters are read and written by themselves",
    25: "every request reads all nodes with all statistics",
    26: "a scheduler that starts is answered by all hosts at once",
    27: "a build that goes elsewhere loses the volumes that go with the instance",
    28: "failed attachments leave volumes attaching and ports taken",
    29: "live migrations take no room at their destination, and say active whatever became of the guest",
    30: "evacuations take no room and no record, and the old host destroys or doubles guests",
    31: "an audit that was interrupted is never ended",
    32: "claims know nothing of what a guest takes beyond its memory",
    33: "long messages of faults and events without an action are errors",
    34: "changes of system metadata lose those that others make at the same time",
    35: "pauses, rescues, live migrations and failed builds are not announced",
    36: "what a crash left reserved counts until it expires",
    37: "passwords and files travel into logs and notifications",
    38: "stopping the service drops what it is doing",
}
XENAPI = {
    1: "a VM record stays when a later part of its making fails",
    2: "an undo that fails hides the first error and stops the others",
    3: "a rollback fails for kernel files that are gone",
    4: "the template of a snapshot stays when its disks do not coalesce",
    5: "coalescing on a busy host is given up after 25 seconds",
    6: "disks stay attached to the compute service's own machine after a crash",
    7: "disks plugged and unplugged at the same time",
    8: "disks, VMs and folders that no instance has stay for ever",
    9: "cached images are never removed",
    10: "an image is fetched and cached twice by builds at the same time",
    11: "lists cost two calls for every VM, and show no halted one",
    12: "every start of the service, and slow calls, take all sessions",
    13: "a call inside a call waits for a session for ever",
    14: "a call without end holds its worker for ever",
    15: "a master that moved is only seen at the login",
    16: "the error of a login that takes too long is a text where a list is expected",
    17: "texts of plugins are run as code, pickles are read",
    18: "what is locked for starting is started all the same",
    19: "a failed rescue leaves the instance locked",
    20: "the poller ends rescues that have only begun",
    21: "a rescue takes the wrong disk, and its end destroys the user's",
    22: "destroying an instance destroys its volumes",
    23: "clearing xenstore does nothing, host names are written once, plugin errors are returned",
    24: "xenstore is never listed",
    25: "answers of agents stay in xenstore",
    26: "no password is set with a later openssl",
    27: "errors of plugins are returned where figures are expected",
    28: "hosts join with the opposite of what was asked, maintenance counts VMs twice",
    29: "LUN 0 is overlooked, CHAP is read from the wrong place",
    30: "passwords and sessions in URLs and logs",
    31: "an instance that moved has no kernel",
    32: "a smaller disk is silently not made",
    33: "builds at the same time count the same memory",
    34: "kernel files and locks fill dom0",
    35: "disks from the future spoil the repository",
    36: "agents read no IPv6 gateway",
    37: "two VMs of one label after a resize on the same host",
}
LAYERS = {"C": COMPUTE, "defect_": XENAPI}
NAME = re.compile(r"test_(C|defect_)(\d+)_")


def names_tested():
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (found := NAME.match(node.name)):
                yield found.group(1), int(found.group(2))


@pytest.fixture(scope="module")
def names():
    return set(names_tested())


@pytest.fixture(params=list(LAYERS))
def layer(request, names):
    """The known defects of a layer, and the numbers of those that are tested."""
    return LAYERS[request.param], {number for prefix, number in names if prefix == request.param}


def test_every_known_defect_has_a_test_that_names_it(layer):
    defects, tested = layer
    assert {number: text for number, text in defects.items() if number not in tested} == {}


def test_every_number_is_that_of_a_known_defect(layer):
    defects, tested = layer
    assert tested <= defects.keys()
