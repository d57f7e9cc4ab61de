"""Pools of several hosts: who answers, where VMs run, what happens when a host goes."""

import pytest
import XenAPI

from nova_lite.xensim import HostPlan, Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xensim import logged_in
from tests.unit.xensim.conftest import Client


def details(error):
    return error.value.details


@pytest.fixture
def pool():
    with Simulator(hosts=3, plan=HostPlan(memory_mib=16 * 1024, cpus=2, nics=3)) as simulator:
        simulator.control.failed_login_delay(0)
        yield simulator


@pytest.fixture
def client(pool):
    with logged_in(pool) as session:
        yield Client(session)


@pytest.fixture
def hosts(client):
    """References by position: the first is the master."""
    return client.api.host.get_all()


def shared_sr(client):
    return client.api.SR.create(client.host(), {"server": "nas", "serverpath": "/x"}, "0", "shared", "", "nfs", "user",
                                True, {})  # fmt: skip


def answers(url):
    """Return what a login gets that a slave refuses, None where nobody listens."""
    try:
        XenAPI.Session(url).login_with_password("root", "xensim")
    except XenAPI.Failure as error:
        return error.details
    except OSError:
        return None
    return ["Success"]


def refuse_the_address(_url, _take_in):
    raise OSError("the address is somebody else's")


def local_sr(client, host):
    """Return the repository on a host's own disk."""
    for pbd in client.api.host.get_PBDs(host):
        sr = client.api.PBD.get_SR(pbd)
        if client.api.SR.get_type(sr) == "ext":
            return sr
    raise LookupError(host)


def test_a_slave_names_its_master_before_it_looks_at_the_password(pool, client):
    with pytest.raises(XenAPI.Failure) as error:
        XenAPI.Session(pool.urls[1]).login_with_password("root", "wrong")

    assert details(error) == ["HOST_IS_SLAVE", client.api.host.get_address(client.host())]


def test_a_session_of_the_master_is_refused_by_a_slave(pool, client):
    session = XenAPI.Session(pool.urls[1])
    session._session = client.session._session

    with pytest.raises(XenAPI.Failure) as error:
        session.xenapi.host.get_all()

    assert details(error)[0] == "HOST_IS_SLAVE"


def test_affinity_chooses_the_host(client, hosts):
    vm = client.vm(affinity=hosts[2])

    client.api.VM.start(vm, False, False)

    assert client.api.VM.get_resident_on(vm) == hosts[2]


def test_vms_go_where_memory_is_free_until_there_is_none(client, hosts):
    vms = [client.started(str(number), memory_mib=9000) for number in range(3)]

    with pytest.raises(XenAPI.Failure) as error:
        client.started("one too many", memory_mib=9000)

    assert {client.api.VM.get_resident_on(vm) for vm in vms} == set(hosts)
    assert details(error) == ["NO_HOSTS_AVAILABLE"]


def test_start_on_says_why_that_host_will_not_do(client, hosts):
    vm = client.vm()
    client.api.host.disable(hosts[1])

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.start_on(vm, hosts[1], False, False)

    assert details(error) == ["HOST_DISABLED", hosts[1]]


def test_a_vm_runs_only_where_its_disks_are(client, hosts):
    vm, local = client.vm(), client.default_sr()
    client.vbd(vm, client.vdi())
    (pbd,) = client.api.SR.get_PBDs(local)

    client.api.VM.start(vm, False, False)

    assert client.api.VM.get_resident_on(vm) == client.api.PBD.get_host(pbd)
    other = next(host for host in hosts if host != client.api.VM.get_resident_on(vm))
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.pool_migrate(vm, other, {"live": "true"})
    assert details(error) == ["VM_REQUIRES_SR", vm, local]


