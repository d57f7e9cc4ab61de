"""The user-level API is the class that compute_api_class names, with its companions."""

import pytest

from nova_lite import exception, service
from nova_lite.compute import api
from tests.fixtures.services import make_conf


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
