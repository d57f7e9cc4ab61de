"""Sessions, wire forms, errors, tasks: what every client meets first."""

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
import xmlrpc.client

import pytest
import XenAPI

from nova_lite.xensim import Simulator
from tests.fixtures.xensim import logged_in


def details(error):
    return error.value.details


def post(url, body, content_type="text/xml", path="/"):
    """Return (status, body, headers) of a POST; HTTP errors are answers too."""
    request = urllib.request.Request(url + path, data=body, headers={"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def xml_call(url, method, *parameters):
    status, body, _ = post(url, xmlrpc.client.dumps(parameters, method, allow_none=True).encode())
    assert status == 200
    return body.decode()


def json_call(url, method, parameters, path="/jsonrpc", **more):
    body = json.dumps({"method": method, "params": parameters, "id": 7, **more}).encode()
    status, body, headers = post(url, body, "application/json", path)
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    return json.loads(body)


class TestSessions:
    def test_a_wrong_password_is_refused(self, xensim):
        with pytest.raises(XenAPI.Failure) as error:
            XenAPI.Session(xensim.url).login_with_password("root", "wrong")

        assert details(error)[:2] == ["SESSION_AUTHENTICATION_FAILED", "root"]

    @pytest.mark.parametrize("more", [(), ("1.0",), ("1.0", "me")])
    def test_login_takes_two_to_four_parameters(self, xensim, more):
        session = XenAPI.Session(xensim.url)

        session.login_with_password(xensim.username, xensim.password, *more)

        assert session.xenapi.session.get_originator(session._session) == (more[1] if len(more) == 2 else "")

    def test_a_session_ends_once(self, client, xensim):
        session = XenAPI.Session(xensim.url)
        session.login_with_password(xensim.username, xensim.password)
        handle = session._session

        first, second = xml_call(xensim.url, "session.logout", handle), xml_call(xensim.url, "session.logout", handle)

        assert "Success" in first
        assert "SESSION_INVALID" in second
        assert handle in second

    def test_a_lost_session_is_made_again_by_the_stock_client(self, client, xensim):
        xensim.control.lose_sessions()

        assert client.api.host.get_all()

    def test_above_the_limit_the_oldest_idle_session_goes(self, client, xensim):
        first = XenAPI.Session(xensim.url)
        first.login_with_password("root", "xensim", "1.0", "crowd")
        for _ in range(500):
            xml_call(xensim.url, "session.login_with_password", "root", "xensim", "1.0", "crowd")

        assert "SESSION_INVALID" in xml_call(xensim.url, "host.get_all", first._session)


class TestXml:
    def test_integers_travel_as_untyped_text(self, client, xensim):
        vm = client.vm()

        reply = xml_call(xensim.url, "VM.get_VCPUs_max", client.session._session, vm)

        assert "<name>Value</name><value>1</value>" in reply

    def test_a_void_result_is_an_empty_value(self, client, xensim):
        reply = xml_call(xensim.url, "VM.set_name_label", client.session._session, client.vm(), "x")

        assert "<name>Value</name><value></value>" in reply

    def test_the_old_spelling_of_methods_is_understood(self, client, xensim):
        assert "Success" in xml_call(xensim.url, "host_get_all", client.session._session)

    def test_the_list_of_methods_comes_bare_and_without_session(self, xensim):
        listed = xmlrpc.client.ServerProxy(xensim.url).system.listMethods()

        assert "VM.start" in listed
        assert not any(name.startswith("Async.") for name in listed)

    def test_an_enumeration_is_read_in_any_case_and_returned_in_the_models(self, client):
        assert client.api.VDI.get_type(client.vdi(type="USER")) == "user"

    def test_markup_and_control_characters_survive_or_vanish(self, client):
        vm = client.vm("a<b>&\"c'\té")
        client.api.VM.set_name_description(vm, "x")

        assert client.api.VM.get_name_label(vm) == "a<b>&\"c'\té"

    @pytest.mark.parametrize("path", ["/", "/RPC2", "/xmlrpc", "/anything/else"])
    def test_any_path_takes_calls(self, client, xensim, path):
        body = xmlrpc.client.dumps((client.session._session,), "host.get_all").encode()

        status, reply, headers = post(xensim.url, body, path=path)

        assert (status, headers["Content-Type"]) == (200, "text/xml")
        assert b"Success" in reply


class TestJson:
    def test_version_one_answers_result_and_error(self, client, xensim):
        good = json_call(xensim.url, "host.get_all", [client.session._session])
        bad = json_call(xensim.url, "VM.get_record", [client.session._session, "OpaqueRef:x"])

        assert good == {"result": [client.host()], "error": None, "id": 7}
        assert bad == {"result": None, "error": ["HANDLE_INVALID", "VM", "OpaqueRef:x"], "id": 7}

    def test_version_two_answers_result_or_error(self, client, xensim):
        good = json_call(xensim.url, "host.get_all", [client.session._session], jsonrpc="2.0")
        bad = json_call(xensim.url, "VM.get_record", [client.session._session, "OpaqueRef:x"], jsonrpc="2.0")

        assert good == {"jsonrpc": "2.0", "result": [client.host()], "id": 7}
        assert bad["error"] == {"code": 1, "message": "HANDLE_INVALID", "data": ["VM", "OpaqueRef:x"]}

    def test_records_have_numbers_booleans_and_objects(self, client, xensim):
        vm = client.vm()

        record = json_call(xensim.url, "VM.get_record", [client.session._session, vm])["result"]

        assert (record["VCPUs_max"], record["is_a_template"], record["platform"]) == (1, False, {})
        assert json_call(xensim.url, "VM.get_all_records", [client.session._session])["result"][vm] == record

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"5", b'{"method": "a"}', b'{"method": 1, "id": 1, "params": []}', b"[" * 100_000,
         b'{"method": "a", "id": 1, "params": [], "jsonrpc": "3.0"}', b'{"method": "a", "id": null, "params": []}',
         b'{"method": "a", "id": 1, "params": 5}', b"\xff\xfe"],
    )  # fmt: skip
    def test_what_is_no_request_gets_an_error_page(self, xensim, body):
        assert post(xensim.url, body, path="/jsonrpc")[0] == 500