def test_a_vm_migrates_with_its_disk_on_shared_storage(client, hosts):
    vm = client.vm(affinity=hosts[0])
    client.vbd(vm, client.vdi(sr=shared_sr(client)))
    client.api.VM.start(vm, False, False)
    before = client.api.VM.get_domid(vm)

    client.api.VM.pool_migrate(vm, hosts[1], {"live": "true"})

    assert client.api.VM.get_resident_on(vm) == hosts[1]
    assert client.api.VM.get_domid(vm) != before
    assert client.api.VM.get_power_state(vm) == "Running"


def test_evacuation_empties_a_host(client, hosts):
    vm = client.vm(affinity=hosts[1])
    client.api.VM.start(vm, False, False)
    client.api.host.disable(hosts[1])

    client.api.host.evacuate(hosts[1])

    assert client.api.VM.get_resident_on(vm) != hosts[1]
    client.api.host.reboot(hosts[1])


def test_a_host_with_guests_does_not_reboot(client, hosts):
    vm = client.vm(affinity=hosts[1])
    client.api.VM.start(vm, False, False)

    with pytest.raises(XenAPI.Failure) as enabled:
        client.api.host.reboot(hosts[1])
    client.api.host.disable(hosts[1])
    with pytest.raises(XenAPI.Failure) as inhabited:
        client.api.host.reboot(hosts[1])

    assert details(enabled) == ["HOST_NOT_DISABLED"]
    assert details(inhabited) == ["HOST_HAS_RESIDENT_VMS", hosts[1]]


def test_a_new_master_takes_over_and_sessions_are_lost(pool, client, hosts):
    client.api.pool.designate_new_master(hosts[1])

    session = XenAPI.Session(pool.urls[1])
    session.login_with_password(pool.username, pool.password)
    with pytest.raises(XenAPI.Failure) as error:
        XenAPI.Session(pool.urls[0]).login_with_password(pool.username, pool.password)

    assert session.xenapi.host.get_all() == hosts
    assert details(error) == ["HOST_IS_SLAVE", session.xenapi.host.get_address(hosts[1])]


def test_when_the_master_dies_a_slave_can_be_told_to_take_over(pool, client, hosts):
    pool.control.kill_host(hosts[0])
    slave = XenAPI.Session(pool.urls[1])
    with pytest.raises(XenAPI.Failure) as error:
        slave.login_with_password(pool.username, pool.password)

    slave.slave_local_login_with_password(pool.username, pool.password)
    slave.xenapi.pool.emergency_transition_to_master()

    again = XenAPI.Session(pool.urls[1])
    again.login_with_password(pool.username, pool.password)
    assert details(error) == ["HOST_IN_EMERGENCY_MODE"]
    assert again.xenapi.pool.get_master(again.xenapi.pool.get_all()[0]) == hosts[1]


def test_a_host_that_was_shut_down_is_silent_until_it_is_powered_on(pool, client, hosts):
    client.api.host.disable(hosts[2])
    client.api.host.shutdown(hosts[2])
    wait_until(lambda: answers(pool.urls[2]) is None, "the host still answers")

    with pytest.raises(XenAPI.Failure) as unpowered:
        client.api.host.power_on(hosts[2])
    with pytest.raises(XenAPI.Failure) as offline:
        client.api.pool.designate_new_master(hosts[2])
    client.api.host.set_power_on_mode(hosts[2], "wake-on-lan", {})
    client.api.host.power_on(hosts[2])

    assert details(unpowered) == ["HOST_POWER_ON_MODE_DISABLED"]
    assert details(offline) == ["HOST_OFFLINE", hosts[2]]
    wait_until(lambda: answers(pool.urls[2]), "the host does not answer")


def test_what_keeps_a_host_from_being_emptied_is_named(client, hosts):
    vm = client.vm(affinity=hosts[1])
    client.vbd(vm, client.vdi(sr=local_sr(client, hosts[1])))
    client.api.VM.start(vm, False, False)

    preventing = client.api.host.get_vms_which_prevent_evacuation(hosts[1])
    with pytest.raises(XenAPI.Failure) as error:
        client.api.host.assert_can_evacuate(hosts[1])

    reason = ["VM_REQUIRES_SR", vm, local_sr(client, hosts[1])]
    assert preventing == {vm: reason}
    assert details(error) == ["CANNOT_EVACUATE_HOST", ",".join(reason)]


