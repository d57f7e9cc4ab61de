"""The rules of xenstore for those who are bound by them, and what kinds of guest make of it."""

import json
import socket
import struct

import pytest
import XenAPI

from nova_lite.xensim.visitors import NODES_LIMIT, StoreError, Visitor
from nova_lite.xensim.xenstore import XenStore
from tests.fixtures.processes import wait_until

HOME = "/local/domain/7"


@pytest.fixture
def store():
    """A store with the tree of domain 7, which may write below `data`."""
    store = XenStore(lambda path: None)
    store.put(HOME)
    store.set_permissions(HOME, ("n0", "r7"))
    store.put(f"{HOME}/name", "seven")
    store.put(f"{HOME}/data", owner=7)
    store.put("/secret", "hidden")
    return store


@pytest.fixture
def guest(store):
    return Visitor(store, 7)


def refusal(call, *arguments, **named):
    with pytest.raises(StoreError) as error:
        call(*arguments, **named)
    return error.value.name


class TestPermissions:
    def test_a_domain_reads_its_tree_and_writes_where_it_may(self, store, guest):
        guest.write("data/x", "1")

        assert guest.read("name") == "seven"
        assert store.read(f"{HOME}/data/x") == "1"
        assert guest.directory("data") == ["x"]
        assert refusal(guest.write, "name", "eight") == "EACCES"
        assert refusal(guest.read, "/secret") == "EACCES"
        assert refusal(guest.read, "data/none") == "ENOENT"
        assert refusal(guest.remove, "name") == "EACCES"

    def test_an_owner_lets_others_in_but_gives_nothing_away(self, store, guest):
        other = Visitor(store, 8)
        guest.write("data/x", "1")
        before = refusal(other.read, f"{HOME}/data/x")

        guest.set_permissions("data/x", ["n7", "b8"])
        other.write(f"{HOME}/data/x", "2")

        assert before == "EACCES"
        assert guest.read("data/x") == "2"
        assert refusal(guest.set_permissions, "data/x", ["n8"]) == "EACCES"
        assert refusal(other.set_permissions, f"{HOME}/data/x", ["b7"]) == "EACCES"
        assert refusal(guest.set_permissions, "data/x", ["z7"]) == "EINVAL"

    @pytest.mark.parametrize("path", ["", "//x", "data//x", "data/", "data/ü", "a b", "a:b", "/" + "x" * 3100])
    def test_a_path_has_its_form(self, guest, path):
        assert refusal(guest.write, path, "1") == "EINVAL"


class TestQuotas:
    def test_a_domain_has_so_many_nodes_and_gets_them_back(self, store, guest):
        free = NODES_LIMIT - store.owned[7]
        for number in range(free):
            guest.write(f"data/{number}", "")

        full = refusal(guest.write, "data/more", "")
        guest.remove("data/0")
        guest.write("data/more", "")

        assert full == "ENOSPC"
        Visitor(store, 0).write(f"{HOME}/data/unbound", "")

    def test_values_watches_and_transactions_are_counted_too(self, guest):
        for number in range(128):
            guest.watch("data", str(number))
        numbers = [guest.begin() for _ in range(10)]

        assert refusal(guest.write, "data/x", "A" * 2049) == "ENOSPC"
        assert refusal(guest.write, "data/x", "A" * 4097) == "E2BIG"
        assert refusal(guest.watch, "data", "more") == "E2BIG"
        assert refusal(guest.begin) == "ENOSPC"
        guest.end(numbers[0], commit=False)
        guest.begin()


