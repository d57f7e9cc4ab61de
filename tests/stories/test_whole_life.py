"""What a server may be given and go through in its life, through the top cell, on hosts whose guests have agents."""

import base64
import contextlib
import datetime
import functools
import shutil
from pathlib import Path

import pytest
from oslo_messaging.notify import _impl_test as published

from nova_lite import context, exception, objects, xensim
from nova_lite.compute.api import AggregateAPI, SecurityGroupAPI
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.objects import vm_states
from nova_lite.virt.xenapi import dom0
from tests.fixtures.tree import RunningTree
from tests.fixtures.xen_probe import XenProbe

WEST = "api!west"
HINTS = {"target_cell": WEST}
PLUGINS = Path(dom0.__path__[0])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole-life")
    overrides = {("volume", "backend"): "local", ("volume", "store_path"): str(directory / "volumes"),
                 ("xenserver", "use_agent_default"): True, (None, "instance_usage_audit_period"): "hour",
                 ("oslo_messaging_notifications", "driver"): ["test"]}
    with pytest.MonkeyPatch.context() as patched:
        plugins = plugins_that_log_to(directory)
        patched.setattr(xensim, "Simulator", functools.partial(xensim.Simulator, plugins=str(plugins)))
        with RunningTree(directory, layout={"api": (), WEST: ("w1", "w2")}, overrides=overrides).start() as running:
            west = running.cells[WEST]
            running.second = west.db.network_create(west.context, {
                "label": "second", "cidr": "10.77.0.0/24", "bridge": "xenbr0"})["uuid"]
            running.first = next(one["uuid"] for one in west.db.network_get_all(west.context)
                                 if one["uuid"] != running.second)
            running.console_logs = directory
            yield running


