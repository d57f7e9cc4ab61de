"""Figures and consoles over HTTP."""

import json
import socket
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
from xml.etree import ElementTree

import pytest
import XenAPI


def get(xensim, client, path, **query):
    query["session_id"] = client.session._session
    with urllib.request.urlopen(f"{xensim.url}{path}?{urllib.parse.urlencode(query)}") as reply:
        return reply.read()


class TestFigures:
    def test_updates_list_running_vms_newest_row_first(self, xensim, client):
        vm = client.started()
        uuid = client.api.VM.get_uuid(vm)

        body = json.loads(get(xensim, client, "/rrd_updates", start=int(time.time()) - 60, json="true", cf="AVERAGE"))

        assert f"AVERAGE:vm:{uuid}:cpu0" in body["meta"]["legend"]
        assert body["meta"]["step"] == 5
        assert body["meta"]["columns"] == len(body["meta"]["legend"]) == len(body["data"][0]["values"])
        times = [row["t"] for row in body["data"]]
        assert times == sorted(times, reverse=True)

    def test_updates_come_as_xml_with_the_hosts_figures_on_request(self, xensim, client):
        tree = ElementTree.fromstring(get(xensim, client, "/rrd_updates", start="-60", host="true", cf="MAX"))

        entries = [entry.text for entry in tree.iter("entry")]
        assert any(entry.endswith(":memory_total_kib") for entry in entries)
        assert len(tree.find("data/row").findall("v")) == len(entries) == int(tree.findtext("meta/columns"))

    @pytest.mark.parametrize(("age_s", "step"), [(300, 5), (3600, 60), (86400, 3600), (30 * 86400, 86400)])
    def test_older_figures_are_coarser(self, xensim, client, age_s, step):
        body = json.loads(get(xensim, client, "/rrd_updates", start=int(time.time()) - age_s, json="true"))

        assert body["meta"]["step"] == step

    def test_a_whole_archive_is_a_round_robin_database(self, xensim, client):
        uuid = client.api.VM.get_uuid(client.started())

        tree = ElementTree.fromstring(get(xensim, client, "/vm_rrd", uuid=uuid))

        assert tree.findtext("version") == "0003"
        assert "cpu0" in [name.text.strip() for name in tree.findall("ds/name")]

    def test_a_single_figure_is_asked_for_by_name(self, client):
        vm = client.started(memory_mib=256)

        assert client.api.VM.query_data_source(vm, "memory") == 256 * 1024 * 1024
        assert 0 <= client.api.VM.query_data_source(vm, "cpu0") <= 1
        with pytest.raises(XenAPI.Failure):
            client.api.VM.query_data_source(vm, "happiness")

    def test_figures_need_credentials(self, xensim):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{xensim.url}/rrd_updates?start=0")

        assert error.value.code == 401
        assert error.value.headers["WWW-Authenticate"].startswith("Basic realm=")


