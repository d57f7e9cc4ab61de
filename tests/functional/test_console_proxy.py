"""The console proxy, on a running tree: from a browser's WebSocket to the screen that a simulated XenServer serves."""

import socket
import threading
import urllib.error
import urllib.request

import pytest

from nova_lite.console.proxy import ConsoleProxy
from tests.fixtures.ports import free_port
from tests.fixtures.tree import RunningTree

BINARY, CLOSE = 2, 8


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    directory = tmp_path_factory.mktemp("console-tree")
    (directory / "web").mkdir()
    (directory / "web" / "vnc_auto.html").write_text("a viewer")
    overrides = {(None, "novncproxy_port"): free_port(), (None, "novncproxy_host"): "127.0.0.1",
                 ("console", "web"): str(directory / "web"), ("console", "allowed_origins"): ["portal.example"]}
    with RunningTree(directory, overrides=overrides).start() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(tree):
    with ConsoleProxy(tree.api.services) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def machine(tree):
    return tree.boot()


@pytest.fixture
def token(tree, machine):
    url = tree.api.compute_api.get_vnc_console(tree.context(), tree.read(machine), "novnc")["url"]
    return url.partition("token=")[2]


class Browser:
    """A WebSocket to the proxy, with a path and headers as a browser sends them."""

    def __init__(self, proxy, path, **headers):
        address = proxy.server_address[:2]
        self.socket = socket.create_connection(address, timeout=60)
        lines = [f"GET {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: binary",
                 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *(f"{name}: {text}" for name, text in headers.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.stream = self.socket.makefile("rb")
        self.status = self.stream.readline().split()[1:2]
        while self.stream.readline() not in (b"\r\n", b""):
            pass

    def frame(self):
        """Return (opcode, content) of the next frame."""
        opcode, length = self.stream.read(2)
        if length == 126:
            length = int.from_bytes(self.stream.read(2), "big")
        return opcode & 0x0F, self.stream.read(length)

    def read(self):
        opcode, content = self.frame()
        assert opcode == BINARY, (opcode, content)
        return content

    def send(self, content):
        """Send one short message, masked by zeros."""
        self.socket.sendall(bytes([0x80 | BINARY, 0x80 | len(content)]) + bytes(4) + content)

    @property
    def close_code(self):
        opcode, content = self.frame()
        assert opcode == CLOSE, (opcode, content)
        return int.from_bytes(content[:2], "big")


def test_a_token_opens_the_screen_of_a_machine_in_another_cell(proxy, token):
    browser = Browser(proxy, f"/websockify?token={token}")
    assert browser.read() == b"RFB 003.008\n"
    browser.send(b"RFB 003.008\n")
    assert browser.read()[0] >= 1  # how many kinds of login there are


@pytest.mark.parametrize("path", ["/websockify?token=none", "/websockify", "/?token=", "/websockify?path=token%3Dnone"])
def test_what_is_no_token_opens_nothing(proxy, path):
    assert Browser(proxy, path).close_code == 1008


def test_a_token_of_a_page_that_a_viewer_passes_on_is_found(proxy, token):
    assert Browser(proxy, f"/websockify?path=websockify%3Ftoken%3D{token}").read() == b"RFB 003.008\n"


def test_other_sites_may_open_consoles_only_where_they_are_allowed(proxy, token):
    path = f"/websockify?token={token}"

    assert Browser(proxy, path, Origin="http://evil.example").close_code == 1008
    assert Browser(proxy, path, Origin="https://portal.example").read() == b"RFB 003.008\n"
    assert Browser(proxy, path, Origin=f"http://127.0.0.1:{proxy.server_address[1]}").read() == b"RFB 003.008\n"


def test_neither_token_nor_session_is_logged(proxy, token, caplog):
    caplog.set_level("DEBUG")
    Browser(proxy, f"/websockify?token={token}").read()

    assert "Console of instance" in caplog.text
    assert token not in "\n".join(record.getMessage() for record in caplog.records if "proxy" in record.name)
    assert "session_id" not in "\n".join(record.getMessage() for record in caplog.records if "proxy" in record.name)


def test_the_viewers_files_are_served_and_nothing_else(proxy):
    root = f"http://127.0.0.1:{proxy.server_address[1]}"

    with urllib.request.urlopen(f"{root}/vnc_auto.html", timeout=60) as answer:
        assert answer.read() == b"a viewer"
    for path in ("/", "/../compute.log", "/..%2fcompute.log", "/nothing"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(root + path, timeout=60)
        assert refused.value.code in (403, 404)


def test_the_token_of_a_deleted_machine_opens_nothing(tree, proxy):
    machine = tree.boot()
    url = tree.api.compute_api.get_vnc_console(tree.context(), tree.read(machine), "novnc")["url"]
    token = url.partition("token=")[2]
    tree.api.compute_api.delete(tree.context(), tree.read(machine))
    tree.until(lambda: tree.power_state(machine) is None, "the machine stayed")

    assert Browser(proxy, f"/websockify?token={token}").close_code == 1008


def test_a_cookie_opens_as_a_path_does(proxy, token):
    assert Browser(proxy, "/websockify", Cookie=f"theme=dark; token={token}").read() == b"RFB 003.008\n"


def test_above_its_limit_the_proxy_takes_no_more(proxy, token, monkeypatch):
    full = threading.BoundedSemaphore(1)
    full.acquire()
    monkeypatch.setattr(proxy, "_places", full)

    assert Browser(proxy, f"/websockify?token={token}").status == []
