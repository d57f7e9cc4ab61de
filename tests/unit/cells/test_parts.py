"""Long answers, which travel in parts."""

import json

import pytest

from nova_lite import exception, objects
from nova_lite.cells import parts
from nova_lite.cells.response import Response
from tests.unit.cells.tree import eventually

SERVICES = 60
PART_B = 16 * 1024


@pytest.fixture(scope="module", params=[True, False], ids=["lean", "reference form"])
def tree(request, make_lasting_tree):
    tree = make_lasting_tree({"api": None, "west": "api", "rack1": "west"}, overrides={"*": {
        ("cells", "answer_part_bytes"): PART_B, ("cells", "max_message_bytes"): 64 * 1024,
        ("cells", "lean_messages"): request.param}})
    tree.know_each_other()
    for name in ("west", "rack1"):
        cell = tree[name]
        for number in range(SERVICES):
            objects.Service(cell.context(), host=f"host-{number:03}", binary="nova-compute", topic="compute",
                            disabled_reason="x" * 200).create()
    return tree


def answers(tree, monkeypatch):
    """Return a list that notes how many characters each answer has that the top receives."""
    sizes, accept = [], tree["api"].runner._accept

    def noting(text):
        sizes.append(len(text))
        return accept(text)

    monkeypatch.setattr(tree["api"].runner, "_accept", noting)
    return sizes


def test_D24_a_long_list_comes_in_parts_and_is_complete(tree, monkeypatch):
    sizes = answers(tree, monkeypatch)

    services = tree["api"].manager.service_get_all(tree["api"].context(), {"binary": "nova-compute"})

    assert sorted(service.host for service in services) == sorted(
        f"{path}@host-{number:03}" for path in ("api!west", "api!west!rack1") for number in range(SERVICES))
    assert len(sizes) > 2
    assert max(sizes) < 2 * PART_B


def test_D24_a_long_list_of_one_cell_is_put_together_again(tree):
    api = tree["api"]

    response = api.runner.send_targeted(api.context(), "long_list", {"count": 2000}, "down", "api!west!rack1",
                                        need_response=True)

    assert response.value_or_raise() == [f"item {number}" for number in range(2000)]


def test_D24_a_list_whose_parts_overtake_each_other_keeps_its_order():
    items = [f"item {number}" for number in range(2000)]
    groups = parts.divided([Response(None, "rack1", items, False).to_json()], 4096, 64 * 1024)

    responses = Response.all_in(None, [text for group in reversed(groups) for text in group])

    assert len(groups) > 2
    assert parts.whole(responses).value == items


def test_D24_what_is_too_long_and_cannot_be_divided_is_a_failure_that_says_so(tree):
    api = tree["api"]

    response = api.runner.send_targeted(api.context(), "long_text", {"count": 100_000}, "down", "api!west!rack1",
                                        need_response=True)

    with pytest.raises(exception.Invalid, match="too long"):
        response.value_or_raise()


def test_D24_a_part_that_is_lost_is_a_failure_and_no_short_list(tree, monkeypatch):
    api, lost = tree["api"], []
    put = api.runner.response_queues.put

    def losing(uuid, neighbour, responses, count=1):
        if count > 1 and not lost:
            lost.append(neighbour)
            return True
        return put(uuid, neighbour, responses, count)

    monkeypatch.setattr(api.runner.response_queues, "put", losing)

    response = api.runner.send_targeted(api.context(), "long_list", {"count": 5000}, "down", "api!west!rack1",
                                        need_response=True, deadline=tree.clock.time() + 1)

    assert lost
    assert isinstance(response.error, exception.CellTimeout)


def test_short_answers_are_one_message(tree, monkeypatch):
    sizes = answers(tree, monkeypatch)

    tree["api"].manager.compute_node_stats(tree["api"].context())

    eventually(lambda: len(sizes) >= 1)
    assert len(sizes) == 1


def test_an_object_that_is_a_list_is_divided_and_put_together():
    nodes = objects.ServiceList(objects=[objects.Service(id=number, host=f"h{number}") for number in range(50)])
    text = Response(None, "api!west", nodes, False).to_json()

    [*groups] = parts.divided([text, text], 2000, 10 ** 6)

    assert all(sum(map(len, group)) <= 2000 + 500 for group in groups)
    responses = [Response.from_json(None, one) for group in groups for one in group]
    assert [service.host for service in parts.whole(responses).value] == 2 * [f"h{number}" for number in range(50)]


def test_a_failure_is_never_divided():
    failure = Response(None, "api!west", (ValueError, ValueError("x" * 5000), None), True).to_json()

    assert [json.loads(text)["failure"] for group in parts.divided([failure], 100, 10 ** 6) for text in group] == [True]
