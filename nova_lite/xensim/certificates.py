"""Certificates: those that hosts serve, and those that the pool trusts or knows to be revoked."""

import os
import re
import ssl
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call

if TYPE_CHECKING:
    from cryptography import x509

    from nova_lite.xensim.toolstack import Toolstack

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*$")
RSA_BITS = range(2048, 4097)


class Certificates(Noun):
    """Server certificates are one file for each host; trusted certificates and revocations are files by name."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._directory = os.path.join(toolstack.directory, "certificates")
        self._contexts: dict[str, ssl.SSLContext] = {}  # what each host serves TLS with, while it does
        self.default_path = ""  # what hosts serve that have none of their own

    # what a host serves

    def _path(self, host_ref: str) -> str:
        return os.path.join(self._directory, "hosts", self.db.get("host", host_ref, "uuid"), "server.pem")

    def path(self, host_ref: str) -> str:
        """Return the file with a host's certificate and key; it is made when there is none."""
        path = self._path(host_ref)
        if not os.path.exists(path) and self.default_path:
            return self.default_path
        if not os.path.exists(path):
            from nova_lite.xensim.tls import make_certificate

            os.makedirs(os.path.dirname(path), exist_ok=True)
            address = self.db.get("host", host_ref, "address")
            make_certificate(os.path.dirname(path), [address.rpartition(":")[0] or address, "localhost"])
        return path

    def serving_context(self, host_ref: str) -> ssl.SSLContext:
        """Return what a host's sockets are to serve TLS with: always the certificate that it has at the time."""
        from nova_lite.xensim.tls import server_context

        outer = server_context(self.path(host_ref))
        self._contexts[host_ref] = outer
        # A context cannot forget a certificate: each handshake is passed on to the latest one.
        outer.sni_callback = lambda sock, _name, _context: setattr(sock, "context", self._contexts[host_ref])
        return outer

    def _serve_anew(self, host_ref: str) -> None:
        from nova_lite.xensim.tls import server_context

        if host_ref in self._contexts:
            self._contexts[host_ref] = server_context(self.path(host_ref))

    @call("host.get_server_certificate")
    def get_server_certificate(self, _caller, ref):
        with open(self.path(ref)) as file:
            text = file.read()
        return text[text.index("-----BEGIN CERTIFICATE") :]

    @call("host.install_server_certificate")
    def install_server_certificate(self, _caller, ref, certificate, private_key, chain):
        self.db.row("host", ref)
        check_server_certificate(certificate, private_key, chain)
        self.keep(ref, "\n".join([private_key, certificate, chain]))

    def keep(self, host_ref: str, text: str) -> None:
        """Have a host serve this certificate; the text holds its key too."""
        path = self._path(host_ref)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
        self._serve_anew(host_ref)

    @call("host.reset_server_certificate")
    @call("host.refresh_server_certificate")
    def reset_server_certificate(self, _caller, ref):
        path = self._path(ref)
        if os.path.exists(path):
            os.unlink(path)
        self._serve_anew(ref)

    @call("host.emergency_reset_server_certificate")
    def emergency_reset(self, caller):
        self.reset_server_certificate(caller, caller.host_ref)

    # what the pool trusts, and what it does not

    def _store(self, kind: str) -> str:
        path = os.path.join(self._directory, kind.lower())
        os.makedirs(path, exist_ok=True)
        return path

    def _install(self, kind: str, name: str, text: str, read: Any) -> None:
        """Add a file to a store (CERTIFICATE or CRL). Raises KIND_NAME_INVALID, _ALREADY_EXISTS and _CORRUPT."""
        path = self._file(kind, name)
        if os.path.exists(path):
            raise ApiError(f"{kind}_ALREADY_EXISTS", name)
        try:
            read(text.encode())
        except ValueError:
            raise ApiError(f"{kind}_CORRUPT", name) from None
        with open(path, "w") as file:
            file.write(text)

    def _uninstall(self, kind: str, name: str) -> None:
        try:
            os.unlink(self._file(kind, name))
        except FileNotFoundError:
            raise ApiError(f"{kind}_DOES_NOT_EXIST", name) from None

    def _file(self, kind: str, name: str) -> str:
        if not NAME.match(name):
            raise ApiError(f"{kind}_NAME_INVALID", name)
        return os.path.join(self._store(kind), name)

    @call("pool.certificate_install")
    @call("pool.install_ca_certificate")
    def install(self, _caller, name, text):
        from cryptography import x509

        self._install("CERTIFICATE", name, text, x509.load_pem_x509_certificate)

    @call("pool.certificate_uninstall")
    def uninstall(self, _caller, name):
        self._uninstall("CERTIFICATE", name)

    @call("pool.uninstall_ca_certificate")
    def uninstall_ca(self, _caller, name, force):
        try:
            self._uninstall("CERTIFICATE", name)
        except ApiError:
            if not force:
                raise

    @call("pool.certificate_list")
    def list_certificates(self, _caller):
        return sorted(os.listdir(self._store("CERTIFICATE")))

    @call("pool.crl_install")
    def install_crl(self, _caller, name, text):
        from cryptography import x509

        self._install("CRL", name, text, x509.load_pem_x509_crl)

    @call("pool.crl_uninstall")
    def uninstall_crl(self, _caller, name):
        self._uninstall("CRL", name)

    @call("pool.crl_list")
    def list_crls(self, _caller):
        return sorted(os.listdir(self._store("CRL")))

    @call("pool.certificate_sync")
    def sync(self, _caller):
        self._store("CERTIFICATE")  # all hosts share one store: there is nothing to copy

    @call("pool.install_trusted_certificate")
    def install_trusted(self, _caller, _pool, _ca, text, purpose):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        try:
            fingerprint = x509.load_pem_x509_certificate(text.encode()).fingerprint(hashes.SHA256()).hex()
        except ValueError:
            raise ApiError("CERTIFICATE_CORRUPT", "") from None
        if not purpose:
            raise ApiError("CERTIFICATE_LACKS_PURPOSE")
        self._install("CERTIFICATE", f"{fingerprint}.pem", text, x509.load_pem_x509_certificate)

    @call("pool.uninstall_trusted_certificate")
    def uninstall_trusted(self, _caller, _pool, certificate):
        raise ApiError("HANDLE_INVALID", "Certificate", certificate)  # a class outside the simulated core

    @call("pool.sync_trusted_certificates_from")
    def sync_trusted(self, _caller, ref, remote_pool, _session, _certificate, _ca):
        self.db.row("pool", ref)
        raise ApiError("CANNOT_CONTACT_HOST", remote_pool)

    # verification

    @call("pool.enable_tls_verification", operation="tls_verification_enable")
    def enable_verification(self, _caller):
        self.db.set("pool", self.toolstack.pool_ref, tls_verification_enabled=True)
        for host in self.db.rows("host"):
            self.db.set("host", host.ref, tls_verification_enabled=True)

    @call("host.emergency_disable_tls_verification")
    def disable_verification(self, caller):
        self.db.set("host", caller.host_ref, tls_verification_enabled=False)

    @call("host.emergency_reenable_tls_verification")
    def reenable_verification(self, caller):
        if not self.db.get("pool", self.toolstack.pool_ref, "tls_verification_enabled"):
            raise ApiError("TLS_VERIFICATION_NOT_ENABLED_IN_POOL")
        self.db.set("host", caller.host_ref, tls_verification_enabled=True)

    @call("pool.enable_client_certificate_auth")
    def enable_client_certificates(self, _caller, ref, name):
        self.db.set("pool", ref, client_certificate_auth_enabled=True, client_certificate_auth_name=name)

    @call("pool.disable_client_certificate_auth")
    def disable_client_certificates(self, _caller, ref):
        self.db.set("pool", ref, client_certificate_auth_enabled=False, client_certificate_auth_name="")


