import hashlib
import json
import random
import socket
import ssl

import pytest

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi.file_blocks import FileBlocks
from nova_lite.virt.xenapi.images import SECTOR_B, DiskImage
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.virt.xenapi.transfer import Transfers
from nova_lite.virt.xenapi.transport import TlsPolicy
from nova_lite.xensim import Simulator
from tests.fixtures.clock import FakeClock
from tests.fixtures.xen_bench import GIB, MIB, make_network_info, vbds


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    simulator = Simulator(state_dir=str(tmp_path_factory.mktemp("tls")))
    simulator.start(tls=True)
    yield simulator
    simulator.stop()


@pytest.fixture(scope="module")
def certificate(encrypted):
    return certificate_of(encrypted)


def certificate_of(simulator):
    host, port = simulator.url.removeprefix("https://").rstrip("/").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw) as shown:
        return shown.getpeercert(True)


def connect(simulator, **policy):
    session = XenAPISession(simulator.url, simulator.username, simulator.password, timeout=5, tls=TlsPolicy(**policy))
    session.close()


def test_a_certificate_nobody_vouches_for_is_refused(encrypted):
    with pytest.raises(HypervisorUnavailable, match="not accepted: self-signed certificate .*connection_fingerprint"):
        connect(encrypted)


def test_a_certificate_that_is_given_is_accepted(encrypted, certificate, tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(ssl.DER_cert_to_PEM_cert(certificate))
    connect(encrypted, ca_file=str(ca_file))


def test_a_certificate_file_that_is_missing_is_one_line(encrypted):
    with pytest.raises(exception.ConfigurationError, match="connection_ca_file"):
        connect(encrypted, ca_file="/nowhere/ca.pem")


def test_verification_can_be_switched_off(encrypted):
    connect(encrypted, verify=False)


def test_a_pinned_certificate_is_accepted_and_no_other(encrypted, certificate):
    connect(encrypted, fingerprint=hashlib.sha256(certificate).hexdigest())
    with pytest.raises(HypervisorUnavailable, match=r"https://\S+: the certificate of \S+ has .*pinned one$"):
        connect(encrypted, fingerprint="0" * 64)


def test_a_certificate_that_changes_under_a_service_ends_a_call_at_once(tmp_path):
    clock = FakeClock()
    first = Simulator()
    first.start(tls=True)
    with first:
        session = XenAPISession(first.url, first.username, first.password, clock=clock,
                                tls=TlsPolicy(fingerprint=hashlib.sha256(certificate_of(first)).hexdigest()))
    second = Simulator()
    second.start(first.url.removeprefix("https://"), tls=True)
    with second:
        before = clock.monotonic()
        with pytest.raises(HypervisorUnavailable, match="host.get_all: the certificate of .* not the pinned one"):
            session.call_xenapi("host.get_all")
        # A host that is merely away is asked again for a minute.
        assert clock.monotonic() == before
        session.close()


@pytest.mark.parametrize("text", ["00:11", "z" * 64, "0" * 63])
def test_a_fingerprint_that_is_none_is_one_line(make_conf, text):
    conf = make_conf(connection_fingerprint=["0" * 64, text])
    with pytest.raises(exception.ConfigurationError, match="64 hexadecimal digits"):
        TlsPolicy.of(conf.xenserver)


def test_a_unix_socket_is_as_good_as_an_address(tmp_path):
    path = tmp_path / "with_underscores"
    simulator = Simulator()
    simulator.start(str(path))
    try:
        session = XenAPISession(f"unix://{path}", simulator.username, simulator.password, timeout=5)
        assert session.call_xenapi("host.get_uuid", session.host_ref) == session.host_uuid
        session.close()
    finally:
        simulator.stop()


def test_disks_travel_over_tls(encrypted, make_bench):
    bench = make_bench(at=encrypted, connection_verify=False)
    instance = bench.spawn()
    assert bench.vm(instance)["power_state"] == "Running"
    assert bench.driver.get_vnc_console(instance)["port"] == bench.vmops._session.host_endpoint.port
    larger = {**instance["flavor"], "root_gb": 2}
    disk_info = bench.vmops.migrate_disk_and_power_off(None, instance, "127.0.0.1", larger)
    assert json.loads(disk_info)["tls_fingerprint"]
    bench.vmops.finish_revert_migration(instance)
    assert bench.vm(instance)["power_state"] == "Running"


def test_a_file_travels_over_tls(encrypted, make_bench, tmp_path):
    bench = make_bench(at=encrypted, connection_verify=False)
    content = random.Random(11).randbytes(5 * MIB + SECTOR_B)
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        blocks = FileBlocks(file.fileno(), len(content))
        vdi_ref = bench.vmops.disks.import_disk(DiskImage("raw", len(content), len(content), blocks), "file", {},
                                                Undo("send a file"))
    with Transfers(bench.vmops._session).export_vdi(vdi_ref, "raw") as stream:
        assert stream.read(len(content)) == content


def test_a_migration_copies_disks_over_tls_both_ways(encrypted, make_bench, bench):
    there = make_bench(at=encrypted, connection_verify=False)
    for source, destination in ((bench, there), (there, bench)):
        instance = source.spawn()
        larger = {**instance["flavor"], "root_gb": 2}
        disk_info = source.vmops.migrate_disk_and_power_off(None, instance, "127.0.0.1", larger)
        destination.vmops.finish_migration(None, {}, {**instance, "flavor": larger}, disk_info, make_network_info(),
                                           destination.image, True)
        root = vbds(destination, destination.vm(instance))["0"]
        assert destination.api("VDI.get_virtual_size", root["VDI"]) == str(2 * GIB)