def plugins_that_log_to(directory):
    """The plugins of a dom0 that keeps its consoles' logs in this directory."""
    plugins = shutil.copytree(PLUGINS, directory / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    console = plugins / "console.py"
    console.write_text(console.read_text().replace("/var/log/xen/guest/", f"{directory}/"))
    return plugins


@pytest.fixture
def boot(tree):
    """A function that boots servers in the cell with two hosts; they are removed afterwards."""
    booted = []

    def make(image_href="the image", **wishes):
        ctxt = tree.context()
        made, _ = tree.api.compute_api.create(
            ctxt, objects.Flavor.get_by_name(ctxt, "m1.tiny"), tree.image_id if image_href else None,
            **{"display_name": "server", "scheduler_hints": HINTS, **wishes})
        booted.extend(made)
        return [tree.until_idle(one, vm_states.ACTIVE) for one in made]

    yield make
    for one in booted:
        with contextlib.suppress(exception.InstanceNotFound):
            tree.api.compute_api.force_delete(tree.context(), tree.read(one))
            tree.until(lambda one=one: is_gone(tree, one), "the server stayed")


def is_gone(tree, server):
    try:
        tree.read(server)
    except exception.InstanceNotFound:
        return True
    return False


def machine_of(tree, server):
    """The XenServer's record of the server's VM, with its reference."""
    probe = XenProbe(tree.host_of(tree.read(server)).url)
    for ref, record in probe.api.VM.get_all_records().items():
        if record["other_config"].get("nova_uuid") == server.uuid:
            return {**record, "ref": ref}, probe
    return None, probe


def inside(tree, server):
    """What the guest was told by its agent."""
    machine, _ = machine_of(tree, server)
    return tree.host_of(tree.read(server)).simulator.control.guest_state(machine["ref"])


def managers(tree):
    """The compute managers of the hosts, whose periodic tasks would else be waited for."""
    return {host.name: host.service.manager for host in tree.hosts}


def run_until(tree, task, claim, what):
    """Let a periodic task of all hosts come round until the claim holds."""
    def tried():
        for manager in managers(tree).values():
            getattr(manager, task)(manager.compute_host.admin_context())
        return claim()

    return tree.until(tried, what)


def test_a_server_gets_all_that_it_was_to_have(tree, boot):
    public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZha2VrZXlmYWtla2V5ZmFrZWtleWZha2VrZXlmYWtl me"
    data = base64.b64encode(b"#!/bin/true").decode()

    server, = boot(key_data=public_key, injected_files=[["/etc/motd", base64.b64encode(b"hello").decode()]],
                   admin_password="s3cret-word", metadata={"role": "web"}, config_drive=True, user_data=data,
                   requested_networks=[(tree.first, None, None), (tree.second, None, None)])

    guest = inside(tree, server)
    assert guest["password"] == "s3cret-word"
    assert base64.b64decode(guest["files"]["/etc/motd"]) == b"hello"
    assert any(public_key.encode() in base64.b64decode(content) for content in guest["files"].values())
    machine, _ = machine_of(tree, server)
    assert len(machine["VIFs"]) == 2
    assert len(machine["VBDs"]) == 2  # its root disk and its config drive
    assert tree.read(server).metadata == {"role": "web"}


def test_several_servers_are_made_at_once(tree, boot):
    servers = boot(min_count=3, max_count=3)

    assert [one.display_name for one in servers] == ["server-1", "server-2", "server-3"]
    assert len({machine_of(tree, one)[0]["uuid"] for one in servers}) == 3


def test_a_server_boots_from_a_volume_that_stays_when_it_goes(tree, boot):
    volumes, ctxt = tree.api.services.volume_api, tree.context()
    volume = volumes.create(ctxt, 1, "system", "")

    server, = boot(image_href=None, block_device_mapping=[
        {"device_name": "/dev/xvda", "volume_id": volume["id"], "delete_on_termination": False}])
    machine, probe = machine_of(tree, server)
    assert [probe.api.VBD.get_userdevice(vbd) for vbd in machine["VBDs"]] == ["0"]

    tree.api.compute_api.delete(ctxt, tree.read(server))
    tree.until(lambda: is_gone(tree, server), "the server stayed")
    tree.until(lambda: volumes.get(ctxt, volume["id"])["status"] == "available", "the volume was not detached")


def test_the_guest_takes_a_password_a_file_and_metadata(tree, boot):
    server, = boot()
    api, ctxt = tree.api.compute_api, tree.context()

    api.set_admin_password(ctxt, tree.read(server), "n3w-word")
    tree.until_idle(server, vm_states.ACTIVE)
    api.inject_file(ctxt, tree.read(server), "/etc/issue", "welcome")
    api.update_instance_metadata(ctxt, tree.read(server), {"colour": "red"})

    tree.until(lambda: inside(tree, server)["password"] == "n3w-word", "the password was not set")
    tree.until(lambda: "/etc/issue" in inside(tree, server)["files"], "the file was not written")
    tree.until(lambda: "red" in str(machine_of(tree, server)[0]["xenstore_data"]), "the metadata did not arrive")


def test_a_server_of_a_dead_host_is_evacuated_and_does_not_come_back_twice(tree, boot):
    server, = boot()
    dead = tree.host_of(server)
    other = next(host for host in tree.hosts if host is not dead)
    dead.service.stop()
    tree.api.host_api.service_update(tree.context(), f"{WEST}@{dead.name}", "nova-compute", {"forced_down": True})
    try:
        tree.api.compute_api.evacuate(tree.context(), tree.read(server), f"{WEST}@{other.name}", False)
        tree.until(lambda: tree.host_of(tree.read(server)) is other, "it did not move")
        tree.until_idle(server, vm_states.ACTIVE)
    finally:
        dead.service = dead.build_service()
        dead.service.start()
        tree._closing.callback(dead.service.stop)
        tree.api.host_api.service_update(tree.context(), f"{WEST}@{dead.name}", "nova-compute",
                                         {"forced_down": False})

    assert server.uuid not in XenProbe(dead.url).instances()
    assert tree.power_state(tree.read(server)) == "Running"


@pytest.mark.parametrize(("option", "task", "orders", "before", "after"), [
    ("resize_confirm_window", "_poll_unconfirmed_resizes", [("resize", "2")], vm_states.RESIZED, vm_states.ACTIVE),
    ("rescue_timeout", "_poll_rescued_instances", [("rescue", "pw")], vm_states.RESCUED, vm_states.ACTIVE),
    ("reclaim_instance_interval", "_reclaim_queued_deletes", [("soft_delete",)], vm_states.SOFT_DELETED, None),
])
def test_what_waits_for_nobody_any_more_ends_by_itself(tree, boot, option, task, orders, before, after):
    server, = boot()
    for operation, *arguments in orders:
        getattr(tree.api.compute_api, operation)(tree.context(), tree.read(server), *arguments)
    tree.until_idle(server, before)

    for host in tree.hosts:
        host.conf.set_override(option, 1)
    try:
        run_until(tree, task, lambda: is_gone(tree, server) if after is None else tree.read(server).vm_state == after,
                  f"it stayed {before}")
    finally:
        for host in tree.hosts:
            host.conf.clear_override(option)


def test_what_a_server_has_used_is_known_at_the_top(tree, boot, monkeypatch):
    server, = boot()
    top, reading = tree.api.services.db, {"uuid": server.uuid, "mac_address": "aa:bb:cc:00:00:01", "bw_in": 7,
                                          "bw_out": 9}
    manager = managers(tree)[tree.host_of(server).name]
    monkeypatch.setattr(manager.driver, "get_all_bw_counters", lambda instances: [reading])

    manager._usage.poll_bandwidth(manager.compute_host.admin_context())

    start = manager._usage._last_period()[1]
    tree.until(lambda: top.bw_usage_get_by_uuids(tree.context(), [server.uuid], start),
               "the top was told of no bandwidth")


def test_the_figures_and_the_uptime_are_shown(tree, boot):
    server, = boot()
    api, ctxt = tree.api.compute_api, tree.context()

    assert api.get_diagnostics(ctxt, tree.read(server))
    assert "up" in tree.api.host_api.get_host_uptime(ctxt, f"{WEST}@{tree.host_of(server).name}")


def test_a_host_without_guests_is_maintained_and_comes_back(tree):
    hosts, ctxt = tree.api.host_api, tree.context()

    assert hosts.set_host_maintenance(ctxt, f"{WEST}@w1", True) == "on_maintenance"
    assert hosts.set_host_maintenance(ctxt, f"{WEST}@w1", False) == "off_maintenance"


def test_a_host_is_rebooted_and_its_guests_are_stopped_before(tree, boot):
    server, = boot()
    host, hosts = tree.host_of(server), tree.api.host_api

    def booted_at():
        record, = XenProbe(host.url).api.host.get_all_records().values()
        return record["other_config"].get("boot_time")

    before = booted_at()
    assert hosts.host_power_action(tree.context(), f"{WEST}@{host.name}", "reboot") == "reboot"

    assert booted_at() != before
    assert machine_of(tree, server)[0]["power_state"] == "Halted"
    run_until(tree, "_sync_power_states", lambda: tree.read(server).vm_state == vm_states.STOPPED,
              "nobody noticed that it was stopped")
    with pytest.raises(exception.OperationNotSupported) as refused:
        hosts.host_power_action(tree.context(), f"{WEST}@{host.name}", "startup")
    assert refused.value.format_message() == "Host startup on XenServer is not supported."


def test_servers_go_to_hosts_of_their_zone_that_take_them(tree, boot):
    aggregates, ctxt = AggregateAPI(managers(tree)["w1"].services), admin_of(tree)
    rack = aggregates.create_aggregate(ctxt, "rack", "rack-2")
    aggregates.add_host_to_aggregate(ctxt, rack["id"], "w2")
    server, = boot(availability_zone="rack-2")
    aggregates.remove_host_from_aggregate(ctxt, rack["id"], "w2")
    aggregates.delete_aggregate(ctxt, rack["id"])

    tree.api.host_api.set_host_enabled(tree.context(), f"{WEST}@w2", False)
    try:
        other, = boot()
    finally:
        tree.api.host_api.set_host_enabled(tree.context(), f"{WEST}@w2", True)

    assert (tree.host_of(tree.read(server)).name, tree.host_of(tree.read(other)).name) == ("w2", "w1")


def admin_of(tree):
    """An administrator of the cell with the hosts."""
    return context.get_admin_context().bind(managers(tree)["w1"].services)


def test_changed_rules_reach_the_host_that_has_the_server(tree, boot, monkeypatch):
    server, = boot()
    manager = managers(tree)[tree.host_of(server).name]
    heard = []
    for name in ("refresh_instance_security_rules", "refresh_provider_fw_rules"):
        monkeypatch.setattr(manager.driver, name, lambda *arguments, name=name: heard.append(name))
    ctxt = context.RequestContext(server.user_id, server.project_id).bind(manager.services)
    groups = SecurityGroupAPI(manager.services)

    groups.add_to_instance(ctxt, {"uuid": server.uuid}, groups.create_security_group(ctxt, "web", "")["name"])
    tree.until(lambda: heard == ["refresh_instance_security_rules"], "the host was not told of the group")
    groups.add_rules(ctxt, groups.get(ctxt, "web")["id"], "web", [
        {"protocol": "tcp", "from_port": 80, "to_port": 80, "cidr": "0.0.0.0/0"}])
    tree.until(lambda: heard == ["refresh_instance_security_rules"] * 2, "the host was not told of the rule")
    ComputeAPI(manager.services).refresh_provider_fw_rules(ctxt, manager.host)

    tree.until(lambda: heard[2:] == ["refresh_provider_fw_rules"], "the host was not told of the provider's rules")


def test_what_existed_in_the_last_hour_is_announced_once(tree, boot):
    server, = boot()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    tree.cells[WEST].db.instance_update(tree.cells[WEST].context, server.uuid, {"launched_at": yesterday})

    def announced():
        return [payload["instance_id"] for _, message, _, _ in list(published.NOTIFICATIONS)
                if message["event_type"] == "compute.instance.exists"
                and (payload := message["payload"])["instance_id"] == server.uuid
                and payload["audit_period_ending"].endswith(":00:00")]

    for _ in range(2):  # by hand, which is why the option of the periodic task is not set
        for manager in managers(tree).values():
            manager._usage.audit(manager.compute_host.admin_context())

    assert announced() == [server.uuid]


def test_the_end_of_its_console_is_read(tree, boot):
    server, = boot()
    machine, _ = machine_of(tree, server)
    (tree.console_logs / f"console.{machine['domid']}").write_text("starting\nready\nlogin:")
    api, ctxt = tree.api.compute_api, tree.context()

    assert api.get_console_output(ctxt, tree.read(server)) == "starting\nready\nlogin:"
    assert api.get_console_output(ctxt, tree.read(server), 1).splitlines() == ["login:"]


def test_a_server_is_rebooted_by_force(tree, boot):
    server, = boot()
    control = tree.host_of(server).simulator.control
    control.reset_calls()

    tree.api.compute_api.reboot(tree.context(), tree.read(server), "HARD")
    tree.until(lambda: any("hard_reboot" in str(call) for call in control.calls()), "its host was not told")

    tree.until_idle(server, vm_states.ACTIVE)
    assert tree.power_state(tree.read(server)) == "Running"


@pytest.mark.parametrize("orders", [(), ("pause",), ("suspend",), ("stop",), ("rescue",), ("resize",),
                                    ("soft_delete",), ("update_state",)],
                         ids=lambda orders: "".join(orders) or "active")
def test_a_server_is_deleted_in_whatever_state_it_is(tree, boot, orders):
    goals = {"pause": vm_states.PAUSED, "suspend": vm_states.SUSPENDED, "stop": vm_states.STOPPED,
             "rescue": vm_states.RESCUED, "resize": vm_states.RESIZED, "soft_delete": vm_states.SOFT_DELETED,
             "update_state": vm_states.ERROR}
    server, = boot()
    for operation in orders:
        arguments = {"resize": ["2"], "update_state": [vm_states.ERROR]}.get(operation, [])
        getattr(tree.api.compute_api, operation)(tree.context(), tree.read(server), *arguments)
        tree.until_idle(server, goals[operation])

    tree.api.compute_api.force_delete(tree.context(), tree.read(server))

    until_nothing_is_left(tree, server)


@pytest.mark.parametrize(("operation", "arguments"), [
    ("reboot", ["HARD"]), ("suspend", []), ("snapshot", ["picture"]), ("resize", ["2"]), ("rescue", [])])
def test_a_server_is_deleted_whatever_is_just_done_with_it(tree, boot, operation, arguments):
    server, = boot()
    getattr(tree.api.compute_api, operation)(tree.context(), tree.read(server), *arguments)

    tree.api.compute_api.delete(tree.context(), tree.read(server))

    until_nothing_is_left(tree, server)


def test_a_server_is_deleted_while_it_is_built(tree):
    ctxt = tree.context()
    (server,), _ = tree.api.compute_api.create(ctxt, objects.Flavor.get_by_name(ctxt, "m1.tiny"), tree.image_id,
                                               display_name="short", scheduler_hints=HINTS)

    tree.api.compute_api.delete(ctxt, tree.read(server))

    until_nothing_is_left(tree, server)


def until_nothing_is_left(tree, server):
    tree.until(lambda: is_gone(tree, server), "the server stayed")
    tree.until(lambda: all(server.uuid not in XenProbe(host.url).instances() for host in tree.hosts),
               "its VM stayed")