class TestConsoles:
    def connect(self, xensim, client, vm):
        address = urllib.parse.urlsplit(xensim.url)
        sock = socket.create_connection((address.hostname, address.port), timeout=10)
        sock.sendall(f"CONNECT /console?ref={vm}&session_id={client.session._session} HTTP/1.0\r\n\r\n".encode())
        stream = sock.makefile("rwb")
        status = stream.readline()
        while stream.readline() not in (b"\r\n", b""):
            pass
        return sock, stream, status

    def test_a_display_speaks_rfb(self, xensim, client):
        vm = client.hvm("screen")
        client.api.VM.start(vm, False, False)
        sock, stream, status = self.connect(xensim, client, vm)

        assert b"200" in status
        assert stream.read(12) == b"RFB 003.008\n"
        stream.write(b"RFB 003.008\n\x01\x01")
        stream.flush()
        assert stream.read(6) == b"\x01\x01" + bytes(4)
        width, height = struct.unpack(">HH", stream.read(4))
        stream.read(16)
        assert stream.read(struct.unpack(">I", stream.read(4))[0]) == b"screen"
        stream.write(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        stream.flush()
        assert struct.unpack(">BxHHHHHi", stream.read(16)) == (0, 1, 0, 0, width, height, 0)
        assert len(stream.read(width * height * 4)) == width * height * 4
        sock.close()

    def test_a_display_shows_how_far_the_guest_has_come(self, xensim, client):
        """The screen is sent again, to a client that waits for a change, once the guest's agent is up."""
        vm = client.hvm("screen")
        client.vbd(vm, client.vdi())
        xensim.control.guest_timing(boot_s=0.3)
        client.api.VM.start(vm, False, False)
        sock, stream, _ = self.connect(xensim, client, vm)
        stream.read(12)
        stream.write(b"RFB 003.008\n\x01\x01")
        stream.flush()
        stream.read(6 + 4 + 16)
        stream.read(struct.unpack(">I", stream.read(4))[0])
        frames = []
        for is_incremental in (0, 1):
            stream.write(struct.pack(">BBHHHH", 3, is_incremental, 0, 0, 640, 400))
            stream.flush()
            stream.read(16)
            frames.append(stream.read(640 * 400 * 4))
        sock.close()

        assert all(any(frame) for frame in frames)
        assert frames[0] != frames[1]

    def test_a_browser_reaches_a_display_by_a_websocket(self, xensim, client):
        vm = client.hvm("screen")
        client.api.VM.start(vm, False, False)
        address = urllib.parse.urlsplit(xensim.url)
        sock = socket.create_connection((address.hostname, address.port), timeout=10)
        stream = sock.makefile("rwb")
        lines = [
            f"GET /console?ref={vm}&session_id={client.session._session} HTTP/1.1", "Host: x", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: binary", "", "",
        ]  # fmt: skip
        stream.write("\r\n".join(lines).encode())
        stream.flush()
        head = []
        while (line := stream.readline().strip()) != b"":
            head.append(line)

        def frame():
            opcode, size = stream.read(2)
            size = int.from_bytes(stream.read({126: 2, 127: 8}[size]), "big") if size > 125 else size
            return opcode & 15, stream.read(size)

        def send(opcode, content):
            mask = b"\x01\x02\x03\x04"
            masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
            stream.write(bytes([0x80 | opcode, 0x80 | len(content)]) + mask + masked)
            stream.flush()

        greeting = frame()
        send(9, b"are you there")
        pong = frame()
        send(2, b"RFB 003.008\n")
        security = frame()
        send(8, b"\x03\xe8")

        assert b"101" in head[0]
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # the example of RFC 6455
        assert (greeting, pong, security) == ((2, b"RFB 003.008\n"), (10, b"are you there"), (2, b"\x01\x01"))
        assert frame() == (8, b"\x03\xe8")
        sock.close()

    def test_a_display_ends_with_its_domain(self, xensim, client):
        vm = client.hvm()
        client.api.VM.start(vm, False, False)
        sock, stream, _ = self.connect(xensim, client, vm)
        stream.read(12)

        client.api.VM.hard_shutdown(vm)

        assert stream.read(1) == b""
        sock.close()

    def test_a_pv_guest_has_a_terminal(self, xensim, client):
        vm = client.started("shell")
        sock, stream, _ = self.connect(xensim, client, vm)

        assert stream.read(14) == b"\r\nshell login:"
        sock.close()

    def test_a_halted_vm_has_no_display(self, xensim, client):
        assert b"404" in self.connect(xensim, client, client.vm())[2]

    def test_one_session_at_a_time_where_the_pool_says_so(self, xensim, client):
        vm = client.started()
        client.api.pool.set_limit_console_sessions(client.api.pool.get_all()[0], True)
        first = self.connect(xensim, client, vm)

        second = self.connect(xensim, client, vm)

        assert b"503" in second[2]
        first[0].close()
