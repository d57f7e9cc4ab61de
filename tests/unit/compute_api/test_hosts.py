"""Hosts, services and nodes of a cell."""

import pytest

from nova_lite import exception
from nova_lite.compute.api import HostAPI, InstanceActionAPI


@pytest.fixture
def hosts(cell):
    return HostAPI(cell.services)


def test_a_host_is_disabled_there_and_in_its_record(cell, hosts):
    host = cell.add_host("h1")
    host.answers["set_host_enabled"] = "disabled"

    assert hosts.set_host_enabled(cell.admin(), "h1", False) == "disabled"

    assert host.heard() == ("set_host_enabled", {"enabled": False})
    assert hosts.service_get_by_compute_host(cell.admin(), "h1").disabled is True


@pytest.mark.parametrize(("operation", "arguments", "order", "sent"), [
    ("get_host_uptime", (), "get_host_uptime", {}),
    ("host_power_action", ("reboot",), "host_power_action", {"action": "reboot"}),
    ("set_host_maintenance", (True,), "host_maintenance_mode", {"host": "h1", "mode": True})])
def test_orders_go_to_the_host(cell, hosts, operation, arguments, order, sent):
    host = cell.add_host("h1")
    host.answers[order] = "answer"

    assert getattr(hosts, operation)(cell.admin(), "h1", *arguments) == "answer"

    assert host.heard() == (order, sent)
    with pytest.raises(exception.HostNotFound):
        getattr(hosts, operation)(cell.admin(), "h9", *arguments)


def test_a_host_that_is_down_tells_no_uptime(cell, hosts):
    cell.add_host("h1", up=False)

    with pytest.raises(exception.ComputeServiceUnavailable):
        hosts.get_host_uptime(cell.admin(), "h1")


def test_services_are_found_by_what_they_are(cell, hosts):
    cell.add_host("h1")
    cell.add_host("h2", disabled=True)
    cell.db.aggregate_host_add(cell.admin(), cell.db.aggregate_create(
        cell.admin(), {"name": "a"}, {"availability_zone": "east"})["id"], "h2")

    def names(**filters):
        return [service.host for service in hosts.service_get_all(cell.admin(), filters)]

    assert names() == ["h1", "h2"]
    assert names(disabled=True) == ["h2"]
    assert names(availability_zone="nova") == ["h1"]
    assert names(availability_zone="east", binary="nova-compute") == ["h2"]


def test_services_are_changed_and_forgotten(cell, hosts):
    cell.add_host("h1")

    service = hosts.service_update(cell.admin(), "h1", "nova-compute", {"disabled": True, "disabled_reason": "disk"})
    assert (service.disabled, service.disabled_reason) == (True, "disk")

    hosts.service_delete(cell.admin(), service.id)
    with pytest.raises(exception.ComputeHostNotFound):
        hosts.service_get_by_compute_host(cell.admin(), "h1")


def test_nodes_are_listed_and_summed_up(cell, hosts):
    cell.add_host("h1")
    cell.add_host("h2", node="special")

    assert len(hosts.compute_node_get_all(cell.admin())) == 2
    (node,) = hosts.compute_node_search_by_hypervisor(cell.admin(), "spec")
    assert hosts.compute_node_get(cell.admin(), node.id).host == "h2"
    assert hosts.compute_node_statistics(cell.admin())["memory_mb"] == 16384
    with pytest.raises(exception.ComputeHostNotFound):
        hosts.compute_node_get(cell.admin(), 99)


def test_instances_of_a_host(cell, hosts):
    here = cell.instance(host="h1")
    cell.instance(host="h2")

    assert [one.uuid for one in hosts.instance_get_all_by_host(cell.admin(), "h1")] == [here.uuid]


def test_what_was_done_to_an_instance(cell):
    host = cell.add_host("h1")
    instance = cell.instance()
    ctxt = cell.context()
    cell.api.pause(ctxt, instance)
    host.heard()
    actions = InstanceActionAPI(cell.services)

    (action,) = actions.actions_get(ctxt, instance)
    assert action.action == "pause"
    assert actions.action_get_by_request_id(ctxt, instance, ctxt.request_id).id == action.id
    assert list(actions.action_events_get(ctxt, instance, action.id)) == []
