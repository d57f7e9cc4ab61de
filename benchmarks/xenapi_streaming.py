"""Streaming images to a simulated host, beside a bare socket that sends the same bytes to the same handler.

    python -m benchmarks.xenapi_streaming [--size-mb 1024] [--rounds 5] [--tls] [--concurrency threading|eventlet]

The images come from the local store through the image port, as in a service. Two cases are measured:

verified: nobody touched the image's file since the store hashed it as it came in, which is the ordinary case. It is not
hashed again; over http the kernel sends it from its cache.

hashed on the way: the file was touched (here its time is set before each round, and two seconds pass, as a file that
changed just now is not even read twice). It is hashed beside the sending. One SHA-256 cannot be computed by two
processors, so that its speed, shown as "checksum alone", bounds this case whatever else the driver does. An image of
another service (Glance, a web server) is hashed too, where it gives a checksum; there its network is the bound.

The driver does all that a build does for such a disk: reads the metadata, makes the disk and a task, sends, waits for
the task. The bare socket is a process of its own that reads the file and sends it, or has the kernel send it; the disk
is there already. The simulator, which takes the bytes and writes a sparse file, runs in a process of its own too. All
of them share the machine's processors and the page cache, which holds the image. The rounds take turns, and the best of
each is shown, since what else runs on the machine only adds; on a busy one the processor time that the sender spends is
the better measure. Memory is what the driver's process holds at most, beyond
what it held before the first image.

On eventlet a greenthread meanwhile asks for a sleep of a few milliseconds again and again; shown is the longest it got,
and how much processor time the greenthreads used meanwhile at most, which does not hang on what else the machine does.
"""

import argparse
import contextlib
import hashlib
import itertools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import urllib.parse

from nova_lite import concurrency

MIB = 1024 * 1024
TARGET = 0.85
WAYS_OF_RAW = ("read", "sendfile")
SETTLED_AFTER_S = 2.1
BEAT_S = 0.005


