"""What no client should send: an error of XenAPI or of HTTP, nothing changed, memory bounded, the server alive."""

import contextlib
import json
import socket
import urllib.parse

import pytest

from nova_lite.xensim import http
from tests.fixtures.xen_invariants import Snapshot
from tests.fixtures.xensim import logged_in
from tests.fixtures.xensim import xensim as xensim_fixture

xensim = xensim_fixture
MIB = 1024 * 1024
GROWTH_LIMIT_MB = 60  # hundreds of megabytes are sent
HEAD = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"


def xml_call(method, *values):
    parameters = "".join(f"<param>{value}</param>" for value in values)
    return f"<methodCall><methodName>{method}</methodName><params>{parameters}</params></methodCall>".encode()


def json_call(method, *values, **more):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": values, **more}).encode()


@contextlib.contextmanager
def connection(pool):
    address = urllib.parse.urlsplit(pool.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as sock:
        yield sock


def answer(pool, path, body):
    """Send one request and return all that comes back until the server, or we, end the connection."""
    with connection(pool) as sock:
        sock.sendall(HEAD.format(path=path, length=len(body)).encode().replace(b"Host", b"Connection: close\r\nHost"))
        with contextlib.suppress(OSError):  # what is refused unread ends while we are sending
            sock.sendall(body)
        received = b""
        with contextlib.suppress(OSError):
            while piece := sock.recv(65536):
                received += piece
        return received


SESSION = "<value>{session}</value>"
CASES = {
    "not XML": ("/", b"hello", b" 500 "),
    "billion laughs": (
        "/",
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><methodCall><methodName>&b;</methodName>'
        b"</methodCall>",
        b" 500 ",
    ),
    "deep XML": ("/", b"<methodCall>" + b"<value><array><data>" * 9000, b" 500 "),
    "not JSON": ("/jsonrpc", b"{", b" 500 "),
    "deep JSON": ("/jsonrpc", b"[" * 100_000, b" 500 "),
    "an endless number": ("/jsonrpc", b'{"id": ' + b"9" * 100_000 + b"}", b" 500 "),
    "JSON-RPC 3": ("/jsonrpc", json_call("host.get_all", jsonrpc="3.0"), b" 500 "),
    "no id": ("/jsonrpc", json_call("host.get_all", id=None), b" 500 "),
    "two members of one name in XML": (
        "/",
        xml_call(
            "VM.create",
            SESSION,
            "<value><struct><member><name>a</name><value>1</value></member>"
            "<member><name>a</name><value>2</value></member></struct></value>",
        ),
        b"INTERNAL_ERROR",
    ),
    "two members of one name in JSON": (
        "/jsonrpc",
        b'{"jsonrpc": "2.0", "id": 1, "method": "VM.create", "params": ["{session}", {"a": "1", "a": "2"}]}',
        b"INTERNAL_ERROR",
    ),
    "too few arguments": ("/", xml_call("VM.start", SESSION), b"MESSAGE_PARAMETER_COUNT_MISMATCH"),
    "too many arguments": ("/jsonrpc", json_call("host.get_all", "{session}", 1), b"MESSAGE_PARAMETER_COUNT_MISMATCH"),
    "a number for a name": ("/jsonrpc", json_call("VM.set_name_label", "{session}", "{vm}", 7), b"INTERNAL_ERROR"),
    "text for a boolean": ("/jsonrpc", json_call("VM.start", "{session}", "{vm}", "false", "false"), b"INTERNAL_ERROR"),
    "a list for a reference": ("/jsonrpc", json_call("VM.get_record", "{session}", ["{vm}"]), b"INTERNAL_ERROR"),
    "no number for a time": ("/", xml_call("event.from", SESSION, "<value><array><data/></array></value>", "<value/>",
                                           "<value><double>nan</double></value>"), b"INTERNAL_ERROR"),
    "a dead reference": ("/jsonrpc", json_call("VM.destroy", "{session}", "OpaqueRef:dead"), b"HANDLE_INVALID"),
    "a reference of another class": ("/jsonrpc", json_call("VDI.destroy", "{session}", "{vm}"), b"HANDLE_INVALID"),
    "a forged session": ("/jsonrpc", json_call("VM.destroy", "OpaqueRef:forged", "{vm}"), b"SESSION_INVALID"),
    "a session that is no text": ("/jsonrpc", json_call("VM.destroy", {"a": 1}, "{vm}"), b"INTERNAL_ERROR"),
    "an unknown call": ("/jsonrpc", json_call("VM.levitate", "{session}", "{vm}"), b"MESSAGE_METHOD_UNKNOWN"),
    "no UTF-8": ("/", xml_call("VM.get_by_name_label", SESSION, "<value>{name}</value>").replace(b"{name}", b"\xff"),
                 b"INVALID_VALUE"),
    "100 MB": ("/", bytes(100 * MIB), b" 400 "),
}  # fmt: skip


@pytest.fixture(scope="module")
def before(pool):
    """What the pool was before anything bad was sent: records, and the memory of the process."""
    with logged_in(pool) as session:
        return Snapshot(session).records, pool.resident_mb()


@pytest.fixture
def unchanged(pool, before):
    yield
    with logged_in(pool) as session:
        assert Snapshot(session).records == before[0]
    assert pool.resident_mb() - before[1] < GROWTH_LIMIT_MB
    assert not pool.tracebacks()


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", CASES)
def test_bad_requests_are_refused_and_change_nothing(pool, client, name):
    path, body, wanted = CASES[name]
    vm = client.api.VM.get_all()[0]

    body = body.replace(b"{session}", client.session._session.encode()).replace(b"{vm}", vm.encode())

    assert wanted in answer(pool, path, body)


@pytest.mark.usefixtures("unchanged")
def test_an_expired_session_is_of_no_use(pool):
    with logged_in(pool) as session:
        expired = session._session

    assert b"SESSION_INVALID" in answer(pool, "/jsonrpc", json_call("VM.get_all", expired))


@pytest.mark.usefixtures("unchanged")
def test_clients_that_say_nothing_more_keep_nobody_from_working(pool, client):
    with contextlib.ExitStack() as stack:
        for number in range(100):
            sock = stack.enter_context(connection(pool))
            sock.sendall([b"", b"POST", HEAD.format(path="/", length=1000).encode() + b"<methodCall>"][number % 3])

        assert client.api.host.get_all()


def test_a_request_that_stays_unfinished_is_given_up(xensim_with_short_patience):
    with connection(xensim_with_short_patience) as sock:
        sock.sendall(HEAD.format(path="/", length=1000).encode() + b"<methodCall>")

        assert b" 408 " in sock.recv(65536)


def test_more_connections_than_the_limit_are_told_so(xensim, monkeypatch):
    monkeypatch.setattr(http, "CONNECTION_LIMIT", 2)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(connection(xensim))
            body = xml_call("system.listMethods")
            sock.sendall(HEAD.format(path="/", length=len(body)).encode() + body)
            assert sock.recv(1)  # it is served, and kept

        with connection(xensim) as one_more:
            assert b" 503 " in one_more.recv(65536)


@pytest.fixture
def xensim_with_short_patience(xensim, monkeypatch):
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.05)
    return xensim


@pytest.mark.parametrize("size_mib", [1, 20])
def test_an_upload_that_is_cut_short_fails_its_task_and_leaves_a_sound_disk(pool, client, size_mib):
    vdi, task = client.vdi(size_mib=24), client.api.task.create("upload", "")
    query = f"vdi={vdi}&session_id={client.session._session}&task_id={task}"
    with connection(pool) as sock:
        head = HEAD.format(path=f"/import_raw_vdi?{query}", length=24 * MIB).replace("POST", "PUT")
        sock.sendall(head.encode() + b"x" * (size_mib * MIB - 1))

    assert client.finished(task)["status"] == "failure"
    Snapshot(client.session).check(pool.arguments[pool.arguments.index("--state") + 1])
    client.api.VDI.destroy(vdi)
    client.api.task.destroy(task)
