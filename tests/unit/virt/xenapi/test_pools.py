import pytest

from nova_lite import exception


class Records:
    """The metadata of one aggregate, kept by the compute service above."""

    def __init__(self, compute, **metadata):
        self.aggregate = {"id": 1, "name": "pool-1", "hosts": ["compute-1"],
                          "metadata": {"hypervisor_pool": "true", **metadata}}
        self.casts = []
        compute.aggregate_metadata_add = lambda context, aggregate, metadata, set_delete=False: (
            self.aggregate["metadata"].update(metadata))
        compute.aggregate_metadata_delete = lambda context, aggregate, key: self.aggregate["metadata"].pop(key)
        compute.add_aggregate_host = lambda context, aggregate, host_param, host, slave_info: (
            self.casts.append((host_param, host, slave_info)))


@pytest.fixture
def on_host(bench):
    bench.conf.set_override("host", "compute-1")
    yield bench
    bench.conf.clear_override("host")


def test_the_first_host_of_an_aggregate_names_the_pool(on_host):
    records = Records(on_host.compute)
    on_host.driver.add_to_aggregate(None, records.aggregate, "compute-1")
    metadata = records.aggregate["metadata"]
    assert metadata["master_compute"] == "compute-1" and metadata["operational_state"] == "active"
    assert metadata["compute-1"] == on_host.vmops._session.host_uuid
    assert on_host.api("pool.get_name_label", on_host.api("pool.get_all")[0]) == "pool-1"


def test_the_last_host_dissolves_the_pool(on_host):
    records = Records(on_host.compute)
    on_host.driver.add_to_aggregate(None, records.aggregate, "compute-1")
    on_host.driver.remove_from_aggregate(None, records.aggregate, "compute-1")
    assert "master_compute" not in records.aggregate["metadata"]
    assert on_host.api("pool.get_name_label", on_host.api("pool.get_all")[0]) == ""


def test_an_aggregate_that_is_no_pool_is_left_alone(on_host):
    records = Records(on_host.compute)
    del records.aggregate["metadata"]["hypervisor_pool"]
    on_host.driver.add_to_aggregate(None, records.aggregate, "compute-1")
    assert records.aggregate["metadata"] == {}


def test_a_further_host_asks_the_master_and_sends_no_password(on_host):
    records = Records(on_host.compute, master_compute="compute-0", operational_state="active")
    on_host.driver.add_to_aggregate(None, records.aggregate, "compute-1")
    (host_param, master, slave_info), = records.casts
    assert (host_param, master) == ("compute-1", "compute-0")
    assert slave_info["secret_ref"] == "connection_password"
    assert not [name for name, value in slave_info.items() if value == on_host.simulator.password
                and name != "hostname"]


@pytest.mark.parametrize("state", ["changing", "dismissed", "error"])
def test_a_pool_that_is_changing_is_left_alone(on_host, state):
    records = Records(on_host.compute, master_compute="compute-1", operational_state=state)
    with pytest.raises(exception.InvalidAggregateAction):
        on_host.driver.add_to_aggregate(None, records.aggregate, "compute-2")


def test_removing_from_a_pool_without_master_is_an_error(on_host):
    records = Records(on_host.compute, operational_state="active")
    with pytest.raises(exception.AggregateError):
        on_host.driver.remove_from_aggregate(None, records.aggregate, "compute-2")