class TestTransactions:
    def test_changes_take_place_at_once_or_not_at_all(self, store, guest):
        first, second = guest.begin(), guest.begin()
        guest.write("data/a", "1", first)
        guest.write("data/b", "1", second)
        during = guest.read("data/a", first), refusal(guest.read, "data/a"), guest.directory("data", first)

        guest.end(first, commit=True)
        guest.end(second, commit=False)

        assert during == ("1", "ENOENT", ["a"])
        assert store.list(f"{HOME}/data") == ["a"]
        assert refusal(guest.read, "data/a", first) == "ENOENT"

    def test_who_read_what_changed_meanwhile_tries_again(self, guest):
        guest.write("data/a", "1")
        late, unconcerned = guest.begin(), guest.begin()
        guest.read("data/a", late)
        guest.write("data/b", "1", late)
        guest.write("data/c", "1", unconcerned)
        guest.write("data/a", "2")

        assert refusal(guest.end, late, commit=True) == "EAGAIN"
        guest.end(unconcerned, commit=True)
        assert sorted(guest.directory("data")) == ["a", "c"]

    def test_what_a_transaction_removed_is_gone_inside_it(self, guest):
        guest.write("data/a", "1")
        number = guest.begin()
        guest.remove("data/a", number)

        assert refusal(guest.read, "data/a", number) == "ENOENT"
        assert guest.directory("data", number) == []
        assert guest.read("data/a") == "1"


class TestWatches:
    def test_changes_at_and_below_a_path_are_told_and_once_at_the_beginning(self, store):
        seen = []
        guest = Visitor(store, 7, lambda path, token: seen.append((path, token)))
        guest.watch("data", "mine")
        guest.watch("@releaseDomain", "gone")

        store.put(f"{HOME}/data/x", "1")
        store.put(f"{HOME}/name", "other")
        store.remove(HOME)
        store.announce("@releaseDomain")
        guest.unwatch("data", "mine")
        store.put(f"{HOME}/data/y", "1")

        assert seen == [
            ("data", "mine"), ("@releaseDomain", "gone"), ("data/x", "mine"), ("data", "mine"),
            ("@releaseDomain", "gone"),
        ]  # fmt: skip
        assert refusal(guest.unwatch, "data", "mine") == "ENOENT"

    def test_a_connection_that_ends_is_told_nothing(self, store):
        seen = []
        guest = Visitor(store, 7, lambda path, token: seen.append(path))
        guest.watch("data", "mine")

        guest.close()
        store.put(f"{HOME}/data/x", "1")

        assert seen == ["data"]


class TestLibraries:
    """Programs in dom0 that speak xenstore's own protocol."""

    DIRECTORY, READ, GET_PERMS, WATCH, BEGIN, END, WRITE, RM, SET_PERMS, EVENT, ERROR = (
        1,
        2,
        3,
        4,
        6,
        7,
        11,
        13,
        14,
        15,
        16,
    )

    @pytest.fixture
    def connect(self, xensim, client):
        host = client.host()
        with xensim.toolstack.lock:
            path = xensim.toolstack.dom0.environment(host)["XENSTORED_PATH"]
        opened = []

        def connected():
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(60)
            sock.connect(path)
            opened.append(sock)
            stream = sock.makefile("rb")

            def ask(kind, payload, transaction=0):
                """Send, and return (type, payload) of what comes back; None only waits for what comes."""
                if payload is not None:
                    content = payload.encode()
                    sock.sendall(struct.pack("=IIII", kind, 9, transaction, len(content)) + content)
                kind, _, _, length = struct.unpack("=IIII", stream.read(16))
                return kind, stream.read(length).decode()

            return ask

        yield connected
        for sock in opened:
            sock.close()

    def test_texts_are_written_listed_and_given_away(self, connect):
        ask = connect()

        assert ask(self.WRITE, "/tool/x\0value") == (self.WRITE, "OK\0")
        assert ask(self.READ, "/tool/x\0") == (self.READ, "value")
        assert ask(self.DIRECTORY, "/tool\0") == (self.DIRECTORY, "x\0")
        assert ask(self.SET_PERMS, "/tool/x\0n0\0r5\0") == (self.SET_PERMS, "OK\0")
        assert ask(self.GET_PERMS, "/tool/x\0") == (self.GET_PERMS, "n0\0r5\0")
        assert ask(self.RM, "/tool\0") == (self.RM, "OK\0")
        assert ask(self.READ, "/tool/x\0") == (self.ERROR, "ENOENT\0")
        assert ask(self.READ, "//\0") == (self.ERROR, "EINVAL\0")
        assert ask(77, "x\0") == (self.ERROR, "ENOSYS\0")

    def test_transactions_of_two_programs_conflict(self, connect):
        first, second = connect(), connect()
        number = int(first(self.BEGIN, "\0")[1].rstrip("\0"))
        first(self.WRITE, "/tool/x\0mine", number)

        second(self.WRITE, "/tool/x\0yours")

        assert first(self.END, "T\0", number) == (self.ERROR, "EAGAIN\0")
        assert first(self.READ, "/tool/x\0") == (self.READ, "yours")

    def test_a_watch_tells_one_program_what_another_or_the_toolstack_does(self, connect, client):
        watching, writing = connect(), connect()
        vm = client.vm()
        assert watching(self.WATCH, "/local/domain\0t\0") == (self.EVENT, "/local/domain\0t\0")
        assert watching(0, None) == (self.WATCH, "OK\0")

        writing(self.WRITE, "/local/domain/0/tool\0x")
        from_program = watching(0, None)
        client.api.VM.start(vm, False, False)
        from_toolstack = watching(0, None)

        assert from_program == (self.EVENT, "/local/domain/0/tool\0t\0")
        assert from_toolstack[1].startswith("/local/domain/") and from_toolstack[0] == self.EVENT