def test_an_operation_on_a_vm_of_a_dead_host_names_the_host(pool, client, hosts):
    vm = client.vm(affinity=hosts[1])
    client.api.VM.start(vm, False, False)
    pool.control.kill_host(hosts[1])

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.hard_shutdown(vm)
    client.api.VM.power_state_reset(vm)

    assert details(error) == ["HOST_OFFLINE", hosts[1]]
    assert client.api.VM.get_power_state(vm) == "Halted"


def test_a_dead_hosts_vms_stay_running_until_it_is_declared_dead(pool, client, hosts):
    vm = client.vm(affinity=hosts[2])
    client.api.VM.start(vm, False, False)
    pool.control.kill_host(hosts[2])
    before = client.api.VM.get_power_state(vm)

    client.api.host.declare_dead(hosts[2])

    assert (before, client.api.VM.get_power_state(vm)) == ("Running", "Halted")
    with pytest.raises(OSError):
        XenAPI.Session(pool.urls[2]).login_with_password(pool.username, pool.password)


def test_an_ejected_host_is_gone_with_its_local_storage(pool, client, hosts):
    before = len(client.api.SR.get_all())

    client.api.pool.eject(hosts[2])
    wait_until(lambda: answers(pool.urls[2]) is None, "the ejected host still answers")
    pool.control.restart_toolstack()

    assert client.api.host.get_all() == hosts[:2]
    assert len(client.api.SR.get_all()) == before - 4
    assert {client.api.PBD.get_host(pbd) for pbd in client.api.PBD.get_all()} == set(hosts[:2])


def test_a_vlan_connects_a_network_on_every_host(client, hosts):
    network = client.api.network.create({"name_label": "tagged", "other_config": {}})
    (first, *_) = client.api.PIF.get_all_records_where('field "management"="true"')

    pifs = client.api.pool.create_VLAN_from_PIF(first, network, "77")
    with pytest.raises(XenAPI.Failure) as error:
        client.api.pool.create_VLAN_from_PIF(first, network, "5000")

    assert {client.api.PIF.get_host(pif) for pif in pifs} == set(hosts)
    assert {client.api.PIF.get_VLAN(pif) for pif in pifs} == {"77"}
    assert details(error) == ["VLAN_TAG_INVALID", "5000"]


def test_a_network_in_use_is_not_destroyed(client):
    vm = client.vm()
    network = client.api.network.create({"name_label": "internal", "other_config": {}})
    vif = client.vif(vm, network=network)
    client.api.VM.start(vm, False, False)

    with pytest.raises(XenAPI.Failure) as error:
        client.api.network.destroy(network)

    assert details(error) == ["NETWORK_CONTAINS_VIF", vif]
    assert client.api.network.get_bridge(network).startswith("xapi")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"device": "eth0"}, ["INVALID_DEVICE", "eth0"]),
        ({"device": "0"}, ["DEVICE_ALREADY_EXISTS", "0"]),
        ({"device": "1", "mac": "00:11"}, ["MAC_INVALID", "00:11"]),
    ],
)
def test_a_wrong_interface_is_refused(client, fields, expected):
    vm = client.vm()
    client.vif(vm)

    with pytest.raises(XenAPI.Failure) as error:
        client.vif(vm, **fields)

    assert details(error) == expected


def test_an_empty_mac_is_derived_and_stays_the_same(client):
    vm = client.vm()
    first = client.vif(vm)
    mac = client.api.VIF.get_MAC(first)
    client.api.VIF.destroy(first)

    assert client.api.VIF.get_MAC(client.vif(vm)) == mac
    assert int(mac[:2], 16) & 3 == 2
    assert client.api.VIF.get_MAC_autogenerated(client.api.VM.get_VIFs(vm)[0])


