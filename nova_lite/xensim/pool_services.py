"""What is set for a pool as a whole: secrets, management interfaces, switch controller, outside tests."""

import http.client
import ipaddress
import ssl
import uuid as uuid_module

from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.noun import Noun, call

POST_TIMEOUT_S = 30


class PoolServices(Noun):
    # secrets

    @call("pool.initial_auth")
    def initial_auth(self, _caller):
        return self.toolstack.pool_secret

    @call("pool.rotate_secret")
    def rotate_secret(self, _caller):
        self.toolstack.availability.check_disabled()
        for host in self.db.rows("host"):
            if host.ref in self.toolstack.dead_hosts:
                raise ApiError("CANNOT_CONTACT_HOST", host.ref)
        self.toolstack.pool_secret = str(uuid_module.uuid4())

    @call("pool.reset_telemetry_uuid")
    def reset_telemetry_uuid(self, _caller, ref):
        former = self.db.get("pool", ref, "telemetry_uuid")
        self.db.set("pool", ref, telemetry_uuid=self.db.create("secret", value=str(uuid_module.uuid4())))
        if not is_null(former) and self.db.find("secret", former):
            self.db.destroy("secret", former)

    # management interfaces

    def _move_management(self, pif: Row) -> None:
        """Let a host be managed through this interface. Raises why not."""
        if not is_null(pif["bond_slave_of"]):
            raise ApiError("CANNOT_PLUG_BOND_SLAVE", pif.ref)
        if pif["ip_configuration_mode"] == "None":
            raise ApiError("PIF_HAS_NO_NETWORK_CONFIGURATION", pif.ref)
        if not pif["IP"]:
            raise ApiError("INTERFACE_HAS_NO_IP", pif["device"])
        for other in list(self.db.select("PIF", host=pif["host"], management=True)):
            self.db.set("PIF", other.ref, management=False)
        self.db.set("PIF", pif.ref, management=True, currently_attached=True)
        self.db.set("host", pif["host"], address=pif["IP"])

    @call("host.management_reconfigure")
    def management_reconfigure(self, _caller, pif_ref):
        pif = self.db.row("PIF", pif_ref)
        self.toolstack.availability.check_disabled()
        self._move_management(pif)

    @call("host.local_management_reconfigure")
    def local_management_reconfigure(self, caller, interface):
        for pif in list(self.db.select("PIF", host=caller.host_ref)):
            if interface in (pif["device"], self.db.get("network", pif["network"], "bridge")):
                self._move_management(pif)
                return
        raise ApiError("PIF_DEVICE_NOT_FOUND")

    @call("host.management_disable")
    def management_disable(self, caller):
        self.toolstack.availability.check_disabled()
        if caller.host_ref != self.toolstack.master_ref:
            raise ApiError("SLAVE_REQUIRES_MANAGEMENT_INTERFACE")
        for pif in list(self.db.select("PIF", host=caller.host_ref, management=True)):
            self.db.set("PIF", pif.ref, management=False)

    @call("pool.management_reconfigure")
    def management_reconfigure_everywhere(self, _caller, network_ref):
        self.toolstack.availability.check_disabled()
        pifs = {self.db.get("PIF", ref, "host"): ref for ref in self.db.get("network", network_ref, "PIFs")}
        for host in self.db.rows("host"):
            if host.ref not in pifs:
                raise ApiError("PIF_NOT_PRESENT", host.ref, network_ref)
        for pif_ref in pifs.values():
            self._move_management(self.db.row("PIF", pif_ref))

    # the rest

    @call("pool.set_vswitch_controller")
    def set_vswitch_controller(self, _caller, address):
        if address:
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ApiError("INVALID_IP_ADDRESS_SPECIFIED", "address") from None
        self.db.set("pool", self.toolstack.pool_ref, vswitch_controller=address)

    @call("pool.test_archive_target")
    def test_archive_target(self, _caller, ref, _config):
        self.db.row("pool", ref)
        raise ApiError("MESSAGE_REMOVED")

    @call("pool.send_test_post")
    def send_test_post(self, _caller, host, port, body):
        """Post the text over HTTPS and return what the server answers."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=POST_TIMEOUT_S, context=context)
        try:
            with self.toolstack.unlocked():
                connection.request("POST", "/", body.encode())
                return connection.getresponse().read(1 << 20).decode(errors="replace")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise internal_error(f"cannot post to {host}:{port}: {error}") from None
        finally:
            connection.close()

    @call("pool.get_guest_secureboot_readiness")
    def get_guest_secureboot_readiness(self, _caller, ref):
        pool = self.db.row("pool", ref)
        has_certificates = pool["custom_uefi_certificates"] or pool["uefi_certificates"]
        return "ready" if has_certificates else "not_ready"

    @call("session.create_from_db_file")
    def create_from_db_file(self, _caller, filename):
        raise internal_error(f"Failure: {filename} is no database of this version")

    @call("user.create")
    def create_user(self, _caller, args):
        return self.db.create("user", **args)

    @call("user.destroy")
    def destroy_user(self, _caller, ref):
        self.db.destroy("user", ref)
