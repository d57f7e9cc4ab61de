"""Images named by an address."""

import http.server
import threading

import pytest

from nova_lite import context, exception, image
from tests.fixtures.services import load_conf

CTXT = context.RequestContext("alice", "red")


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif self.path.startswith("/there"):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            if with_body:
                self.wfile.write(b"bytes")
        else:
            self.send_error({"/secret": 403, "/broken": 500}.get(self.path, 404))

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.fixture
def images(tmp_path):
    return image.load(load_conf({("image", "store_path"): str(tmp_path)}))


def test_size_and_format_come_from_the_server_and_the_name(images, server):
    shown = images.show(CTXT, f"{server}/there/disk.vhd.tgz?x=1")

    assert (shown["status"], shown["size"], shown["name"]) == ("active", 5, "disk.vhd.tgz")
    assert (shown["disk_format"], shown["container_format"]) == ("vhd", "ovf")


def test_the_content_is_streamed(images, server):
    with images.open(CTXT, f"{server}/there") as content:
        assert content.read(2) + content.read() == b"bytes"


@pytest.mark.parametrize(("path", "error"), [
    ("/absent", exception.ImageNotFound), ("/secret", exception.ImageNotAuthorized),
    ("/broken", exception.GlanceConnectionFailed), ("/moved", exception.GlanceConnectionFailed)])
def test_what_the_server_refuses_is_one_of_our_errors(images, server, path, error):
    with pytest.raises(error):
        images.open(CTXT, server + path)


def test_a_server_that_is_not_there_is_one_of_our_errors(images):
    with pytest.raises(exception.GlanceConnectionFailed):
        images.show(CTXT, "http://127.0.0.1:9/disk.vhd")


def test_images_on_web_servers_are_read_only(images, server):
    with pytest.raises(exception.ImageUnacceptable, match="read-only"):
        images.delete(CTXT, f"{server}/there")