class TestKindsOfGuest:
    def start(self, xensim, client, *words):
        vm = client.hvm()
        client.vif(vm, ipv4_allowed=["10.0.0.7"])
        xensim.control.guest(vm, list(words))
        client.api.VM.start(vm, False, False)
        return vm

    def metrics(self, client, vm):
        return client.api.VM_guest_metrics.get_record(client.api.VM.get_guest_metrics(vm))

    def ask(self, xensim, vm, name):
        xensim.control.guest_writes(vm, "data/host/q1", json.dumps({"name": name, "value": ""}))
        return xensim.control.xenstore(vm).get("data/guest/q1")

    def test_an_old_agent_reports_addresses_its_own_way_and_knows_few_requests(self, xensim, client):
        vm = self.start(xensim, client, "old-agent")

        metrics, asked = self.metrics(client, vm), self.ask(xensim, vm, "features")

        assert metrics["networks"] == {"0/ip": "10.0.0.7", "0/ipv4/0": "10.0.0.7"}
        assert metrics["PV_drivers_version"]["micro"] == "-1"
        assert not any(key.startswith("feature") for key in metrics["other"])
        assert json.loads(asked)["returncode"] == "404"

    def test_a_hostile_guest_gets_no_more_than_its_quota_and_hurts_nobody(self, xensim, client):
        vm = self.start(xensim, client, "hostile")
        nodes = xensim.control.xenstore(vm)

        with pytest.raises(ValueError, match="ENOSPC"):
            xensim.control.guest_writes(vm, "data/one/more", "x")

        assert len(nodes) < NODES_LIMIT + 100
        assert "data/big" not in nodes
        with pytest.raises(ValueError, match="EACCES"):
            xensim.control.guest_writes(vm, "name", "me")
        assert client.api.VM.get_power_state(client.started()) == "Running"

    def test_a_hanging_guest_is_given_up_and_can_be_killed(self, xensim, client):
        vm = self.start(xensim, client, "hanging")

        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.suspend(vm)

        assert error.value.details == ["VM_SUSPEND_TIMEOUT", vm, "1200"]
        assert self.ask(xensim, vm, "version") is None
        client.api.VM.hard_shutdown(vm)

    def test_a_crashing_guest_ends_as_its_vm_says(self, xensim, client):
        vm = self.start(xensim, client, "crashing")

        wait_until(lambda: client.api.VM.get_power_state(vm) == "Halted", "the guest did not crash")
