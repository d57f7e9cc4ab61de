"""Connections to xapi: TCP, TLS that verifies or pins, Unix socket; each with connect and read timeouts.

The client library brings none of these limits: without them a host that stops answering holds its caller forever.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import select
import socket
import ssl
import xmlrpc.client
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from xml.parsers.expat import ExpatError

import XenAPI

from nova_lite import exception

LOCAL_SOCKET = "/var/lib/xcp/xapi"
FINGERPRINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class TlsPolicy:
    """How the certificate of a host is judged.

    fingerprint (hex SHA-256 of the certificate; several are separated by commas, one for each member of a pool) pins
    certificates and takes the place of verification; otherwise `verify` checks chain and name against ca_file, or the
    system's authorities.
    """

    verify: bool = True
    ca_file: str | None = None
    fingerprint: str | None = None

    @classmethod
    def of(cls, options: Any) -> "TlsPolicy":
        """Return the policy of the options of section [xenserver]. Raises ConfigurationError."""
        for each in options.connection_fingerprint:
            if not FINGERPRINT.fullmatch(_plain(each)):
                raise exception.ConfigurationError(
                    reason=f"[xenserver] connection_fingerprint {each} is no SHA-256 of a certificate: 64 hexadecimal "
                           "digits, with or without colons")
        return cls(options.connection_verify, options.connection_ca_file,
                   ",".join(options.connection_fingerprint) or None)

    def accepts(self, shown: str) -> bool:
        """Tell whether a fingerprint is one of the pinned ones."""
        pinned = _plain(self.fingerprint or "").split(",")
        return any(hmac.compare_digest(shown, each) for each in pinned)

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of this policy. Raises ConfigurationError for an unreadable ca_file."""
        if self.fingerprint or not self.verify:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise exception.ConfigurationError(
                reason=f"[xenserver] connection_ca_file {self.ca_file} cannot be read: {error}") from error


def _plain(fingerprint: str) -> str:
    return fingerprint.replace(":", "").replace(" ", "").lower()


class JsonRpcMissing(Exception):
    """The host has no JSON-RPC."""


class CertificateRefused(ssl.SSLError):
    """The host's certificate is not accepted. Trying again does not help: somebody has to look at it."""

    def __str__(self):
        return self.args[0]


class CertificateChanged(CertificateRefused):
    """The host showed another certificate than the pinned one."""


class _PinnedHTTPSConnection(http.client.HTTPSConnection):
    """HTTPS that closes before it sends anything when the certificate is not the pinned one."""

    policy = TlsPolicy()

    def connect(self):
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(
                f"the certificate of {self.host} is not accepted: {error.verify_message} (connection_ca_file or "
                "connection_fingerprint can vouch for it)") from None
        if self.policy.fingerprint is None:
            return
        shown = hashlib.sha256(self.sock.getpeercert(True)).hexdigest()
        if not self.policy.accepts(shown):
            self.close()
            raise CertificateChanged(f"the certificate of {self.host} has fingerprint {shown}, not the pinned one")


