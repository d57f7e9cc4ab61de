"""What hosts, pools and VMs offer beside their life cycle: licences, clocks, certificates, extensions, plugins."""

import datetime
import ssl
import urllib.parse

import pytest
import XenAPI
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nova_lite.xensim import Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xensim import logged_in
from tests.unit.xensim.conftest import Client


@pytest.fixture(scope="module")
def client():
    """A client of a host that the tests of this module share."""
    with Simulator() as simulator, logged_in(simulator) as session:
        yield Client(session)


def refusal(client, call, *arguments):
    with pytest.raises(XenAPI.Failure) as error:
        client.session.xenapi_request(call, arguments)
    return error.value.details


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


def certificate(key, *, days=1):
    """Return a self-signed certificate that is valid until so many days from now."""
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "new")]), datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = datetime.timedelta(days=1)
    built = built.not_valid_before(now - 9 * day).not_valid_after(now + days * day)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


# What is refused, as (call, arguments, error); HOST, POOL, VM and PIF stand for references.
REFUSALS = [
    ("host.apply_edition", ["HOST", "gold", False], ["INVALID_EDITION", "gold"]),
    ("host.license_add", ["HOST", "x"], ["LICENSE_PROCESSING_ERROR"]),
    ("host.set_servertime", ["HOST", "20300101T00:00:00Z"], ["NOT_ALLOWED_WHEN_NTP_IS_ENABLED", "HOST"]),
    ("host.set_ntp_mode", ["HOST", "Custom"], ["INVALID_NTP_CONFIG", "no custom servers are set"]),
    ("host.set_timezone", ["HOST", "Mars/Crater"], ["INVALID_VALUE", "timezone", "Mars/Crater"]),
    ("host.set_ssh_enabled_timeout", ["HOST", "-1"],
     ["VALUE_NOT_SUPPORTED", "ssh_enabled_timeout", "-1", "must be 0 to 172800"]),
    ("host.power_on", ["HOST"], ["HOST_IS_LIVE", "HOST"]),
    ("host.enable_local_storage_caching", ["HOST", "SR"], ["HOST_NOT_DISABLED"]),
    ("host.apply_updates", ["HOST", "hash"], ["NO_REPOSITORY_ENABLED"]),
    ("host.call_extension", ["HOST", "none"], ["MESSAGE_METHOD_UNKNOWN", "none"]),
    ("host.local_management_reconfigure", ["eth7"], ["PIF_DEVICE_NOT_FOUND"]),
    ("host.emergency_reenable_tls_verification", [], None),
    ("host.retrieve_wlb_evacuate_recommendations", ["HOST"], ["WLB_NOT_INITIALIZED"]),
    ("pool.retrieve_wlb_configuration", [], ["WLB_NOT_INITIALIZED"]),
    ("pool.initialize_wlb", ["", "u", "p", "u", "p"], ["WLB_URL_INVALID", ""]),
    ("pool.initialize_wlb", ["127.0.0.1:9", "u", "p", "u", "p"], ["WLB_CONNECTION_REFUSED"]),
    ("pool.sync_updates", ["POOL", False], ["NO_REPOSITORY_ENABLED"]),
    ("pool.set_update_sync_enabled", ["POOL", True], ["NO_REPOSITORIES_CONFIGURED"]),
    ("pool.add_repository", ["POOL", "OpaqueRef:x"], ["HANDLE_INVALID", "Repository", "OpaqueRef:x"]),
    ("pool.configure_update_sync", ["POOL", "weekly", "7"], ["INVALID_UPDATE_SYNC_DAY", "7"]),
    ("pool.configure_repository_proxy", ["POOL", "ftp://x", "", ""], ["INVALID_REPOSITORY_PROXY_URL", "ftp://x"]),
    ("pool.configure_repository_proxy", ["POOL", "http://x", "u", ""], ["INVALID_REPOSITORY_PROXY_CREDENTIAL"]),
    ("pool.management_reconfigure", ["INTERNAL"], ["PIF_NOT_PRESENT", "HOST", "INTERNAL"]),
    ("pool.set_vswitch_controller", ["nowhere"], ["INVALID_IP_ADDRESS_SPECIFIED", "address"]),
    ("pool.test_archive_target", ["POOL", {}], ["MESSAGE_REMOVED"]),
    ("pool.certificate_install", ["../x", "x"], ["CERTIFICATE_NAME_INVALID", "../x"]),
    ("pool.certificate_install", ["x.pem", "x"], ["CERTIFICATE_CORRUPT", "x.pem"]),
    ("pool.certificate_uninstall", ["y.pem"], ["CERTIFICATE_DOES_NOT_EXIST", "y.pem"]),
    ("pool.crl_install", ["x.crl", "x"], ["CRL_CORRUPT", "x.crl"]),
    ("message.destroy_all", [{"colour": "red"}], ["INVALID_VALUE", "filters", "colour"]),
    ("VM.call_plugin", ["RUNNING", "rootkit", "x", {}], ["XENAPI_MISSING_PLUGIN", "rootkit"]),
    ("VM.call_host_plugin", ["RUNNING", "rootkit", "x", {}], ["XENAPI_MISSING_PLUGIN", "rootkit"]),
    ("VM.import_convert", ["vmware", "u", "p", "SR", {}], ["XENAPI_MISSING_PLUGIN", "conversion"]),
    ("VM.query_services", ["VM"], ["NOT_SYSTEM_DOMAIN", "VM"]),
    ("VM.send_trigger", ["RUNNING", "laugh"], ["INVALID_VALUE", "trigger", "laugh"]),
    ("VM.send_sysrq", ["VM", "h"], ["VM_BAD_POWER_STATE", "VM", "running", "halted"]),
    ("VM.restart_device_models", ["RUNNING"], ["VM_HVM_REQUIRED", "RUNNING"]),
    ("VM.set_shadow_multiplier_live", ["RUNNING", 2.0], ["FEATURE_REQUIRES_HVM", "shadow memory"]),
    ("VM.set_bios_strings", ["VM", {"colour": "red"}], ["INVALID_VALUE", "colour", "unknown key"]),
    ("VM.import", ["http://127.0.0.1:9/x", "SR", False, False], None),
    ("VM.retrieve_wlb_recommendations", ["VM"], ["WLB_NOT_INITIALIZED"]),
    ("VM.update_secureboot_certificates_on_boot", ["VM", True], None),
    ("session.create_from_db_file", ["/etc/passwd"], None),
]  # fmt: skip


