"""Streaming images to a simulated host, beside a bare socket that sends the same bytes to the same handler.

    python -m benchmarks.xenapi_streaming [--size-mb 1024] [--rounds 5] [--tls]

The driver reads the image from the image port, checks its checksum and writes it into a disk; the bare socket does
nothing but send, to the same handler, which writes the same disk. One checksum cannot be computed by two processors, so
its speed bounds the driver's whatever else it does: it is shown as well. The simulator runs in a process of its own.
Memory is what the driver's process holds at most.
"""

import argparse
import contextlib
import hashlib
import pathlib
import resource
import socket
import ssl
import tempfile
import time
import urllib.parse

from nova_lite import conf as nova_conf
from nova_lite.virt.xenapi.plan import Undo
from tests.fixtures.xen_bench import MIB, Bench, Compute, make_instance
from tests.fixtures.xensim import simulator_process

BLOCK_B = MIB
TARGET = 0.85


class FileImages:
    """An image port whose one image is a file."""

    def __init__(self, path):
        self.path = path

    def add(self, content, **meta):
        """The bench brings an image of its own, which is not used here."""

    def open(self, context, image_id):
        return open(self.path, "rb")


def write_image(path, size_b):
    """Write content that does not compress, quickly; returns its SHA-256."""
    block, digest = hashlib.shake_256(b"image").digest(BLOCK_B), hashlib.sha256()
    with open(path, "wb") as image:
        for number in range(size_b // BLOCK_B):
            block = number.to_bytes(8, "big") + block[8:]
            image.write(block)
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def driver_bench(directory, simulator, image_path):
    options = {
        "connection_url": simulator.url,
        "connection_username": simulator.username,
        "connection_password": simulator.password,
        "connection_verify": False,
        "cache_images": "none",
    }
    overrides = {("xenserver", name): value for name, value in options.items()}
    overrides[None, "state_path"] = str(directory)
    conf = nova_conf.load(prog="benchmark", config_files=[], config_dirs=[], overrides=overrides)
    bench = Bench(simulator, conf, Compute(), FileImages(image_path))
    try:
        yield bench
    finally:
        bench.close()


def stream(bench, image_meta):
    """Make a disk from the image the way a build does; returns seconds."""
    disks = bench.vmops.disks
    undo = Undo("stream")
    start = time.perf_counter()
    disk = disks.root_from_image(None, make_instance(), image_meta, "streamed", 0, undo)
    elapsed_s = time.perf_counter() - start
    disks.destroy_vdi(disk.vdi_ref)
    return elapsed_s


@contextlib.contextmanager
def connected(parts):
    """Lend a socket connected to the host of a URL, through TLS where the URL says so."""
    with socket.create_connection((parts.hostname, parts.port)) as bare:
        if parts.scheme == "http":
            yield bare
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(bare) as secure:
            yield secure


def send_bare(bench, image_path, size_b):
    """Send the same bytes to a disk over a socket; returns seconds."""
    undo = Undo("send")
    vdi_ref = bench.vmops.disks.blank("bare", size_b, {}, undo)
    parts = urllib.parse.urlsplit(bench.vmops._session.url)
    query = urllib.parse.urlencode({"session_id": bench.vmops._session.http_handle(), "vdi": vdi_ref, "format": "raw"})
    start = time.perf_counter()
    with connected(parts) as bare, open(image_path, "rb") as image:
        bare.sendall(f"PUT /import_raw_vdi?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {size_b}\r\n\r\n".encode())
        while block := image.read(BLOCK_B):
            bare.sendall(block)
        while bare.recv(65536):
            pass
    elapsed_s = time.perf_counter() - start
    undo.run()
    return elapsed_s


def checksum_alone(image_path):
    """Compute the checksum of the file; returns seconds."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK_B))
    start = time.perf_counter()
    with open(image_path, "rb", buffering=0) as image:
        while size_b := image.readinto(buffer):
            digest.update(buffer[:size_b])
    return time.perf_counter() - start


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    size_b = options.size_mb * MIB
    arguments = ["--tls"] if options.tls else []
    with tempfile.TemporaryDirectory() as name, simulator_process(name, arguments=arguments) as simulator:
        directory = pathlib.Path(name)
        image_path = directory / "image.raw"
        checksum = write_image(image_path, size_b)
        meta = {"id": "image", "size": size_b, "disk_format": "raw", "container_format": "bare",
                "os_hash_value": checksum, "properties": {}}
        with driver_bench(directory, simulator, image_path) as bench:
            send_bare(bench, image_path, size_b)  # the page cache is warm from here on
            before_mb = peak_mb()
            bare_s, streamed_s, checked_s = [], [], []
            for _ in range(options.rounds):
                bare_s.append(send_bare(bench, image_path, size_b))
                streamed_s.append(stream(bench, meta))
                checked_s.append(checksum_alone(image_path))
            # What others do on the machine only adds.
            bare, streamed, checked = min(bare_s), min(streamed_s), min(checked_s)
    print(f"{'bare socket':24} {options.size_mb / bare:8.0f} MB/s")
    print(f"{'checksum alone':24} {options.size_mb / checked:8.0f} MB/s")
    print(f"{'driver':24} {options.size_mb / streamed:8.0f} MB/s  {bare / streamed:6.0%} of the bare socket "
          f"(at least {TARGET:.0%}), {max(bare, checked) / streamed:.0%} of the slower of both")
    print(f"{'memory while streaming':24} {peak_mb() - before_mb:8.1f} MB more than before")


if __name__ == "__main__":
    main()
