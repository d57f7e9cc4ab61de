"""The user-level API is the class that compute_api_class names, with its companions."""

import pytest

from nova_lite import exception, service
from nova_lite.compute import api
from nova_lite.compute.cells_api import ComputeCellsAPI
from nova_lite.context import get_admin_context
from tests.fixtures.services import make_conf, make_database


class API(api.API):
    """An operator's own."""


class HostAPI(api.HostAPI):
    """What stands beside it."""


InstanceActionAPI = api.InstanceActionAPI


@pytest.fixture
def build(tmp_path):
    built = []

    def make(name):
        built.append(service.build_api(make_conf(tmp_path, overrides={(None, "compute_api_class"): name})))
        return built[-1]

    yield make
    for one in built:
        one.close()


def test_the_operators_own_class_is_taken(build):
    made = build(f"{__name__}.API")

    assert type(made.compute_api) is API
    assert type(made.host_api) is HostAPI


@pytest.mark.parametrize("name", ["nova_lite.compute.api.Nothing", "nowhere.API", "API"])
def test_a_class_that_is_not_there_is_named(build, name):
    with pytest.raises(exception.ConfigurationError, match=name):
        build(name)


# --- Cells of type api ---

API_CELL = {("cells", "enable"): True, ("cells", "cell_type"): "api"}


def kind_of_api(conf):
    made = service.build_api(conf)
    made.close()
    return type(made.compute_api)


def test_a_tree_of_one_cell_gives_its_orders_to_its_own_hosts(tmp_path):
    conf = make_conf(tmp_path, overrides=API_CELL)
    database = make_database(conf)
    assert kind_of_api(conf) is ComputeCellsAPI  # nothing to give orders to yet

    database.service_create(get_admin_context(), {"host": "h1", "binary": "nova-compute", "topic": "compute",
                                                  "report_count": 0, "disabled": True})
    assert kind_of_api(conf) is api.API

    database.cell_create(get_admin_context(), {
        "name": "west", "transport_url": "memory://west/", "is_parent": False, "weight_offset": 0.0,
        "weight_scale": 1.0})
    assert kind_of_api(conf) is ComputeCellsAPI
    database.dispose()


def test_without_a_database_a_cell_is_what_its_type_says(tmp_path):
    assert kind_of_api(make_conf(tmp_path, overrides={
        **API_CELL, ("database", "connection"): f"sqlite:///{tmp_path}/nothing.sqlite"})) is ComputeCellsAPI
