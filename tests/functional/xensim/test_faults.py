"""Planted faults, from the shell and over the control path, as XenAPI clients meet them."""

import contextlib
import http.client
import json
import threading
import urllib.request

import pytest
import XenAPI

from nova_lite.cmd import xensim as command
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_client import Client
from tests.fixtures.xensim import logged_in

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def cleared(pool):
    yield
    pool.control.clear()
    pool.control.collector(is_paused=False)


@pytest.fixture
def shell(pool, capsys):
    """Return a function that runs nova-lite-xensim against the pool and returns what it printed."""

    def run(*words):
        assert command.main([*map(str, words), "--url", pool.url]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def code(error):
    return error.value.details[0]


def hosts(client):
    master = client.api.pool.get_master(client.api.pool.get_all()[0])
    return master, next(ref for ref in client.api.host.get_all() if ref != master)


def test_a_fault_concerns_only_the_object_it_is_planted_for(shell, client):
    chosen, other = client.vm("chosen"), client.vm("other")
    shell("fault", "fail", "VM.set_name_description", "HOST_BROKEN", "--object", client.api.VM.get_uuid(chosen))

    client.api.VM.set_name_description(other, "x")
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.set_name_description(chosen, "x")

    assert code(error) == "HOST_BROKEN"


def test_a_fault_concerns_only_the_caller_it_is_planted_for(shell, pool, client):
    shell("fault", "fail", "host.get_all", "HOST_BROKEN", "--caller", "backup", "--nth", 2)
    other = XenAPI.Session(pool.url)
    other.login_with_password("root", "xensim", "1.0", "backup")

    for _ in range(3):
        client.api.host.get_all()
    other.xenapi.host.get_all()
    with pytest.raises(XenAPI.Failure) as error:
        other.xenapi.host.get_all()

    assert code(error) == "HOST_BROKEN"
    other.xenapi.session.logout()


def test_a_dropped_call_has_no_effect_and_a_lost_reply_has_one(shell, client):
    vm = client.vm("dropped")
    shell("fault", "drop", "VM.add_tags")
    with pytest.raises((http.client.HTTPException, OSError)):
        raw_call(client, "VM.add_tags", vm, "first")
    shell("fault", "lose-reply", "VM.add_tags")
    with pytest.raises((http.client.HTTPException, OSError)):
        raw_call(client, "VM.add_tags", vm, "second")

    assert client.api.VM.get_tags(vm) == ["second"]


def raw_call(client, method, *arguments):
    """Make one call on a connection of its own: the XenAPI package would repeat it on a new one."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [client.session._session, *arguments]}
    address = client.session._ServerProxy__host
    body = json.dumps(request).encode()
    with urllib.request.urlopen(f"http://{address}/jsonrpc", body, timeout=60) as reply:
        return json.loads(reply.read())["result"]


def abandoned_call(client, method):
    """Make a call that the simulator may end before it answers."""
    with contextlib.suppress(OSError):
        raw_call(client, method)


def test_a_delayed_call_shows_its_operation_meanwhile(shell, client):
    vm = client.started("delayed")
    shell("fault", "delay", "VM.pause", 300, "--object", "delayed")

    task = client.api.Async.VM.pause(vm)
    wait_until(lambda: "pause" in client.api.VM.get_current_operations(vm).values(), "pause was never shown")
    client.api.task.cancel(task)

    assert client.finished(task)["status"] == "cancelled"
    assert client.api.VM.get_power_state(vm) == "Running"


def test_chance_repeats_itself_by_its_seed(pool, client):
    vm = client.vm("by chance")

    def outcomes(seed):
        pool.control.random_faults(seed, 0.5, method="VM.set_*", kinds=["error", "error_after"])
        return [is_refused(client.api.VM.set_name_description, vm, str(number)) for number in range(20)]

    first, again, other = outcomes(7), outcomes(7), outcomes(8)

    assert first == again != other
    assert any(first)
    assert not all(first)


def is_refused(call, *arguments):
    try:
        call(*arguments)
    except XenAPI.Failure:
        return True
    return False


def test_sessions_get_lost_and_clients_log_in_again(shell, client):
    before = client.session._session
    shell("fault", "lose-sessions")

    assert client.api.host.get_all()
    assert client.session._session != before


def test_a_killed_toolstack_answers_nobody_until_it_is_started(shell, pool, client):
    vm = client.started("survivor")
    shell("fault", "kill-toolstack")
    with pytest.raises((http.client.HTTPException, OSError)):
        client.api.host.get_all()
    shell("fault", "start-toolstack")

    with logged_in(pool) as session:
        assert session.xenapi.VM.get_power_state(vm) == "Running"
        assert session.xenapi.task.get_all() == []


def test_a_restart_loses_tasks_and_running_operations(shell, pool, client):
    vm = client.started("restarted")
    shell("fault", "delay", "VM.pause", 300)
    task = client.api.Async.VM.pause(vm)
    wait_until(lambda: client.api.VM.get_current_operations(vm), "pause was never shown")

    shell("fault", "restart-toolstack")

    with logged_in(pool) as session:
        assert task not in session.xenapi.task.get_all()
        assert session.xenapi.VM.get_current_operations(vm) == {}
        session.xenapi.VM.hard_shutdown(vm)


def test_another_host_becomes_the_master(shell, pool, client):
    old, new = hosts(client)
    shell("fault", "move-master", new)

    with pytest.raises(XenAPI.Failure) as error:
        XenAPI.Session(pool.url).login_with_password("root", "xensim")
    shell("fault", "move-master", old)

    assert code(error) == "HOST_IS_SLAVE"
    with logged_in(pool) as session:
        assert session.xenapi.pool.get_master(session.xenapi.pool.get_all()[0]) == old


def test_a_host_that_is_cut_off_answers_nothing_and_keeps_its_vms(shell, pool, client):
    _, slave = hosts(client)
    vm = client.vm("on the slave")
    client.api.VM.start_on(vm, slave, False, False)
    uuid, address = client.api.host.get_uuid(slave), client.api.host.get_address(slave)

    shell("fault", "partition-host", uuid)
    with pytest.raises((http.client.HTTPException, OSError)):
        XenAPI.Session(f"http://{address}:{pool.url.rpartition(':')[2]}").login_with_password("root", "xensim")
    is_live = client.api.host_metrics.get_live(client.api.host.get_metrics(slave))
    too_late = client.vm("too late")
    with pytest.raises(XenAPI.Failure) as start_error:
        client.api.VM.start_on(too_late, slave, False, False)
    with pytest.raises(XenAPI.Failure) as pause_error:
        client.api.VM.pause(vm)
    shell("fault", "heal-host", uuid)

    assert (is_live, code(start_error)) == (False, "HOST_NOT_LIVE")
    assert pause_error.value.details == ["HOST_OFFLINE", slave]
    assert client.api.VM.get_power_state(vm) == "Running"
    assert client.api.VM.get_resident_on(vm) == slave
    client.api.VM.hard_shutdown(vm)


def test_a_full_repository_takes_no_data(shell, pool, client):
    pool.control.collector(is_paused=True)  # what it frees would be missing in the sums
    sr = client.default_sr()
    vdi, before = client.vdi(size_mib=64), int(client.api.SR.get_physical_utilisation(sr))
    shell("fault", "fill-sr", client.api.SR.get_uuid(sr), MIB)
    full = int(client.api.SR.get_physical_utilisation(sr))

    task = upload(client, vdi, b"x" * 8 * MIB)
    shell("fault", "fill-sr", sr, -1)

    assert int(client.api.SR.get_physical_size(sr)) - full == MIB
    assert task["error_info"][0] == "SR_BACKEND_FAILURE_44"
    client.api.VDI.destroy(vdi)
    assert int(client.api.SR.get_physical_utilisation(sr)) < before


def upload(client, vdi, content):
    """Import raw data; return the finished task's record."""
    task = client.api.task.create("upload", "")
    query = f"vdi={vdi}&session_id={client.session._session}&task_id={task}"
    url = f"http://{client.session._ServerProxy__host}/import_raw_vdi?{query}"
    with contextlib.suppress(OSError):  # an import that fails ends the connection while the client is still sending
        urllib.request.urlopen(urllib.request.Request(url, data=content, method="PUT"), timeout=60).close()
    return client.finished(task)


def test_a_damaged_disk_can_be_neither_attached_nor_copied(shell, client):
    vm, vdi = client.vm("damaged"), client.vdi()
    client.vbd(vm, vdi)
    shell("fault", "corrupt-disk", vdi)

    for call in (lambda: client.api.VM.start(vm, False, False), lambda: client.api.VDI.copy(vdi, client.default_sr())):
        with pytest.raises(XenAPI.Failure) as error:
            call()
        assert code(error) == "SR_BACKEND_FAILURE_46"

    assert client.api.VM.get_power_state(vm) == "Halted"
    client.api.VDI.destroy(vdi)


def test_a_plug_is_refused_while_another_device_of_the_vm_is_plugged(shell, pool, client):
    vm = client.started("plugged")
    first, second = (client.vbd(vm, client.vdi()) for _ in range(2))
    shell("fault", "reject-overlapping-plugs", "on")
    shell("fault", "delay", "VBD.plug", 300, "--object", first)
    task = client.api.Async.VBD.plug(first)
    wait_until(lambda: client.api.VBD.get_current_operations(first), "plug was never shown")

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VBD.plug(second)
    client.api.task.cancel(task)
    client.finished(task)
    client.api.VBD.plug(second)

    assert error.value.details[:4] == ["OTHER_OPERATION_IN_PROGRESS", "VBD", first, "plug"]


def test_coalescing_hangs_until_it_is_let_go(shell, client):
    vdi = client.vdi()
    upload(client, vdi, b"x" * MIB)
    snapshot = client.api.VDI.snapshot(vdi)
    shell("fault", "hang-coalescing", "on")
    client.api.VDI.destroy(snapshot)
    client.api.SR.scan(client.default_sr())
    held = client.api.VDI.get_sm_config(vdi)

    shell("fault", "hang-coalescing", "off")

    assert "vhd-parent" in held
    wait_until(lambda: "vhd-parent" not in client.api.VDI.get_sm_config(vdi), "the chain was not coalesced")
    client.api.VDI.destroy(vdi)


def test_slow_disks_take_their_time(shell, client):
    """The speed is far below what the test could wait for: the import still runs when it is looked at."""
    vdi = client.vdi(size_mib=8)
    shell("fault", "slow-disks", 0.001)
    task = client.api.task.create("slow", "")
    query = f"vdi={vdi}&session_id={client.session._session}&task_id={task}"
    connection = http.client.HTTPConnection(client.session._ServerProxy__host, timeout=60)
    connection.request("PUT", f"/import_raw_vdi?{query}", b"x" * 256 * 1024)

    assert connection.getresponse().status == 200
    assert client.api.task.get_status(task) == "pending"
    connection.close()


def test_a_latency_profile_lengthens_calls(pool, client):
    pool.control.reset_calls()
    pool.control.latency("host", scale=1000)
    threading.Thread(target=abandoned_call, args=(client, "VM.get_all"), daemon=True).start()

    wait_until(lambda: pool.control.counts().get("VM.get_all"), "the call did not arrive")
    quick = [entry for entry in pool.control.call_log("VM.get_all") if entry["seconds"] < 1]
    pool.control.latency()

    assert quick == []


def test_the_log_tells_arguments_duration_and_result_without_secrets(shell, pool, client):
    pool.control.reset_calls()
    vm = client.vm("logged")
    client.api.VM.add_to_other_config(vm, "root-password", "hunter2")
    client.api.secret.create({"value": "hunter2", "other_config": {}})
    with pytest.raises(XenAPI.Failure):
        client.api.VM.unpause(vm)
    XenAPI.Session(pool.url).login_with_password("root", "xensim")

    text = shell("calls", "--method", "*")

    entries = [json.loads(line) for line in text.splitlines()]
    assert "hunter2" not in text
    assert client.session._session not in text
    by_method = {entry["method"]: entry for entry in entries}
    assert by_method["VM.unpause"]["arguments"] == [vm]
    assert by_method["VM.unpause"]["result"] == "VM_BAD_POWER_STATE"
    assert by_method["VM.create"]["arguments"][0]["name_label"] == "logged"
    assert by_method["VM.add_to_other_config"]["arguments"] == [vm, "root-password", "***"]
    assert by_method["session.login_with_password"]["arguments"] == ["root", "***"]
    assert all(entry["seconds"] >= 0 for entry in entries)
    assert [entry["number"] for entry in entries] == sorted(entry["number"] for entry in entries)


def test_what_the_simulator_does_not_know_is_one_line(pool, capsys):
    assert command.main(["fault", "fill-sr", "nowhere", "--url", pool.url]) == 1
    assert capsys.readouterr().err == "nova-lite-xensim: the simulator refused fill_sr: 400 no SR nowhere\n"


def test_planted_faults_are_listed_and_cleared(shell, client):
    shell("fault", "fail", "VM.start", "HOST_BROKEN", "--count", 3)
    listed = json.loads(shell("fault", "list"))
    shell("fault", "clear")

    assert [(fault["method"], fault["kind"], fault["count"]) for fault in listed] == [("VM.start", "error", 3)]
    client.started("after all")


def test_a_pool_outlives_every_fault(pool):
    with logged_in(pool) as session:
        assert Client(session).host()


def test_a_delayed_call_goes_on_when_what_is_planted_is_forgotten(pool, client):
    pool.control.delay("host.get_all", 3600)
    answered = threading.Event()
    with logged_in(pool) as other:
        waiting = threading.Thread(target=lambda: other.xenapi.host.get_all() and answered.set(), daemon=True)
        waiting.start()
        wait_until(lambda: not pool.control.faults(), "the call did not arrive")
        had_to_wait = not answered.is_set()

        pool.control.clear()

        waiting.join(60)
    assert had_to_wait and answered.is_set()
