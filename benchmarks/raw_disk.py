"""A disk sent to a host over a bare socket, by a process that does nothing else: the reference for xenapi_streaming.

    python -m benchmarks.raw_disk URL FILE read|sendfile

Sends the file to the path of the URL (http or https, not verified) in blocks, or lets the kernel send it (http only),
waits until the host closes the connection, and prints the seconds that took, and those of processor time.
"""

import contextlib
import pathlib
import socket
import ssl
import sys
import time
import urllib.parse

BLOCK_B = 1024 * 1024


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


def send(url, path, way):
    """Return the seconds it takes to send the file, and those of processor time."""
    parts = urllib.parse.urlsplit(url)
    size_b = pathlib.Path(path).stat().st_size
    start, cpu_s = time.perf_counter(), time.process_time()
    with connected(parts) as bare, open(path, "rb", buffering=0) as image:
        bare.sendall(f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {size_b}\r\n\r\n".encode())
        if way == "sendfile":
            bare.sendfile(image)
        else:
            while block := image.read(BLOCK_B):
                bare.sendall(block)
        while bare.recv(65536):
            pass
    return time.perf_counter() - start, time.process_time() - cpu_s


if __name__ == "__main__":
    print(*send(*sys.argv[1:]))
