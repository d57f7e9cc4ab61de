"""The simulator beside raw references of the same run: calls, events, disk import, start, memory.

Calls stand beside the standard library's threaded HTTP server that answers with the same bytes, import beside a plain
copy of the file on the same file system.

    python -m benchmarks.xensim [--seconds 3] [--vms 1000] [--hosts 64] [--image-mb 1024]
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import tempfile
import threading
import time
import urllib.parse
import xmlrpc.client

import XenAPI

from tests.fixtures.processes import Daemon, wait_until
from tests.fixtures.xensim import SimulatorProcess, simulator_process

BATCH_DELAY_MS = 50  # XenServer collects events that long before it answers
MIB = 1024 * 1024


class Client:
    """One kept-alive connection that spends as little as it can on its own side."""

    def __init__(self, url, path, body, content_type):
        address = urllib.parse.urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {content_type}\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def call(self):
        """Send the request; return the body of the reply."""
        self._socket.sendall(self._request)
        received = self._socket.recv(MIB)
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(MIB)
        head, _, rest = received.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        pieces, missing = [rest], length - len(rest)
        while missing:
            pieces.append(self._socket.recv(min(missing, MIB)))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def close(self):
        self._socket.close()


def rate(new_client, clients, seconds):
    """Return the calls per second of so many clients at once."""

    def run(client):
        for _ in range(3):
            client.call()
        barrier.wait()
        count, deadline = 0, time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            client.call()
            count += 1
        client.close()
        return count

    barrier = threading.Barrier(clients)
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        counts = list(pool.map(run, [new_client() for _ in range(clients)]))
    return sum(counts) / seconds


@contextlib.contextmanager
def raw_server(directory):
    daemon = Daemon("benchmarks.raw_http", log=directory / "raw.log", arguments=[str(directory / "replies")])
    daemon.start()
    try:
        lines = wait_until(lambda: daemon.log().splitlines(), daemon.log, interval_s=0.01)
        yield lines[0].split()[-1]
    finally:
        daemon.kill()


def requests(session, method, *arguments):
    """Return {protocol: (path, body, content type)} of one call."""
    parameters = [session, *arguments]
    xml = xmlrpc.client.dumps(tuple(parameters), method).encode()
    rpc = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    return {"XML-RPC": ("/", xml, "text/xml"), "JSON-RPC": ("/jsonrpc", rpc, "application/json")}


def compare_calls(simulator, session, vm, options, directory):
    """Print the rates of get_record and get_all_records beside the raw server's."""
    wanted = {"get_record": (vm,), "get_all_records": ()}
    calls = {name: requests(session._session, f"VM.{name}", *arguments) for name, arguments in wanted.items()}
    (directory / "replies").mkdir()
    for name, protocols in calls.items():
        for protocol, request in protocols.items():
            reply = Client(simulator.url, *request).call()
            (directory / "replies" / f"{name}.{protocol}").write_bytes(reply)
    print(f"\n{'call':34} {'bytes':>9} {'raw/s':>8} {'xensim/s':>9} {'of raw':>7}  wanted")
    with raw_server(directory) as raw_url:
        for name, clients, least in (("get_record", 1, 60), ("get_record", 8, 60), ("get_all_records", 1, 50)):
            for protocol, request in calls[name].items():
                raw, own = rates_in_turn(
                    (raw_url, f"/{name}.{protocol}", *request[1:]), (simulator.url, *request), clients, options.seconds
                )
                size = (directory / "replies" / f"{name}.{protocol}").stat().st_size
                label = f"{name} {protocol}, {clients} client{'s' if clients > 1 else ''}"
                print(
                    f"{label:34} {size:9} {raw:8.0f} {own:9.0f} {100 * own / raw:6.0f} %  {least} %",
                    flush=True,
                )


def rates_in_turn(raw, own, clients, seconds, turns=3):
    """Return both rates, measured in turn, so that what else the machine does meets both."""
    rates = [
        (rate(lambda: Client(*raw), clients, seconds / turns), rate(lambda: Client(*own), clients, seconds / turns))
        for _ in range(turns)
    ]
    return [statistics.median(each) for each in zip(*rates, strict=True)]


def measure_events(simulator, vms, rounds=40):
    """Print how long after a change a waiter that watches every VM by reference has its event."""
    watcher, changer = logged_in(simulator), logged_in(simulator)
    classes = [f"VM/{ref}" for ref in vms]
    token = watcher.xenapi_request("event.from", (classes, "", 0.0))["token"]
    delays = []
    for number in range(rounds):
        woken = []

        def wait(since=token, woken=woken):
            batch = watcher.xenapi_request("event.from", (classes, since, 30.0))
            woken.append((time.perf_counter(), batch))

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.1)  # the waiter is to be waiting
        changed = time.perf_counter()
        changer.xenapi.VM.set_name_description(vms[number], f"{time.time()}")
        waiter.join()
        at, batch = woken[0]
        token = batch["token"]
        delays.append((at - changed) * 1000 - BATCH_DELAY_MS)
    delays.sort()
    print(
        f"\nevent.from, {len(vms)} VMs watched: {statistics.median(delays):.1f} ms after the batching delay "
        f"(p95 {delays[int(rounds * 0.95)]:.1f})  wanted 20 ms"
    )


