"""Objects on their way to cells that read other versions of them."""

import pytest

from nova_lite import objects
from nova_lite.cells import levels
from tests.unit.cells.tree import eventually

PORT = "7f1d1e3a-6f5c-4c6e-9a44-0d7a5a3c1b11"


def wire(tag="blue"):
    return objects.base.to_wire(objects.NetworkRequestList(objects=[objects.NetworkRequest(port_id=PORT, tag=tag)]),
                                beyond_floor=True)


def request_of(primitive):
    return primitive["nova_object.data"]["objects"][0]


@pytest.mark.parametrize(("reads", "version", "has_tag"), [
    ({"NetworkRequest": "1.2"}, "1.2", True), ({"NetworkRequest": "1.10"}, "1.2", True),
    ({"NetworkRequest": "1.1"}, "1.1", False), ({}, "1.1", False), ({"NetworkRequest": None}, "1.1", False),
    ({"NetworkRequest": "new"}, "1.1", False)])
def test_D21_fields_beyond_the_floor_go_to_those_that_read_them(reads, version, has_tag):
    fitted = request_of(levels.fitted({"requested_networks": wire()}, reads)["requested_networks"])

    assert fitted["nova_object.version"] == version
    assert ("tag" in fitted["nova_object.data"]) is has_tag
    assert ("tag" in fitted["nova_object.changes"]) is has_tag
    assert fitted["nova_object.data"]["port_id"] == PORT


def test_D21_what_was_raised_is_lowered_again():
    raised = levels.fitted(wire(), levels.OUR_VERSIONS)

    assert levels.fitted(raised, {}) == objects.base.to_wire(objects.base.from_wire(None, wire()))


def test_D21_what_is_known_in_one_cell_alone_never_travels():
    instance = objects.base.to_wire(objects.Instance(uuid=PORT, revision=7, host="h"), beyond_floor=True)

    fitted = levels.fitted(instance, {"Instance": "2.9"})

    assert fitted["nova_object.data"] == {"uuid": PORT, "host": "h"}
    assert fitted["nova_object.version"] == "2.0"


def test_what_we_do_not_know_is_left_as_it_is():
    strange = {"nova_object.name": "Strange", "nova_object.version": "9.9", "nova_object.data": {"uuid": 1, "tag": [2]}}

    assert levels.fitted([strange, {"nova_object.name": []}, 1], {}) == [strange, {"nova_object.name": []}, 1]


def test_D21_cells_of_our_kind_tell_each_other_what_they_read(make_live_tree):
    tree = make_live_tree({"api": None, "west": "api"})

    eventually(lambda: tree["api"].child("west").object_versions == levels.OUR_VERSIONS)
    eventually(lambda: tree["west"].parent("api").object_versions == levels.OUR_VERSIONS)
    assert levels.OUR_VERSIONS["NetworkRequest"] == "1.2"


def tags_received(tree, name="rack1"):
    """Have a message with an object sent down to a cell; return the tags it was given."""
    received = []
    tree[name].db.returns = lambda cell, message, value: received.append(value.objects[0].get("tag"))
    api = tree["api"]
    networks = objects.NetworkRequestList(objects=[objects.NetworkRequest(port_id=PORT, tag="blue")])
    api.runner.send_targeted(api.context(), "probe_with", {"value": networks}, "down", "api!west!rack1",
                             need_response=True).value_or_raise()
    return received


@pytest.mark.parametrize(("readers", "tag"), [
    (("west", "rack1"), "blue"), (("west",), None), (("rack1",), None), ((), None)])
def test_D21_a_chain_is_as_new_as_its_oldest_cell(make_tree, readers, tag):
    tree = make_tree({"api": None, "west": "api", "rack1": "west"})
    tree.know_each_other()
    for parent, child in (("api", "west"), ("west", "rack1")):
        tree[parent].child(child).object_versions = levels.OUR_VERSIONS if child in readers else {}

    assert tags_received(tree) == [tag]