class TestErrors:
    def call(self, client, name, *parameters):
        with pytest.raises(XenAPI.Failure) as error:
            client.session.xenapi_request(name, parameters)
        return details(error)

    def test_an_unknown_method(self, client):
        assert self.call(client, "VM.fly", "OpaqueRef:x") == ["MESSAGE_METHOD_UNKNOWN", "VM.fly"]

    def test_an_unknown_method_with_a_bad_session_is_about_the_session(self, xensim):
        assert "SESSION_INVALID" in xml_call(xensim.url, "VM.fly", "OpaqueRef:none", "x")

    def test_too_few_and_too_many_parameters(self, client):
        assert self.call(client, "VM.start", "x") == ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "1"]
        assert self.call(client, "VM.pause", "x", "y") == ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.pause", "1", "2"]

    def test_a_parameter_of_the_wrong_type(self, client):
        assert self.call(client, "VM.start", client.vm(), "true", False)[0] == "INTERNAL_ERROR"

    def test_an_unknown_reference_uuid_and_name(self, client):
        assert self.call(client, "SR.get_record", "OpaqueRef:x") == ["HANDLE_INVALID", "SR", "OpaqueRef:x"]
        assert self.call(client, "SR.get_by_uuid", "x") == ["UUID_INVALID", "SR", "x"]
        assert client.api.SR.get_by_name_label("x") == []

    def test_a_key_is_added_once_and_removed_any_number_of_times(self, client):
        vm = client.vm()
        client.api.VM.add_to_HVM_boot_params(vm, "order", "c")

        error = self.call(client, "VM.add_to_HVM_boot_params", vm, "order", "d")
        client.api.VM.remove_from_HVM_boot_params(vm, "order")
        client.api.VM.remove_from_HVM_boot_params(vm, "order")

        assert error == ["MAP_DUPLICATE_KEY", "VM", "HVM_boot_params", vm, "order"]

    def test_what_was_removed_from_the_interface_says_so(self, client):
        assert self.call(client, "VDI.resize_online", client.vdi(), "1") == ["MESSAGE_REMOVED"]

    def test_a_call_without_an_asynchronous_form(self, client):
        assert self.call(client, "Async.VM.get_record", "x")[0] == "Fault"


class TestTasks:
    def test_a_task_ends_with_the_encoded_result(self, client):
        vm = client.vm()

        record = client.finished(client.api.Async.VM.clone(vm, "copy"))

        (clone,) = client.api.VM.get_by_name_label("copy")
        assert (record["status"], record["result"]) == ("success", f"<value>{clone}</value>")
        assert record["name_label"] == "Async.VM.clone"

    def test_a_failure_ends_up_in_the_task(self, client):
        vm = client.vm()

        record = client.finished(client.api.Async.VM.pause(vm))

        assert record["error_info"] == ["VM_BAD_POWER_STATE", vm, "running", "halted"]

    def test_a_running_task_shows_on_its_object_and_blocks_others(self, xensim, client):
        vm = client.vm()
        xensim.control.delay("VM.start", 30)

        task = client.api.Async.VM.start(vm, False, False)
        token = ""
        while not client.api.VM.get_current_operations(vm):
            token = client.events(["VM"], token, 10)["token"]
        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.start(vm, False, False)
        operations, allowed = client.api.VM.get_current_operations(vm), client.api.VM.get_allowed_operations(vm)
        client.api.task.cancel(task)
        record = client.finished(task)

        assert operations == {task: "start"}
        assert "start" not in allowed
        assert details(error) == ["OTHER_OPERATION_IN_PROGRESS", "VM", vm, "start", task]
        assert (record["status"], record["error_info"]) == ("cancelled", ["TASK_CANCELLED", task])
        assert client.api.VM.get_power_state(vm) == "Halted"

    def test_a_clients_own_task_is_finished_by_the_client(self, client):
        task = client.api.task.create("mine", "by hand")
        client.api.task.set_progress(task, 0.5)
        client.api.task.set_status(task, "success")

        assert client.api.task.get_record(task)["status"] == "success"
        client.api.task.destroy(task)
        assert task not in client.api.task.get_all()


