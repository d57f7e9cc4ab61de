import socket
import threading

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.driver import HypervisorLoginRefused, HypervisorUnavailable, load_compute_driver
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi import plugins
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.virt.xenapi.tasks import TaskLost, TaskTimeout


@pytest.fixture
def session(simulator):
    session = XenAPISession(simulator.url, simulator.username, simulator.password, timeout=60, concurrent=2,
                            call_timeout=60, task_timeout=60)
    yield session
    session.close()


@pytest.fixture
def silent_server():
    """A server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_session_knows_its_host_and_product(session):
    assert session.host_ref.startswith("OpaqueRef:")
    assert session.call_xenapi("host.get_uuid", session.host_ref) == session.host_uuid
    assert session.get_product_version() >= (7, 0)


def test_a_host_that_is_not_there_is_one_line_with_its_url_and_without_the_password():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(HypervisorUnavailable) as raised:
        XenAPISession(url, "root", "secret", timeout=1)
    assert url in str(raised.value)
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


def test_defect_16_a_host_that_says_nothing_is_given_up_in_time(silent_server):
    with pytest.raises(HypervisorUnavailable, match="Dom0 disk full"):
        XenAPISession(silent_server, "root", "secret", timeout=0.3)


def test_a_wrong_password_is_one_line_and_is_not_tried_again(simulator):
    simulator.control.fail("session.login_with_password", error=["SESSION_AUTHENTICATION_FAILED", "root", "no"])
    with pytest.raises(HypervisorLoginRefused) as raised:
        XenAPISession(simulator.url, "root", "secret", timeout=20)
    assert simulator.url in str(raised.value)
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


def test_loading_the_driver_needs_no_host_and_connecting_tells_what_is_wrong(make_conf):
    conf = make_conf(connection_url=f"http://127.0.0.1:{free_port()}", login_timeout=1)
    driver = load_compute_driver(VirtAPI(), "xenapi.XenAPIDriver", conf=conf, image_api=None)
    with pytest.raises(HypervisorUnavailable):
        driver.init_host("compute-1")


def test_a_session_that_expired_is_replaced_without_a_word(session):
    with session._short.take() as member:
        member.client._session = "OpaqueRef:expired"
    assert session.call_xenapi("host.get_uuid", session.host_ref) == session.host_uuid


def test_a_read_that_lost_its_connection_is_repeated(simulator, session):
    simulator.control.drop_reply("host.get_uuid")
    session.clock.sleep = lambda seconds: None
    assert session.call_xenapi("host.get_uuid", session.host_ref) == session.host_uuid


def test_an_answer_that_breaks_off_is_a_lost_connection():
    def answer(server):
        with server.accept()[0] as connection:
            received = b""
            while b"</methodCall>" not in received:
                received += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 900\r\n\r\n"
                               b"<?xml version='1.0'?><methodRes")

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer, args=(server,))
        answering.start()
        with pytest.raises(HypervisorUnavailable, match="broke off"):
            XenAPISession(f"http://127.0.0.1:{server.getsockname()[1]}", "root", "secret", timeout=60)
        answering.join()


def test_a_change_that_lost_its_connection_is_not_repeated(simulator, session):
    before = len(session.call_xenapi("network.get_all"))
    simulator.control.drop_reply("network.create")
    with pytest.raises(HypervisorUnavailable, match=r"network\.create"):
        session.call_xenapi("network.create", {"name_label": "n", "name_description": "", "MTU": "1500",
                                               "other_config": {}})
    assert len(session.call_xenapi("network.get_all")) <= before + 1


def test_defect_14_a_call_that_takes_too_long_is_given_up(simulator, session):
    simulator.control.delay("pool.sync_database", 3)
    with pytest.raises(HypervisorUnavailable, match=r"pool\.sync_database.*timed out"):
        session.call_long("pool.sync_database", timeout_s=0.2)


def test_more_callers_than_sessions_take_turns(session):
    results = []

    def ask():
        for _ in range(20):
            results.append(session.call_xenapi("host.get_uuid", session.host_ref))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [session.host_uuid] * 160
    assert session._short._taken == 0 and len(session._short._free) <= 2


def test_errors_of_the_api_keep_their_details(session):
    with pytest.raises(XenAPI.Failure) as raised:
        session.call_xenapi("VM.get_record", "OpaqueRef:none")
    assert raised.value.details == ["HANDLE_INVALID", "VM", "OpaqueRef:none"]
    assert session.get_rec("VM", "OpaqueRef:none") is None


def test_a_task_that_does_not_end_is_cancelled(session):
    with session.custom_task("waiting") as task_ref, pytest.raises(TaskTimeout):
        session.wait_for_task(task_ref, timeout_s=0.2)
    assert task_ref not in session.call_xenapi("task.get_all")


def test_a_host_that_has_no_events_is_asked_now_and_then(simulator, session):
    simulator.control.fail("event.from", error=["MESSAGE_METHOD_UNKNOWN", "event.from"])
    session._tasks.poll_interval_s = 0.01
    simulator.control.reset_calls()
    session.call_task("SR.scan", next(iter(session.call_xenapi("SR.get_all"))))
    assert "task.get_record" in simulator.control.calls()


def test_a_task_that_the_host_forgot_is_told_from_one_that_failed(session):
    with pytest.raises(TaskLost):
        session.wait_for_task("OpaqueRef:forgotten", timeout_s=1)


@pytest.mark.parametrize(("version", "fits"), [
    ("3.0", True), ("3.7", True), ("2.9", False), ("4.0", False), ("new", False)])
def test_plugins_of_another_generation_are_refused_in_one_line(simulator, monkeypatch, version, fits):
    monkeypatch.setattr(XenAPISession, "call_plugin_serialized", lambda session, plugin, function: version)
    if fits:
        session = XenAPISession(simulator.url, simulator.username, simulator.password)
        assert session.plugin_version == version
        session.close()
        return
    with pytest.raises(XenAPI.Failure, match=f"Plugin version mismatch .Expected 3.0, got {version}"):
        XenAPISession(simulator.url, simulator.username, simulator.password)


def test_a_quote_in_a_filter_is_refused(session):
    with pytest.raises(exception.InvalidInput):
        session.records_where("network", bridge='x" or true')


def test_the_failure_a_plugin_met_takes_the_place_of_the_one_that_wraps_it():
    for code in plugins.PLUGIN_FAILURES:
        with pytest.raises(XenAPI.Failure) as raised, plugins.explained_failures("3.0"):
            raise XenAPI.Failure([code, "fn", "Failure", "['VDI_IN_USE', 'ref']"])
        assert raised.value.details == ["VDI_IN_USE", "ref"]


def test_text_of_a_plugin_is_never_evaluated():
    details = ["XENAPI_PLUGIN_FAILURE", "fn", "Failure", "__import__('os').system('true')"]
    with pytest.raises(XenAPI.Failure) as raised, plugins.explained_failures("3.0"):
        raise XenAPI.Failure(details)
    assert raised.value.details == details


@pytest.mark.parametrize(("details", "passing"), [
    (["XENAPI_PLUGIN_FAILURE", "fn", "RetryableError", "x"], True),
    (["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM", "", ""], True),
    (["XENAPI_PLUGIN_FAILURE", "fn", "PluginError", "x"], False),
    (["HANDLE_INVALID"], False)])
def test_passing_failures_of_plugins_are_told_from_others(details, passing):
    assert plugins.is_passing(XenAPI.Failure(details)) is passing


def test_the_console_session_is_one_of_its_own(session):
    first = session.get_session_id()
    assert session.get_session_id() == first
    with session._short.take() as member:
        assert member.handle != first


def test_closing_leaves_no_session_behind(simulator):
    session = XenAPISession(simulator.url, simulator.username, simulator.password)
    handle = session.get_session_id()
    session.close()
    witness = XenAPISession(simulator.url, simulator.username, simulator.password)
    with pytest.raises(XenAPI.Failure, match="HANDLE_INVALID"):
        witness.call_xenapi("session.get_uuid", handle)
    witness.close()


@pytest.mark.parametrize(("group", "name", "value"), [
    ("xenserver", "image_handler", "vdi_local_dev"), (None, "flat_injected", True)])
def test_an_option_that_does_not_go_with_a_service_far_away_is_refused_in_one_line(make_conf, group, name, value):
    conf = make_conf()
    conf.set_override(name, value, group)
    try:
        with pytest.raises(exception.ConfigurationError, match=f"{name}.*independent_compute"):
            load_compute_driver(VirtAPI(), "xenapi.XenAPIDriver", conf=conf, image_api=None)
    finally:
        conf.clear_override(name, group)


def test_a_missing_url_or_password_is_refused_in_one_line(make_conf):
    with pytest.raises(exception.ConfigurationError, match="connection_url"):
        load_compute_driver(VirtAPI(), "xenapi.XenAPIDriver", conf=make_conf(connection_url=None), image_api=None)


def test_a_driver_that_refuses_its_options_leaves_no_session_behind(simulator, make_conf):
    driver = load_compute_driver(VirtAPI(), "xenapi.XenAPIDriver", image_api=None,
                                 conf=make_conf(image_upload_handler="no.such.Handler"))
    simulator.control.reset_calls()
    for _ in range(3):
        with pytest.raises(exception.ConfigurationError, match="image_upload_handler"):
            driver.connect()
    calls = simulator.control.counts()
    assert calls["session.login_with_password"] == calls["session.logout"] > 0
