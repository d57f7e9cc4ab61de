import pytest

from nova_lite import exception
from nova_lite.virt.xenapi.transport import Endpoint


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
    assert on_host.simulator.password not in slave_info.values()
    assert set(slave_info) == {"url", "user", "secret_ref", "compute_uuid", "xenhost_uuid"}


@pytest.mark.parametrize(("url", "told"), [
    ("unix://local", "https://10.0.0.7"), ("http://169.254.0.1", "http://10.0.0.7"),
    ("https://localhost:8443/x", "https://10.0.0.7:8443/x"), ("https://xen1.example.com", "https://xen1.example.com"),
    ("https://user:word@10.0.0.9", "https://10.0.0.9")])
def test_the_master_is_told_a_url_it_can_reach(on_host, monkeypatch, url, told):
    session = on_host.vmops._session
    monkeypatch.setattr(session, "host_endpoint", Endpoint(url))
    monkeypatch.setattr(session, "call_xenapi", lambda method, *args: "10.0.0.7")
    assert on_host.vmops.pools._own_url() == told


@pytest.mark.parametrize("method", ["add_to_aggregate", "remove_from_aggregate"])
def test_what_the_host_refuses_is_an_error_of_the_aggregate(on_host, method):
    records = Records(on_host.compute)
    if method == "remove_from_aggregate":
        on_host.driver.add_to_aggregate(None, records.aggregate, "compute-1")
    on_host.simulator.control.fail("pool.set_name_label", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(exception.AggregateError, match="planted"):
        getattr(on_host.driver, method)(None, records.aggregate, "compute-1")


@pytest.mark.parametrize("state", ["changing", "dismissed", "error"])
def test_a_pool_that_is_changing_is_left_alone(on_host, state):
    records = Records(on_host.compute, master_compute="compute-1", operational_state=state)
    with pytest.raises(exception.InvalidAggregateAction):
        on_host.driver.add_to_aggregate(None, records.aggregate, "compute-2")


def test_removing_from_a_pool_without_master_is_an_error(on_host):
    records = Records(on_host.compute, operational_state="active")
    with pytest.raises(exception.AggregateError):
        on_host.driver.remove_from_aggregate(None, records.aggregate, "compute-2")
