import pytest

from nova_lite import objects
from nova_lite.cells import utils


def test_an_item_is_named_with_its_cell():
    assert utils.cell_with_item("api!c1", 7) == "api!c1@7"


def test_an_item_without_a_cell_stays_what_it_is():
    assert utils.cell_with_item(None, 7) == 7


@pytest.mark.parametrize(("text", "expected"), [
    ("api!c1@h@x", ("api!c1@h", "x")), ("api!c1@7", ("api!c1", "7")), ("host", (None, "host"))])
def test_cell_and_item_are_split_at_the_last_sign(text, expected):
    assert utils.split_cell_and_item(text) == expected


def service():
    return objects.Service(id=3, host="h1", binary="nova-compute", disabled=False)


def test_a_proxy_names_the_cell_in_id_and_host_and_leaves_all_else():
    proxy = utils.add_cell_to_service(service(), "api!c1")

    assert (proxy.id, proxy["id"], proxy.host, proxy.get("host")) == (
        "api!c1@3", "api!c1@3", "api!c1@h1", "api!c1@h1")
    assert (proxy.binary, proxy["binary"], proxy.get("nothing", 5)) == ("nova-compute", "nova-compute", 5)
    assert dict(proxy.items())["host"] == "api!c1@h1"


def test_a_service_of_another_cell_has_no_compute_node():
    with pytest.raises(AttributeError):
        _ = utils.add_cell_to_service(service(), "api!c1").compute_node


def test_a_proxy_survives_serialization():
    serializer = utils.ProxyObjectSerializer()

    [restored] = serializer.incoming(None, serializer.outgoing(None, [utils.add_cell_to_service(service(), "api!c1")]))

    assert isinstance(restored, utils.ServiceProxy)
    assert (restored.id, restored.binary) == ("api!c1@3", "nova-compute")


def test_a_plain_object_is_restored_plain():
    serializer = utils.ProxyObjectSerializer()

    assert isinstance(serializer.incoming(None, serializer.outgoing(None, service())), objects.Service)


def test_a_task_log_row_is_named_in_place():
    row = {"id": 5, "host": "h1", "state": "DONE"}

    assert utils.add_cell_to_task_log(row, "api!c1") is None
    assert row == {"id": "api!c1@5", "host": "api!c1@h1", "state": "DONE"}


def test_class_paths_of_the_reference_mean_ours():
    assert utils.load_class("nova.cells.utils.ServiceProxy") is utils.ServiceProxy
