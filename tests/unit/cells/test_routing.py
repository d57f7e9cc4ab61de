import pytest

from nova_lite import exception
from nova_lite.cells import routing


def test_a_path_is_reversed_name_by_name():
    assert routing.reverse_path("a!b!c!d") == "d!c!b!a"


@pytest.mark.parametrize(("path", "neighbour_only", "expected"), [
    ("cell1!cell2!cell3", False, "cell3!cell2!cell1"),
    ("cell1!cell2!cell3", True, "cell3!cell2"),
    ("cell1", False, "cell1"),
    ("cell1", True, "cell1"),
])
def test_a_reply_goes_back_the_way_the_request_came(path, neighbour_only, expected):
    assert routing.response_path(path, neighbour_only) == expected


def test_the_next_name_is_the_one_behind_the_routing_path():
    assert routing.next_name("api!east!rack7", "api") == "east"
    assert routing.next_name("api!east!rack7", "api!east") == "rack7"


def test_there_is_no_next_name_where_the_target_is_reached():
    assert routing.next_name("api!east", "api!east") is None


@pytest.mark.parametrize(("target", "path"), [
    ("api", "api!east"), ("api!west!rack7", "api!east"), ("api!eastern", "api!east"), ("", "api")])
def test_a_target_off_the_routing_path_is_inconsistent_and_names_both(target, path):
    with pytest.raises(exception.CellRoutingInconsistency) as caught:
        routing.next_name(target, path)

    assert target in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a!b", "a.b", "a@b", "x" * 256, None])
def test_D22_names_that_cannot_travel_are_refused(name):
    with pytest.raises(exception.Invalid):
        routing.validate_name(name)


def test_an_ordinary_name_is_valid():
    routing.validate_name("rack 7-b")


def test_the_hop_before_is_the_neighbour_a_message_came_from():
    assert routing.hop_before("api!east!rack7") == "east"
    assert routing.hop_before("api") is None