class TestBonds:
    @pytest.fixture
    def pifs(self, client, hosts):
        records = client.api.PIF.get_all_records()
        return [ref for ref, each in records.items() if each["host"] == hosts[0] and each["device"] in ("eth1", "eth2")]

    def test_two_interfaces_become_one_and_come_apart_again(self, client, pifs):
        network = client.api.network.create({"name_label": "bonded", "other_config": {}})

        bond = client.api.Bond.create(network, pifs, "", "balance-slb", {})
        master = client.api.Bond.get_master(bond)
        during = client.api.PIF.get_bond_slave_of(pifs[0]), set(client.api.Bond.get_slaves(bond))
        client.api.Bond.destroy(bond)

        assert during == (bond, set(pifs))
        assert client.api.PIF.get_bond_slave_of(pifs[0]) == "OpaqueRef:NULL"
        assert master not in client.api.PIF.get_all()

    def test_one_interface_makes_no_bond_and_a_bonded_one_no_second(self, client, pifs):
        network = client.api.network.create({"name_label": "bonded", "other_config": {}})
        with pytest.raises(XenAPI.Failure) as lonely:
            client.api.Bond.create(network, pifs[:1], "", "lacp", {})
        client.api.Bond.create(network, pifs, "", "lacp", {})

        with pytest.raises(XenAPI.Failure) as again:
            client.api.Bond.create(network, pifs, "", "lacp", {})

        assert details(lonely) == ["PIF_BOND_NEEDS_MORE_MEMBERS"]
        assert details(again) == ["PIF_ALREADY_BONDED", pifs[0]]