def blocks_of_image(size_b):
    """Yield content that does not compress, quickly."""
    block = hashlib.shake_256(b"image").digest(MIB)
    for number in range(size_b // MIB):
        yield number.to_bytes(8, "big") + block[8:]


class Bench:
    """The driver, the local store with one image, and a simulated host."""

    def __init__(self, directory, simulator, size_b):
        from nova_lite import conf, context, image
        from nova_lite.virt.xenapi import XenAPIDriver
        from tests.fixtures.xen_bench import Compute

        overrides = {("xenserver", "connection_url"): simulator.url,
                     ("xenserver", "connection_username"): simulator.username,
                     ("xenserver", "connection_password"): simulator.password,
                     ("xenserver", "connection_verify"): False,
                     ("image", "store_path"): str(directory / "images"),
                     (None, "state_path"): str(directory)}
        options = conf.load(prog="benchmark", config_files=[], config_dirs=[], overrides=overrides)
        self.context = context.get_admin_context()
        self.images = image.load(options)
        self.image_id = self.images.create(self.context, {"disk_format": "raw", "container_format": "bare"},
                                           blocks_of_image(size_b))["id"]
        self.path, = (directory / "images").glob("*.data")
        self.size_b = size_b
        self.driver = XenAPIDriver(Compute(), conf=options, image_api=self.images)
        self.driver.init_host("compute-1")
        self.disks = self.driver.vmops.disks
        self._numbers = itertools.count()

    def stream(self):
        """Make a disk from the image the way a build does; returns seconds, and those of processor time."""
        from nova_lite.virt.xenapi.plan import Undo

        start, cpu_s = time.perf_counter(), time.process_time()
        meta = self.images.show(self.context, self.image_id)
        meta["properties"]["cache_in_nova"] = "false"
        disk = self.disks.iso_from_image(self.context, {"uuid": f"instance-{next(self._numbers)}"},
                                         {**meta, "disk_format": "iso"}, Undo("stream"))
        taken = time.perf_counter() - start, time.process_time() - cpu_s
        self.disks.destroy_vdi(disk.vdi_ref)
        return taken

    def stream_touched(self):
        """Like stream, of a file that was touched."""
        os.utime(self.path)
        time.sleep(SETTLED_AFTER_S)
        return self.stream()

    def send_raw(self, way):
        """Have a process of its own send the same file to a disk; returns the same."""
        from nova_lite.virt.xenapi.plan import Undo

        undo = Undo("send")
        session = self.driver.vmops._session
        vdi_ref = self.disks.blank("bare", self.size_b, {}, undo)
        query = urllib.parse.urlencode({"session_id": session.http_handle(), "vdi": vdi_ref, "format": "raw"})
        printed = subprocess.run([sys.executable, "-m", "benchmarks.raw_disk", f"{session.url}/import_raw_vdi?{query}",
                                  str(self.path), way], check=True, capture_output=True, text=True).stdout
        undo.run()
        return tuple(map(float, printed.split()))

    def checksum_alone(self):
        """Compute the checksum of the file; returns the same."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(MIB))
        start, cpu_s = time.perf_counter(), time.process_time()
        with open(self.path, "rb", buffering=0) as image:
            while size_b := image.readinto(buffer):
                digest.update(buffer[:size_b])
        return time.perf_counter() - start, time.process_time() - cpu_s

    def close(self):
        self.driver.cleanup_host("compute-1")


class Heartbeat:
    """A worker that sleeps for BEAT_S again and again; knows the longest that took, and how busy its thread was."""

    def __init__(self):
        self.longest_s = self.busiest_s = 0.0
        self._stopped = False
        self._worker = concurrency.spawn(self._beat)

    def stop(self):
        self._stopped = True
        self._worker.wait()

    def _beat(self):
        while not self._stopped:
            start, cpu_s = time.perf_counter(), time.thread_time()
            concurrency.sleep(BEAT_S)
            self.longest_s = max(self.longest_s, time.perf_counter() - start)
            self.busiest_s = max(self.busiest_s, time.thread_time() - cpu_s)


def best_of(rounds, acts):
    """Run all the acts in each round; returns {name: the least (seconds, processor seconds)}."""
    best = {}
    for _ in range(rounds):
        for name, act in acts.items():
            best[name] = tuple(map(min, act(), best.get(name, (float("inf"), float("inf")))))
    return best


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(best, size_mb, memory_mb, heartbeat):
    bare_s, _ = best["bare socket, read"]
    slower_s = max(bare_s, best["checksum alone"][0])
    comments = {
        "driver, verified": lambda s: f"{bare_s / s:.0%} of the bare socket (at least {TARGET:.0%})",
        "driver, hashed on the way": lambda s: f"{bare_s / s:.0%} of the bare socket, {slower_s / s:.0%} of what is "
                                               "slower, socket or checksum",
    }
    for name, (seconds, cpu_s) in best.items():
        print(f"{name:26}{size_mb / seconds:8.0f} MB/s {1024 * cpu_s / size_mb:6.2f} s/GB of processor time  "
              f"{comments.get(name, lambda _: '')(seconds)}")
    print(f"{'memory while streaming':26}{memory_mb:8.1f} MB more than before")
    if heartbeat is not None:
        print(f"{'a greenthread waited':26}{heartbeat.longest_s * 1000:8.1f} ms at most, "
              f"for at most {heartbeat.busiest_s * 1000:.1f} ms of processor time of others")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--concurrency", choices=("threading", "eventlet"), default="threading")
    options = parser.parse_args()
    concurrency.setup(options.concurrency)
    from tests.fixtures.xensim import simulator_process

    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arguments = ["--tls"] if options.tls else []
        simulator = stack.enter_context(simulator_process(directory, arguments=arguments))
        bench = stack.enter_context(contextlib.closing(Bench(directory, simulator, options.size_mb * MIB)))
        ways = WAYS_OF_RAW[:1] if options.tls else WAYS_OF_RAW
        raw = {f"bare socket, {way}": lambda way=way: bench.send_raw(way) for way in ways}
        best_of(1, raw)  # the page cache is warm from here on
        heartbeat = Heartbeat() if options.concurrency == "eventlet" else None
        before_mb = peak_mb()
        best = best_of(options.rounds, {**raw, "driver, verified": bench.stream,
                                        "driver, hashed on the way": bench.stream_touched})
        memory_mb = peak_mb() - before_mb
        if heartbeat is not None:
            heartbeat.stop()
        best |= best_of(options.rounds, {"checksum alone": bench.checksum_alone})
        report(best, options.size_mb, memory_mb, heartbeat)


if __name__ == "__main__":
    main()