class TestFilters:
    @pytest.mark.parametrize(
        ("expression", "names"),
        [
            ('field "name__label"="a"', {"a"}),
            ('field "name__label" = "a" or field "name__label"="b"', {"a", "b"}),
            ('field "is_control_domain"="false" and field "name__label"="b"', {"b"}),
            ('field "memory__static_max"="268435456" and not field "name__label"="a"', {"b"}),
            ('"x"="y"', set()),
            ('(field "name__label"="a")', {"a"}),
            ('not field "name__label"="a" and field "name__label"="b"', {"a", "b"}),
        ],
    )
    def test_an_expression_selects(self, client, expression, names):
        client.vm("a"), client.vm("b")

        found = client.api.VM.get_all_records_where(expression)

        assert {record["name_label"] for record in found.values()} & {"a", "b"} == names

    @pytest.mark.parametrize("expression", ["", "field", 'field "x"', "true true", "(true", '"a"="b', "and", "a=b"])
    def test_what_does_not_follow_the_grammar_is_invalid(self, client, expression):
        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.get_all_records_where(expression)

        assert details(error)[:2] == ["INVALID_VALUE", expression]

    def test_a_column_that_does_not_exist_is_an_internal_error_unless_there_are_no_rows(self, client):
        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.get_all_records_where('field "name_label"="x"')

        assert details(error)[0] == "INTERNAL_ERROR"
        assert client.api.Bond.get_all_records_where('field "nothing"="x"') == {}

    def test_a_long_expression_is_no_trouble(self, client):
        assert client.api.VM.get_all_records_where(" and ".join(["true"] * 20_000))

    def test_deep_nesting_is_refused(self, client):
        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.get_all_records_where("(" * 5000 + "true" + ")" * 5000)

        assert details(error)[0] == "INVALID_VALUE"


BILLION_LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]><methodCall><methodName>&j;</methodName></methodCall>"
)