class TestJoining:
    @pytest.fixture
    def newcomer(self):
        with Simulator(name="newcomer") as simulator:
            yield simulator

    @pytest.fixture
    def joining(self, newcomer):
        with logged_in(newcomer) as session:
            yield Client(session)

    def address(self, simulator):
        return simulator.url.removeprefix("http://")

    def test_a_host_that_joined_is_a_slave_in_the_other_pool(self, pool, client, newcomer, joining):
        joining.api.pool.join(self.address(pool), "root", "xensim")

        (host,) = client.api.host.get_by_name_label("newcomer")
        vm = client.vm(affinity=host)
        client.api.VM.start(vm, False, False)
        assert answers(newcomer.url) == ["HOST_IS_SLAVE", client.api.host.get_address(client.host())]
        assert client.api.VM.get_resident_on(vm) == host

    def test_a_host_brings_its_vms_and_its_disks_along(self, pool, client, newcomer, joining):
        api, host = joining.api, joining.host()
        sr = local_sr(joining, host)
        disk = joining.vdi(sr=sr)
        vm = joining.vm("brought")
        joining.vbd(vm, disk)
        api.VM.snapshot(vm, "as it was")
        uuids = {"host": api.host.get_uuid(host), "SR": api.SR.get_uuid(sr), "VM": api.VM.get_uuid(vm),
                 "VDI": api.VDI.get_uuid(disk)}  # fmt: skip
        before = {name: len(getattr(client.api, name).get_all()) for name in ("network", "GPU_group", "VM", "SR")}

        api.pool.join(self.address(pool), "root", "xensim")

        found = {name: getattr(client.api, name).get_by_uuid(uuid) for name, uuid in uuids.items()}
        assert client.api.SR.get_VDIs(found["SR"]).count(found["VDI"]) == 1
        assert {client.api.PBD.get_host(pbd) for pbd in client.api.SR.get_PBDs(found["SR"])} == {found["host"]}
        (snapshot,) = client.api.VM.get_snapshots(found["VM"])
        assert client.api.VM.get_name_label(snapshot) == "as it was"
        client.api.VM.start(found["VM"], False, False)
        assert client.api.VM.get_resident_on(found["VM"]) == found["host"]
        after = {name: len(getattr(client.api, name).get_all()) for name in before}
        assert after["network"] == before["network"] and after["GPU_group"] == before["GPU_group"]
        # Its control domain, the VM and the snapshot; its own repositories without that of the tools.
        assert (after["VM"] - before["VM"], after["SR"] - before["SR"]) == (3, 4)

    def test_a_host_that_cannot_be_taken_over_goes_on_alone(self, pool, newcomer, joining):
        hosts = len(pool.toolstack.db.tables["host"])
        pool.take_over_host = refuse_the_address

        error = self.refused(joining, self.address(pool))

        assert error == ["JOINING_HOST_SERVICE_FAILED"]
        assert answers(newcomer.url) == ["Success"] and len(pool.toolstack.db.tables["host"]) == hosts

    @pytest.mark.parametrize(
        ("address", "password", "expected"),
        [(None, "wrong", "SESSION_AUTHENTICATION_FAILED"), ("127.0.0.1:9", "xensim", "JOINING_HOST_CONNECTION_FAILED")],
    )
    def test_a_master_that_cannot_be_used_is_no_master(self, pool, joining, address, password, expected):
        with pytest.raises(XenAPI.Failure) as error:
            joining.api.pool.join(address or self.address(pool), "root", password)

        assert details(error)[0] == expected
        assert joining.api.host.get_all()

    def refused(self, joining, address):
        with pytest.raises(XenAPI.Failure) as error:
            joining.api.pool.join(address, "root", "xensim")
        return details(error)

    def test_what_a_host_has_of_its_own_keeps_it_alone(self, pool, joining, newcomer):
        api, host, address = joining.api, joining.host(), self.address(pool)
        network = api.network.create({"name_label": "tagged", "other_config": {}})
        (pif,) = api.PIF.get_all_records_where('field "management"="true"')
        vm = joining.started()

        api.VM.suspend(vm)
        suspended = self.refused(joining, address)
        api.VM.hard_shutdown(vm)
        vlan = api.VLAN.create(pif, "7", network)
        tagged = self.refused(joining, address)
        api.VLAN.destroy(vlan)
        shared = api.SR.create(host, {"server": "n", "serverpath": "/x"}, "0", "s", "", "nfs", "user", True, {})
        sharing = self.refused(joining, address)
        api.PBD.unplug(api.SR.get_PBDs(shared)[0])
        api.SR.forget(shared)
        itself = self.refused(joining, self.address(newcomer))

        assert suspended == ["JOINING_HOST_CANNOT_HAVE_RUNNING_OR_SUSPENDED_VMS"]
        assert tagged == ["POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS"]
        assert sharing == ["JOINING_HOST_CANNOT_CONTAIN_SHARED_SRS"]
        assert itself == ["HOST_ITS_OWN_SLAVE"]

    def test_a_host_joins_only_its_like(self, pool, client, joining):
        api, host = joining.api, joining.host()
        api.host.apply_edition(host, "free", False)
        licensed = self.refused(joining, self.address(pool))
        api.host.apply_edition(host, "trial", False)
        pool.control.directory("corp", [{"name": "admin", "sid": "S-1", "password": "x"}])
        ref = client.api.pool.get_all()[0]
        client.api.pool.enable_external_auth(ref, {"user": "admin", "pass": "x"}, "corp", "AD")

        assert licensed == ["LICENSE_HOST_POOL_MISMATCH"]
        assert self.refused(joining, self.address(pool)) == ["POOL_JOINING_EXTERNAL_AUTH_MISMATCH"]

    def test_a_host_with_running_vms_or_hosts_of_its_own_does_not_join(self, pool, client, joining):
        joining.started()

        with pytest.raises(XenAPI.Failure) as running:
            joining.api.pool.join(self.address(pool), "root", "xensim")
        with pytest.raises(XenAPI.Failure) as master:
            client.api.pool.join("127.0.0.1:9", "root", "xensim")

        assert details(running) == ["JOINING_HOST_CANNOT_HAVE_RUNNING_VMS"]
        assert details(master) == ["JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS"]