def measure_import(simulator, session, options, directory):
    """Print the speed of an import of random data beside a copy, and what memory it took."""
    size = options.image_mb * MIB
    source = directory / "source.img"
    with source.open("wb") as file:
        for _ in range(options.image_mb):
            file.write(os.urandom(MIB))
    copies, imports = [], []
    before = simulator.resident_mb()
    for number in range(3):
        copies.append(timed(lambda: shutil.copyfile(source, directory / "copy.img")))
        (directory / "copy.img").unlink()
        vdi = session.xenapi.VDI.create(
            {
                "name_label": f"import {number}", "name_description": "", "SR": default_sr(session),
                "virtual_size": str(size), "type": "user", "sharable": False, "read_only": False, "other_config": {},
            }
        )  # fmt: skip
        imports.append(timed(lambda vdi=vdi: put(simulator.url, session._session, vdi, source)))
        session.xenapi.VDI.destroy(vdi)
    copy, own = statistics.median(copies), statistics.median(imports)
    print(
        f"import of {options.image_mb} MB: copy {options.image_mb / copy:.0f} MB/s, "
        f"import {options.image_mb / own:.0f} MB/s, {100 * copy / own:.0f} %  wanted 60 %; "
        f"memory {before:.0f} -> {simulator.resident_mb():.0f} MB"
    )


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def put(url, session_ref, vdi, source):
    """Upload a file as qemu-img's users do: one PUT; the task is finished when the reply ends."""
    address = urllib.parse.urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as sock, source.open("rb") as file:
        head = f"PUT /import_raw_vdi?session_id={session_ref}&vdi={vdi}&format=raw HTTP/1.1\r\nHost: x\r\n"
        sock.sendall(f"{head}Content-Length: {source.stat().st_size}\r\n\r\n".encode())
        sock.sendfile(file)
        while sock.recv(65536):
            pass


def logged_in(simulator):
    session = XenAPI.Session(simulator.url)
    session.login_with_password(simulator.username, simulator.password)
    return session


def default_sr(session):
    return session.xenapi.pool.get_default_SR(session.xenapi.pool.get_all()[0])


def populate(session, count):
    """Make so many VMs with a disk and an interface each; return their references."""
    template = session.xenapi.VM.get_by_name_label("Other install media")[0]
    network = session.xenapi.network.get_by_name_label("Pool-wide network associated with eth0")[0]
    host = session.xenapi.host.get_all()[0]
    place = {"server": "nas", "serverpath": "/"}
    sr = session.xenapi.SR.create(host, place, "0", "shared", "", "nfs", "user", True, {})
    vms = []
    plain = {"other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}}
    for number in range(count):
        vm = session.xenapi.VM.clone(template, f"vm-{number}")
        session.xenapi.VM.provision(vm)
        vdi = session.xenapi.VDI.create(
            {
                "name_label": f"vm-{number}", "name_description": "", "SR": sr, "virtual_size": str(8 * 1024 * MIB),
                "type": "user", "sharable": False, "read_only": False, "other_config": {},
            }
        )  # fmt: skip
        session.xenapi.VBD.create(
            {
                "VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk", "empty": False,
                **plain,
            }
        )  # fmt: skip
        session.xenapi.VIF.create({"VM": vm, "network": network, "device": "0", "MAC": "", "MTU": "1500", **plain})
        vms.append(vm)
    return vms


def measure_start(directory, rounds=5):
    """Print the time from the start of a fresh process to its first answered call."""

    def first_answer(number):
        process = SimulatorProcess(directory / f"start-{number}")
        (directory / f"start-{number}").mkdir()
        start = time.perf_counter()
        process.start()
        logged_in(process)
        seconds = time.perf_counter() - start
        process.kill()
        return seconds

    first_answer("warm")
    seconds = statistics.median(first_answer(number) for number in range(rounds))
    print(f"start to first answered call: {seconds:.2f} s  wanted 0.7 s")


def measure_idle(directory, options, seconds=10):
    """Print what a big pool at rest costs, after everything in it was made through the API."""
    with simulator_process(directory, hosts=options.hosts, name="big") as simulator:
        session = logged_in(simulator)
        start = time.perf_counter()
        vms = populate(session, options.vms)
        made = time.perf_counter() - start
        for vm in vms:
            session.xenapi.VM.start(vm, False, True)
        started = time.perf_counter() - start - made
        before = simulator.cpu_seconds()
        time.sleep(seconds)
        share = 100 * (simulator.cpu_seconds() - before) / seconds
        print(
            f"\n{options.hosts} hosts, {options.vms} running VMs: {simulator.resident_mb():.0f} MB  wanted 300 MB, "
            f"{share:.1f} % CPU idle; {made:.0f} s to make, {started:.0f} s to start"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of calls, for each figure")
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--image-mb", type=int, default=1024)
    parser.add_argument("--only", choices=("calls", "events", "import", "start", "idle"))
    options = parser.parse_args()

    def wants(part):
        return options.only in (None, part)

    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        if wants("start"):
            measure_start(directory)
        if wants("calls") or wants("events"):
            with simulator_process(directory) as simulator:
                session = logged_in(simulator)
                vms = populate(session, options.vms)
                if wants("calls"):
                    compare_calls(simulator, session, vms[0], options, directory)
                if wants("events"):
                    measure_events(simulator, vms)
        if wants("import"):
            with simulator_process(directory, name="disks") as simulator:
                measure_import(simulator, logged_in(simulator), options, directory)
        if wants("idle"):
            measure_idle(directory, options)


if __name__ == "__main__":
    main()