class TestBadInput:
    @pytest.mark.parametrize(
        "body",
        [b"", b"<", b"<a/>", b"<methodCall/>", b"<methodCall><methodName>x</methodName>", BILLION_LAUGHS,
         b"<methodCall>" + b"<value><array><data>" * 10_000, b"\x00\x01\x02", b"hello",
         b"<methodCall><methodName>a</methodName><params><param><value><int>many</int></value></param></params>"
         b"</methodCall>",
         b"<methodCall><methodName>a</methodName><params><param><value><boolean>7</boolean></value></param></params>"
         b"</methodCall>"],
    )  # fmt: skip
    def test_what_is_no_call_gets_an_error_page(self, xensim, body):
        assert post(xensim.url, body)[0] == 500

    def test_text_that_is_no_utf8_is_named(self, xensim):
        body = b"<methodCall><methodName>x</methodName><params><param><value>\xff</value></param></params></methodCall>"

        assert b"Invalid UTF-8 string in parameter" in post(xensim.url, body)[1]

    def test_a_body_of_a_hundred_megabytes_is_refused_unread(self, xensim):
        with raw_connection(xensim) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 104857600\r\n\r\n" + bytes(1000))

            assert sock.recv(12) == b"HTTP/1.1 400"

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\n\r\n", b"400"),
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
            (b"BREW / HTTP/1.1\r\n\r\n", b"501"),
            (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
            (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        ],
    )
    def test_a_bad_head_is_refused(self, xensim, head, status):
        with raw_connection(xensim) as sock:
            sock.sendall(head)

            assert sock.recv(12)[9:] == status

    def test_an_upload_cut_short_fails_its_task_and_hurts_nobody(self, xensim, client):
        vdi = client.vdi()
        task = client.api.task.create("upload", "")
        target = f"/import_raw_vdi?vdi={vdi}&session_id={client.session._session}&task_id={task}"
        with raw_connection(xensim) as sock:
            sock.sendall(f"PUT {target} HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n".encode() + b"only this")

        assert client.finished(task)["status"] == "failure"
        assert client.api.VDI.get_current_operations(vdi) == {}

    def test_a_client_that_leaves_in_the_middle_hurts_nobody(self, xensim, client):
        for piece in (b"", b"POST", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf"):
            with raw_connection(xensim) as sock:
                sock.sendall(piece)

        assert client.api.host.get_all()


def raw_connection(simulator):
    address = urllib.parse.urlsplit(simulator.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


class TestTransports:
    def test_a_connection_is_kept_for_the_next_call(self, xensim):
        address = urllib.parse.urlsplit(xensim.url)
        connection = http.client.HTTPConnection(address.hostname, address.port)
        body = xmlrpc.client.dumps((), "system.listMethods")
        connection.request("POST", "/", body)
        connection.getresponse().read()
        sock = connection.sock

        connection.request("POST", "/", body)
        connection.getresponse().read()

        assert connection.sock is sock
        connection.close()

    def test_https_is_served_with_a_certificate_that_can_be_verified(self):
        simulator = Simulator()
        simulator.start(tls=True)
        with simulator:
            context = ssl.create_default_context(cafile=simulator.certificate)
            body = xmlrpc.client.dumps(("root", "xensim"), "session.login_with_password").encode()

            with urllib.request.urlopen(urllib.request.Request(simulator.url, body), context=context) as reply:
                assert b"OpaqueRef" in reply.read()

    def test_the_unix_socket_trusts_whoever_reaches_it(self, tmp_path):
        simulator = Simulator()
        simulator.start(str(tmp_path / "xapi"))
        with simulator:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(tmp_path / "xapi"))
            body = xmlrpc.client.dumps(("root", "whatever"), "session.login_with_password").encode()
            sock.sendall(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

            assert b"OpaqueRef" in sock.makefile("rb").read()
            sock.close()


class TestFaults:
    def test_the_nth_call_fails_and_only_that(self, xensim, client):
        xensim.control.fail("VM.pause", nth=2, error=["INTERNAL_ERROR", "planted"])
        vms = [client.started(str(number)) for number in range(3)]

        client.api.VM.pause(vms[0])
        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.pause(vms[1])
        client.api.VM.pause(vms[2])

        assert details(error) == ["INTERNAL_ERROR", "planted"]
        assert client.api.VM.get_power_state(vms[1]) == "Running"

    def test_a_call_may_fail_after_its_effect(self, xensim, client):
        xensim.control.fail("VM.create", error=["INTERNAL_ERROR", "too late"], after=True)

        with pytest.raises(XenAPI.Failure):
            client.vm("made all the same")

        assert client.api.VM.get_by_name_label("made all the same")

    def test_a_reply_may_get_lost_after_the_effect(self, xensim, client):
        xensim.control.drop_reply("VM.create")

        with pytest.raises((http.client.HTTPException, OSError)):
            xml_call(xensim.url, "VM.create", client.session._session, record_of_a_vm())

        assert client.api.VM.get_by_name_label("lost")

    def test_faults_are_planted_over_http_too(self, xensim, client):
        from nova_lite.xensim import RemoteControl

        control = RemoteControl(xensim.url, xensim.username, xensim.password)
        control.fail("host.get_all", error=["HOST_BROKEN"])

        with pytest.raises(XenAPI.Failure):
            client.api.host.get_all()
        assert control.counts()["host.get_all"] == 1
        with pytest.raises(ValueError, match="unknown behaviour"):
            control.guest("", ["dances"])

    def test_the_control_path_needs_the_password(self, xensim):
        assert post(xensim.url, b"{}", path="/_xensim/calls")[0] == 401

    def test_calls_are_counted_by_name(self, xensim, client):
        xensim.control.reset_calls()

        client.api.host.get_all()
        client.api.host.get_all()

        assert xensim.control.counts() == {"host.get_all": 2}
        assert xensim.control.calls() == ["host.get_all", "host.get_all"]

    def test_a_restarted_toolstack_has_new_sessions_and_the_same_vms(self, xensim, client):
        vm = client.started()
        domid = client.api.VM.get_domid(vm)

        xensim.control.restart_toolstack()

        with logged_in(xensim) as session:
            assert session.xenapi.VM.get_domid(vm) == domid
            assert session.xenapi.task.get_all() == []


def record_of_a_vm():
    from tests.unit.xensim.conftest import Client

    made = {}
    recorder = type("Api", (), {"VM": type("VM", (), {"create": staticmethod(made.update)})})
    Client(type("Session", (), {"xenapi": recorder})()).vm("lost")
    return made