def check_server_certificate(certificate: str, private_key: str, chain: str) -> None:
    """Raise SERVER_CERTIFICATE_* when a host cannot serve this."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError):
        raise ApiError("SERVER_CERTIFICATE_KEY_INVALID") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ApiError("SERVER_CERTIFICATE_KEY_ALGORITHM_NOT_SUPPORTED", type(key).__name__)
    if key.key_size not in RSA_BITS:
        raise ApiError("SERVER_CERTIFICATE_KEY_RSA_LENGTH_NOT_SUPPORTED", str(key.key_size))
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        raise ApiError("SERVER_CERTIFICATE_INVALID") from None
    if parsed.public_key() != key.public_key():
        raise ApiError("SERVER_CERTIFICATE_KEY_MISMATCH")
    _check_dates(parsed)
    if chain:
        try:
            x509.load_pem_x509_certificates(chain.encode())
        except ValueError:
            raise ApiError("SERVER_CERTIFICATE_CHAIN_INVALID") from None


def _check_dates(certificate: "x509.Certificate") -> None:
    from datetime import UTC, datetime

    now, form = datetime.now(UTC), "%Y-%m-%dT%H:%M:%SZ"
    if now < certificate.not_valid_before_utc:
        raise ApiError(
            "SERVER_CERTIFICATE_NOT_VALID_YET", now.strftime(form), certificate.not_valid_before_utc.strftime(form)
        )
    if now > certificate.not_valid_after_utc:
        raise ApiError("SERVER_CERTIFICATE_EXPIRED", now.strftime(form), certificate.not_valid_after_utc.strftime(form))