class _UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket `path`."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclass(frozen=True)
class Endpoint:
    """Where an xapi listens: an http(s) URL, `unix://local`, or `unix:///path/of/socket`."""

    url: str
    tls: TlsPolicy = TlsPolicy()

    def __post_init__(self):
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https", "unix") or not (parts.hostname or parts.path.strip("/")):
            raise exception.ConfigurationError(
                reason=f"[xenserver] connection_url {self.without_credentials} is neither http(s)://HOST nor unix://PATH")

    @property
    def without_credentials(self) -> str:
        """The URL as it may be shown."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def port(self) -> int:
        """Where consoles and disks are served: the URL's port, else that of its scheme."""
        parts = urlsplit(self.url)
        return (parts.port if parts.scheme != "unix" else None) or (443 if parts.scheme == "https" else 80)

    @property
    def host(self) -> str | None:
        """Host part without port, or None for a Unix socket."""
        return None if self.socket_path else urlsplit(self.url).hostname

    @property
    def socket_path(self) -> str | None:
        parts = urlsplit(self.url)
        if parts.scheme != "unix":
            return None
        if parts.netloc == "local":
            return LOCAL_SOCKET
        return f"/{parts.netloc}{parts.path}" if parts.netloc else parts.path

    @property
    def rpc_uri(self) -> str:
        """The URI the XML-RPC client is made with; for a Unix socket its host is only a name."""
        return "http://localhost/RPC2" if self.socket_path else self.without_credentials

    def on_host(self, address: str) -> "Endpoint":
        """Return this endpoint on another host; scheme, port and path stay."""
        return replace(self, url=swap_xapi_host(self.url, address))

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return an HTTP connection, not yet open, whose connecting and reading each take `timeout_s` at most."""
        if self.socket_path:
            return _UnixHTTPConnection(self.socket_path, timeout_s)
        parts = urlsplit(self.url)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        connection = _PinnedHTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=self.tls.context())
        connection.policy = self.tls
        return connection


def swap_xapi_host(url: str, host_addr: str) -> str:
    """Return `url` with its host replaced; scheme, port and path stay."""
    parts = urlsplit(url)
    address = f"[{host_addr}]" if ":" in host_addr and not host_addr.startswith("[") else host_addr
    netloc = address if parts.port is None else f"{address}:{parts.port}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, parts.fragment))


class XapiTransport(xmlrpc.client.Transport):
    """The XML-RPC transport of one session: one kept-alive connection, `read_timeout_s` per reply.

    The base class silently repeats a request whose connection broke, which would run a VM.create twice; here a
    connection the server closed while it was idle is noticed before sending, and nothing is repeated.
    """

    def __init__(self, endpoint: Endpoint, connect_timeout_s: float, read_timeout_s: float):
        super().__init__()
        self._endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self.read_timeout_s = read_timeout_s
        self._aborted = False

    def request(self, host, handler, request_body, verbose=False):
        return self.single_request(host, handler, request_body, verbose)

    def make_connection(self, host):
        if self._aborted:
            raise ConnectionAbortedError("the session is being closed")
        if self._connection and self._connection[0] == host:
            if not _closed_by_peer(self._connection[1].sock):
                return self._connection[1]
            self._connection[1].close()
        self._connection = host, self._endpoint.connection(self._connect_timeout_s)
        return self._connection[1]

    def send_request(self, host, handler, request_body, debug):
        connection = super().send_request(host, handler, request_body, debug)
        connection.sock.settimeout(self.read_timeout_s)
        if self._aborted:
            raise ConnectionAbortedError("the session is being closed")
        return connection

    def request_json(self, method: str, params: list) -> Any:
        """Call `method` over JSON-RPC on the same connection and return its result, integers as text.

        Raises XenAPI.Failure for an error of the API, JsonRpcMissing when the host does not speak it.
        """
        request = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 0}).encode()
        try:
            connection = self._ready_connection(urlsplit(self._endpoint.rpc_uri).netloc)
            connection.request("POST", "/jsonrpc", request, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except Exception:
            self.close()
            raise
        answer = _json_answer(response.status, body)
        if "error" in answer:
            raise XenAPI.Failure([answer["error"]["message"], *answer["error"].get("data", ())])
        return answer["result"]

    def _ready_connection(self, host: str) -> http.client.HTTPConnection:
        connection = self.make_connection(host)
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(self.read_timeout_s)
        if self._aborted:
            raise ConnectionAbortedError("the session is being closed")
        return connection

    def parse_response(self, response):
        try:
            return super().parse_response(response)
        except ExpatError as error:
            # Reading in pieces does not notice a body shorter than announced.
            raise ConnectionResetError(f"the answer broke off: {error}") from None

    def abort(self):
        """Make a call that waits in another thread fail at once, and any further one until resume."""
        self._aborted = True
        connection = self._connection and self._connection[1]
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):  # closed already is what is wanted
                _shut_down(connection.sock)

    def resume(self):
        """Allow calls again, such as the one that logs out."""
        self._aborted = False
        self.close()


def _json_answer(status: int, body: bytes) -> dict:
    try:
        # As in XML-RPC, integers are text.
        answer = json.loads(body, parse_int=str)
    except ValueError:
        answer = None
    if status != 200 or not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        raise JsonRpcMissing(f"HTTP status {status}")
    return answer


def _shut_down(sock) -> None:
    """End a connection that somebody else reads from, who then meets its end.

    Shutting down a TLS socket itself takes its TLS away as well, which who reads from it takes for a mistake of his.
    """
    with socket.socket(fileno=os.dup(sock.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def _closed_by_peer(sock) -> bool:
    if sock is None:
        return False
    try:
        readable, _, _ = select.select([sock], [], [], 0)
    except (OSError, ValueError):
        return True
    return bool(readable)  # nothing is due between two calls: readable means end of file