@pytest.fixture(scope="module")
def named(client):
    """References by the names that the table uses."""
    api = client.api
    return {
        "HOST": client.host(),
        "POOL": api.pool.get_all()[0],
        "SR": client.default_sr(),
        "INTERNAL": api.network.get_by_name_label("Host internal management network")[0],
        "VM": client.vm("halted"),
        "RUNNING": client.started("running"),
    }


@pytest.mark.parametrize(("call", "arguments", "expected"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_is_not_there_says_so(client, named, call, arguments, expected):
    arguments = [named.get(each, each) if isinstance(each, str) else each for each in arguments]
    if call == "host.emergency_reenable_tls_verification":
        client.session.xenapi_request("host.emergency_disable_tls_verification", ())
        client.session.xenapi_request(call, ())
        assert client.api.host.get_tls_verification_enabled(named["HOST"]) is True
        return

    details = refusal(client, call, *arguments)

    assert details == [named.get(each, each) for each in expected or details]


class TestHosts:
    def test_a_licence_that_costs_needs_a_server(self, client, named):
        state = client.api.pool.get_license_state(named["POOL"])

        assert state["edition"] == "trial"
        assert refusal(client, "pool.apply_edition", named["POOL"], "premium-per-socket")[0] == "LICENSE_CHECKOUT_ERROR"
        client.api.host.apply_edition(named["HOST"], "free", False)
        assert client.api.host.get_edition(named["HOST"]) == "free"

    def test_the_clock_is_set_by_hand_once_nobody_else_does(self, client, named):
        host = named["HOST"]
        client.api.host.set_ntp_mode(host, "Disabled")

        client.api.host.set_servertime(host, "20300101T00:00:00Z")
        moved = client.api.host.get_servertime(host)
        client.api.host.set_ntp_mode(host, "Factory")

        assert str(moved).startswith("203001")
        assert not str(client.api.host.get_servertime(host)).startswith("2030")
        assert client.api.host.get_ntp_synchronized(host) is True

    def test_shell_access_is_opened_on_all_hosts_for_a_while(self, client, named):
        client.api.pool.set_ssh_enabled_timeout(named["POOL"], "600")

        client.api.pool.enable_ssh(named["POOL"])

        record = client.api.host.get_record(named["HOST"])
        assert (record["ssh_enabled"], record["ssh_enabled_timeout"]) == (True, "600")
        assert str(record["ssh_expiry"]) > "2020"
        client.api.pool.disable_ssh(named["POOL"])
        assert client.api.host.get_ssh_enabled(named["HOST"]) is False

    def test_a_log_is_empty_once_it_was_read_and_cleared(self, client, named):
        first = client.api.host.dmesg_clear(named["HOST"])

        assert "Xen version 4.17" in first
        assert client.api.host.dmesg(named["HOST"]) == ""
        assert "host.dmesg_clear: Success" in client.api.host.get_log(named["HOST"])

    def test_a_disabled_host_takes_its_local_storage_as_a_cache(self, client, named):
        client.api.host.disable(named["HOST"])
        client.api.host.enable_local_storage_caching(named["HOST"], named["SR"])
        cached = client.api.SR.get_local_cache_enabled(named["SR"])
        client.api.host.disable_local_storage_caching(named["HOST"])
        client.api.host.enable(named["HOST"])

        assert cached is True
        assert client.api.host.get_local_cache_sr(named["HOST"]) == "OpaqueRef:NULL"

    def test_restarting_the_agent_ends_sessions_after_it_has_answered(self):
        with Simulator() as simulator:
            session = XenAPI.Session(simulator.url)
            session.login_with_password("root", "xensim")
            handle = session._session

            session.xenapi.host.restart_agent(session.xenapi.host.get_all()[0])

            def is_over():
                try:
                    return session._session != handle or (session.xenapi.host.get_all() and session._session != handle)
                except OSError:
                    return False

            wait_until(is_over, "the agent did not restart")


class TestCertificates:
    def test_a_host_serves_the_certificate_that_was_installed(self, key):
        simulator = Simulator()
        simulator.start(tls=True)
        with simulator:
            session = XenAPI.Session(simulator.url, ignore_ssl=True)
            session.login_with_password("root", "xensim")
            host = session.xenapi.host.get_all()[0]
            address = urllib.parse.urlsplit(simulator.url)
            before, own = session.xenapi.host.get_server_certificate(host), certificate(key)

            served = ssl.get_server_certificate((address.hostname, address.port))
            session.xenapi.host.install_server_certificate(host, own, pem(key), "")
            after = ssl.get_server_certificate((address.hostname, address.port))

        assert served.split() == before.split()
        assert after.split() == own.split()

    def test_what_cannot_be_served_is_not_installed(self, client, named, key):
        good, other = certificate(key), rsa.generate_private_key(65537, 1024)

        def install(text, private, chain=""):
            return refusal(client, "host.install_server_certificate", named["HOST"], text, private, chain)

        assert install(good, "x") == ["SERVER_CERTIFICATE_KEY_INVALID"]
        assert install(good, pem(ec.generate_private_key(ec.SECP256R1())))[0].endswith("KEY_ALGORITHM_NOT_SUPPORTED")
        assert install(good, pem(other)) == ["SERVER_CERTIFICATE_KEY_RSA_LENGTH_NOT_SUPPORTED", "1024"]
        assert install("x", pem(key)) == ["SERVER_CERTIFICATE_INVALID"]
        assert install(certificate(other), pem(key)) == ["SERVER_CERTIFICATE_KEY_MISMATCH"]
        assert install(certificate(key, days=-1), pem(key))[0] == "SERVER_CERTIFICATE_EXPIRED"
        assert install(good, pem(key), "x") == ["SERVER_CERTIFICATE_CHAIN_INVALID"]

    def test_trusted_certificates_have_names(self, client, key):
        client.api.pool.certificate_install("corp.pem", certificate(key))
        again = refusal(client, "pool.certificate_install", "corp.pem", "x")

        assert again == ["CERTIFICATE_ALREADY_EXISTS", "corp.pem"]
        assert client.api.pool.certificate_list() == ["corp.pem"]
        client.api.pool.certificate_uninstall("corp.pem")
        assert client.api.pool.certificate_list() == []


class TestVms:
    def test_firmware_strings_are_set_once(self, client, named):
        vm = client.vm()
        client.api.VM.copy_bios_strings(vm, named["HOST"])

        assert client.api.VM.get_bios_strings(vm)["bios-vendor"]
        assert refusal(client, "VM.set_bios_strings", vm, {}) == ["VM_BIOS_STRINGS_ALREADY_SET"]

    def test_secure_boot_depends_on_the_firmware(self, client):
        bios, uefi = client.hvm(), client.hvm(platform={"secureboot": "true"})
        client.api.VM.set_HVM_boot_params(uefi, {"firmware": "uefi"})
        first = client.api.VM.get_secureboot_readiness(uefi)

        client.api.VM.set_uefi_mode(uefi, "setup")

        assert (first, client.api.VM.get_secureboot_readiness(uefi)) == ("first_boot", "setup_mode")
        assert client.api.VM.get_secureboot_readiness(bios) == "not_supported"
        assert refusal(client, "VM.set_uefi_mode", bios, "user")[0] == "OPERATION_NOT_ALLOWED"

    def test_memory_moves_while_the_vm_runs(self, client, named):
        vm, wanted = client.started(), str(128 << 20)

        client.api.VM.set_memory_target_live(vm, wanted)
        client.api.VM.wait_memory_target_live(vm)

        assert client.api.VM.get_memory_target(vm) == wanted
        assert client.api.VM_metrics.get_memory_actual(client.api.VM.get_metrics(vm)) == wanted
        assert refusal(client, "VM.set_memory_target_live", vm, str(1 << 40))[0] == "MEMORY_CONSTRAINT_VIOLATION"

    def test_a_guest_is_not_called_too_often(self, client):
        vm = client.started()

        first = refusal(client, "VM.call_plugin", vm, "guest-agent-operation", "request-rdp-on", {})
        second = refusal(client, "VM.call_plugin", vm, "guest-agent-operation", "request-rdp-on", {})

        assert first == ["VM_LACKS_FEATURE", vm]
        assert second[:3] == ["VM_CALL_PLUGIN_RATE_LIMIT", vm, "10"]

    def test_a_disks_requests_wait_until_the_token_comes_back(self, client):
        vm = client.vm()
        vbd = client.vbd(vm, client.vdi())
        unattached = refusal(client, "VBD.pause", vbd)
        client.api.VM.start(vm, False, False)
        token = client.api.VBD.pause(vbd)

        assert unattached == ["DEVICE_ALREADY_DETACHED", vbd]
        assert refusal(client, "VBD.unpause", vbd, "wrong") == ["INVALID_VALUE", "token", "wrong"]
        client.api.VBD.unpause(vbd, token)


class TestExtensions:
    @pytest.fixture
    def extended(self, tmp_path):
        script = "#!/bin/sh\nread _ || true\ncat >/dev/null\nprintf '%s' "
        answer = "<methodResponse><params><param><value><struct>{}</struct></value></param></params></methodResponse>"
        member = "<member><name>{}</name><value>{}</value></member>"
        good = answer.format(member.format("Status", "Success") + member.format("Value", "made by hand"))
        listed = "<array><data><value>TOO_BAD</value><value>why</value></data></array>"
        bad = answer.format(member.format("Status", "Failure") + member.format("ErrorDescription", listed))
        for name, text in (("Farm.milk", good), ("Farm.plough", bad), ("Farm.sing", "la la")):
            (tmp_path / name).write_text(f"{script}'{text}'\n")
            (tmp_path / name).chmod(0o755)
        with Simulator(extensions=str(tmp_path)) as simulator, logged_in(simulator) as session:
            yield Client(session)

    def test_a_program_answers_a_call_of_its_name(self, extended):
        host = extended.host()

        assert extended.session.xenapi_request("Farm.milk", ("now",)) == "made by hand"
        assert extended.api.host.call_extension(host, "Farm.milk") == "made by hand"
        assert extended.api.host.has_extension(host, "Farm.milk") is True
        assert extended.api.host.has_extension(host, "Farm.fly") is False

    def test_a_program_may_refuse_or_talk_nonsense(self, extended):
        assert refusal(extended, "Farm.plough") == ["TOO_BAD", "why"]
        assert refusal(extended, "Farm.sing") == ["EXTENSION_PROTOCOL_FAILURE", "Farm.sing", "la la"]
        assert refusal(extended, "Farm.fly") == ["MESSAGE_METHOD_UNKNOWN", "Farm.fly"]
