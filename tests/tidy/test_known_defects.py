"""What the reference's compute layer is known to get wrong, and the tests that it is right here.

A test of one of these has its number in its name: test_C7_….
"""

import ast
import re

import pytest

from tests.tidy.source import REPOSITORY

DEFECTS = {
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
NAME = re.compile(r"test_C(\d+)_")


def numbers_tested():
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (found := NAME.match(node.name)):
                yield int(found.group(1))


@pytest.fixture(scope="module")
def tested():
    return set(numbers_tested())


def test_every_known_defect_has_a_test_that_names_it(tested):
    assert {number: text for number, text in DEFECTS.items() if number not in tested} == {}


def test_every_number_is_that_of_a_known_defect(tested):
    assert tested <= DEFECTS.keys()
