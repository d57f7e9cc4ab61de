"""High availability: what it needs, what it promises, what it does when a host dies."""

import pytest
import XenAPI

from nova_lite.xensim import HostPlan, Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xensim import logged_in
from tests.unit.xensim.conftest import Client


@pytest.fixture
def pool():
    with Simulator(hosts=3, plan=HostPlan(memory_mib=16 * 1024, cpus=2)) as simulator:
        simulator.control.failed_login_delay(0)
        yield simulator


@pytest.fixture
def client(pool):
    with logged_in(pool) as session:
        yield Client(session)


@pytest.fixture
def hosts(client):
    return client.api.host.get_all()


@pytest.fixture
def shared(client, hosts):
    return client.api.SR.create(hosts[0], {"server": "nas", "serverpath": "/x"}, "0", "shared", "", "nfs", "user", True,
                                {})  # fmt: skip


@pytest.fixture
def protected(client, hosts, shared):
    """HA for one failure, and a protected VM on the second host."""
    client.api.pool.enable_ha([shared], {})
    client.api.pool.set_ha_host_failures_to_tolerate(client.api.pool.get_all()[0], "1")
    vm = client.vm("precious", memory_mib=4000, affinity=hosts[1])
    client.vbd(vm, client.vdi(sr=shared))
    client.api.VM.set_ha_restart_priority(vm, "restart")
    client.api.VM.start(vm, False, False)
    return vm


def refusal(client, call, *arguments):
    with pytest.raises(XenAPI.Failure) as error:
        client.session.xenapi_request(call, arguments)
    return error.value.details


def pool_record(client):
    return client.api.pool.get_record(client.api.pool.get_all()[0])


def test_enabling_puts_a_heartbeat_disk_on_the_repository_and_disabling_takes_it_away(client, hosts, shared):
    client.api.pool.enable_ha([shared], {"timeout": "60"})
    enabled = pool_record(client)
    kinds = {client.api.VDI.get_type(vdi) for vdi in client.api.SR.get_VDIs(shared)}
    peers = client.api.host.get_ha_network_peers(hosts[0])
    again = refusal(client, "pool.enable_ha", [shared], {})
    client.api.pool.disable_ha()

    assert enabled["ha_enabled"] and enabled["ha_statefiles"] and enabled["ha_configuration"] == {"timeout": "60"}
    assert "ha_disable" in enabled["allowed_operations"] and "ha_enable" not in enabled["allowed_operations"]
    assert kinds == {"ha_statefile", "redo_log"}
    assert set(peers) == {client.api.host.get_uuid(host) for host in hosts[1:]}
    assert again == ["HA_IS_ENABLED"]
    assert client.api.SR.get_VDIs(shared) == []
    assert refusal(client, "pool.disable_ha") == ["HA_NOT_ENABLED"]


def test_a_heartbeat_needs_shared_storage_that_every_host_sees(client, shared):
    local = client.default_sr()
    (first, *_) = client.api.SR.get_PBDs(shared)

    assert refusal(client, "pool.enable_ha", [local], {}) == ["HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", local]
    client.api.PBD.unplug(first)
    assert refusal(client, "pool.enable_ha", [shared], {}) == ["SR_HAS_NO_PBDS", shared]
    assert refusal(client, "pool.enable_ha", [], {}) == ["CANNOT_CREATE_STATE_FILE"]


def test_a_dead_hosts_protected_vm_starts_elsewhere_and_others_stay_down(pool, client, hosts, protected):
    other = client.vm("other", affinity=hosts[1])
    client.api.VM.start(other, False, False)

    pool.control.kill_host(hosts[1])
    wait_until(lambda: client.api.VM.get_power_state(other) == "Halted", "the host was not declared dead")
    wait_until(lambda: client.api.VM.get_power_state(protected) == "Running", "the VM was not restarted")

    assert client.api.VM.get_resident_on(protected) != hosts[1]


def test_when_the_master_dies_another_host_leads_the_pool(pool, client, hosts, protected):
    pool.control.kill_host(hosts[0])

    def new_master():
        for url in pool.urls[1:]:
            session = XenAPI.Session(url)
            try:
                session.login_with_password("root", "xensim")
            except XenAPI.Failure:
                continue
            return session
        return None

    session = wait_until(new_master, "no other host became master")
    assert session.xenapi.pool.get_master(session.xenapi.pool.get_all()[0]) in hosts[1:]


def test_what_was_shut_down_on_purpose_stays_down(pool, client, hosts, protected):
    client.api.VM.hard_shutdown(protected)
    witness = client.vm("witness", affinity=hosts[1])
    client.api.VM.start(witness, False, False)

    pool.control.kill_host(hosts[1])
    wait_until(lambda: client.api.VM.get_power_state(witness) == "Halted", "the host was not declared dead")

    assert not client.api.VM.get_ha_always_run(protected)
    assert client.api.VM.get_power_state(protected) == "Halted"


def test_a_protected_vm_is_on_shared_storage_or_not_protected(client, shared):
    client.api.pool.enable_ha([shared], {})
    vm, local = client.vm(), client.default_sr()
    client.vbd(vm, client.vdi())

    assert refusal(client, "VM.set_ha_restart_priority", vm, "restart") == [
        "HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", local,
    ]  # fmt: skip
    assert refusal(client, "VM.assert_agile", vm) == ["HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", local]
    assert refusal(client, "VM.set_ha_restart_priority", vm, "please") == [
        "INVALID_VALUE", "ha_restart_priority", "please",
    ]  # fmt: skip


def test_the_plan_counts_what_fits(client, hosts, protected):
    """Of about 11 GiB on each host one has 4000 MiB taken: two VMs of 7000 MiB survive one failure, three do not."""
    assert pool_record(client)["ha_plan_exists_for"] == "1"
    assert client.api.pool.ha_compute_max_host_failures_to_tolerate() == "2"
    assert client.api.pool.ha_failover_plan_exists("2") is True
    big = [client.vm(f"big{number}", memory_mib=7000) for number in range(3)]

    two = client.api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate(dict.fromkeys(big[:2], "restart"))
    three = client.api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate(dict.fromkeys(big, "restart"))
    plan = client.api.pool.ha_compute_vm_failover_plan(hosts[:2], big)

    assert (two, three) == ("1", "0")
    assert sorted(next(iter(each)) for each in plan.values()) == ["error_code", "error_code", "host"]


def test_what_would_break_the_plan_is_refused(client, hosts, protected):
    for number in range(2):
        vm = client.vm(f"big{number}", memory_mib=8000)
        client.api.VM.start(vm, False, False)
    third = client.started("third", memory_mib=6000)

    refused = refusal(client, "VM.set_ha_restart_priority", third, "restart")
    host = client.api.VM.get_resident_on(protected)

    assert refused == ["HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"]
    assert refusal(client, "pool.set_ha_host_failures_to_tolerate", client.api.pool.get_all()[0], "3") == ["HA_NO_PLAN"]
    assert refusal(client, "pool.eject", next(each for each in hosts[1:] if each != host)) == ["HA_IS_ENABLED"]
