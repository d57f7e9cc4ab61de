"""TrustedFilter before a real attestation service, and the settings file that filters see."""

import http.server
import json
import os
import threading

import pytest

from nova_lite.scheduler.filters.trusted import TrustedFilter
from nova_lite.scheduler.host_manager import HostState
from nova_lite.scheduler.settings_file import SettingsFile
from nova_lite.xensim import tls
from tests.fixtures.one_cell import OneCell

TRUSTED = {"extra_specs": {"trust:trusted_host": "trusted"}}


class Attestation(http.server.ThreadingHTTPServer):
    """Says of each host what `levels` says, and keeps whom it was asked about."""

    def __init__(self, directory):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.levels = {}
        self.asked = []
        self.secrets = []
        self.certificate = tls.make_certificate(str(directory), ["127.0.0.1"])
        self.socket = tls.server_context(self.certificate).wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        hosts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["hosts"]
        self.server.asked.append(hosts)
        self.server.secrets.append(self.headers["x-auth-blob"])
        body = json.dumps({"hosts": [{"host_name": host, "trust_lvl": self.server.levels[host]}
                                     for host in hosts if host in self.server.levels]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Stay quiet."""


@pytest.fixture
def attestation(tmp_path):
    server = Attestation(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cell(tmp_path, attestation):
    options = {"server": "127.0.0.1", "port": attestation.server_port, "server_ca_file": attestation.certificate,
               "auth_blob": "blob"}
    made = OneCell(tmp_path, grouped={("trusted_computing", f"attestation_{name}"): value
                                      for name, value in options.items()})
    yield made
    made.close()


def passing(chosen_filter, flavor, *hosts):
    states = [HostState(host, host) for host in hosts]
    return [state.host for state in chosen_filter.filter_all(states, {"instance_type": flavor})]


def test_only_hosts_that_have_the_wanted_trust_pass(cell, attestation):
    attestation.levels = {"good": "trusted", "bad": "untrusted"}
    chosen_filter = TrustedFilter(cell.services)

    assert passing(chosen_filter, TRUSTED, "good", "bad", "unheard-of") == ["good"]
    assert (attestation.asked, attestation.secrets) == ([["bad", "good", "unheard-of"]], ["blob"])


def test_a_flavor_that_asks_for_no_trust_bothers_nobody(cell, attestation):
    assert passing(TrustedFilter(cell.services), {"extra_specs": {}}, "any") == ["any"]
    assert attestation.asked == []


def test_a_verdict_is_believed_for_its_time_and_then_asked_for_again(cell, attestation):
    attestation.levels = {"good": "trusted"}
    chosen_filter = TrustedFilter(cell.services)
    passing(chosen_filter, TRUSTED, "good")
    passing(chosen_filter, TRUSTED, "good")
    attestation.levels = {"good": "untrusted"}

    cell.clock.advance(61)

    assert passing(chosen_filter, TRUSTED, "good") == []
    assert len(attestation.asked) == 2


def test_without_an_answer_no_host_is_trusted(cell, attestation):
    attestation.levels = {"good": "trusted"}
    attestation.shutdown()
    attestation.server_close()

    assert passing(TrustedFilter(cell.services), TRUSTED, "good") == []


def test_the_settings_file_is_read_again_once_it_has_changed_and_kept_while_it_is_broken(tmp_path):
    path = tmp_path / "scheduler.json"
    path.write_text('{"level": 1}')
    cell = OneCell(tmp_path, scheduler_json_config_location=str(path))
    settings = SettingsFile(cell.services)
    seen = [settings.get()]

    for text in ('{"level": 2}', "{broken", "[]"):
        path.write_text(text)
        os.utime(path, ns=(0, 10 ** 9 * len(seen)))
        seen.append(settings.get())
        cell.clock.advance(301)
        seen.append(settings.get())
    cell.close()

    assert seen == [{"level": 1}, {"level": 1}, *[{"level": 2}] * 5]
