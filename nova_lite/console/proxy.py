"""The console proxy: browsers' WebSockets on one side, the screens of guests on the other."""

import contextlib
import http.cookies
import logging
import re
import socket
import ssl
import threading
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from oslo_config import cfg
from websockify.websocketproxy import ProxyRequestHandler

from nova_lite import exception
from nova_lite.context import Services, get_admin_context

LOG = logging.getLogger(__name__)

# Close codes of RFC 6455.
_REFUSED, _FAILED, _AWAY = 1008, 1011, 1013
_MAX_ANSWER_B = 8192
_HTTPS_PORT = 443
_TOKEN = re.compile(r"(token(?:=|%3D))[^&\s'\"]+", re.IGNORECASE)


class ConsoleProxy(ThreadingHTTPServer):
    """Serves until `shutdown()`; every connection has a thread of its own, which ends with the process.

    A WebSocket whose path or cookie has a valid token is joined to the console that the token opens. With `[console]
    web`, files of that directory (noVNC) are served too.
    """

    daemon_threads = True
    request_queue_size = 128
    # What the handler of websockify asks of its server.
    token_plugin = auth_plugin = heartbeat = None
    verbose = False
    file_only = True

    def __init__(self, services: Services) -> None:
        conf = services.conf
        self.services = services
        self.only_upgrade = not conf.console.web
        self.web = conf.console.web
        self.logger = LOG
        self._places = threading.BoundedSemaphore(conf.console.max_connections)
        self.address_family = socket.AF_INET6 if ":" in conf.novncproxy_host else socket.AF_INET
        try:
            super().__init__((conf.novncproxy_host, conf.novncproxy_port), ConsoleHandler)
        except OSError as error:
            raise exception.ConfigurationError(
                reason=f"cannot listen on {conf.novncproxy_host}:{conf.novncproxy_port}: {error.strerror}; see"
                " novncproxy_host and novncproxy_port") from error
        if conf.console.cert:
            self.socket = _serving_tls(conf).wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.to_hosts = _calling_tls(conf)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            LOG.warning("A console connection of %s was refused: there are max_connections already", client_address[0])
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line: a browser that goes away in the middle is no error of ours."""
        LOG.info("A console connection of %s broke off", client_address[0], exc_info=LOG.isEnabledFor(logging.DEBUG))


class ConsoleHandler(ProxyRequestHandler):
    """One connection of a browser."""

    server: ConsoleProxy
    # Of the request; a console that is open may be silent.
    timeout = 30

    def translate_path(self, path: str) -> str:
        self.directory = self.server.web
        return super().translate_path(path)

    def log_message(self, format: str, *args: Any) -> None:
        """Whoever reads a token in a log could use it."""
        LOG.info("%s %s", self.client_address[0], _TOKEN.sub(r"\1…", format % args))

    def new_websocket_client(self) -> None:
        self._check_origin()
        opened = self._opened_by(self._token())
        LOG.info("Console of instance %s for %s", opened["instance_uuid"], self.client_address[0])
        with contextlib.closing(self._reach(opened)) as console:
            self.request.settimeout(None)
            console.settimeout(None)
            self.do_proxy(console)

    def _check_origin(self) -> None:
        """Refuse what another site's page makes a user's browser do. Clients that are no browsers name no origin."""
        origin = self.headers.get("Origin")
        if origin is None:
            return
        allowed = {urlsplit(f"//{self.headers.get('Host', '')}").hostname, *self.server.services.conf.console.
                   allowed_origins}
        if urlsplit(origin).hostname not in allowed:
            LOG.warning("A console connection of %s from a page of %s was refused: see [console] allowed_origins",
                        self.client_address[0], origin)
            raise self.CClose(_REFUSED, "Origin not allowed")

    def _token(self) -> str | None:
        """Return the token of the path's query or, as noVNC's page sends it, of the cookie."""
        query = urlsplit(self.path).query
        found = parse_qs(query).get("token")
        if found is None and (path := parse_qs(query).get("path")):
            found = parse_qs(urlsplit(path[0]).query).get("token")
        if found is not None:
            return found[0]
        cookie: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        with contextlib.suppress(http.cookies.CookieError):
            cookie.load(self.headers.get("Cookie", ""))
        return cookie["token"].value if "token" in cookie else None

    def _opened_by(self, token: str | None) -> dict[str, Any]:
        services = self.server.services
        try:
            opened = services.console_tokens.check_token(get_admin_context().bind(services), token) if token else None
        except exception.NovaException as error:
            LOG.warning("A console token could not be checked: %s", error)
            raise self.CClose(_AWAY, "Try again later") from error
        if opened is None:
            raise self.CClose(_REFUSED, "Token unknown or expired")
        return opened

    def _reach(self, opened: dict[str, Any]) -> socket.socket:
        """Return a connection to the screen, its host having let us through."""
        where = (opened["host"], int(opened["port"]))
        try:
            console = socket.create_connection(where, timeout=self.timeout)
            console.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if where[1] == _HTTPS_PORT:
                console = self.server.to_hosts.wrap_socket(console, server_hostname=where[0])
            if opened["internal_access_path"]:
                _pass_host(console, where[0], opened["internal_access_path"])
        except (OSError, _Refused) as error:
            LOG.warning("The console of instance %s on %s cannot be reached: %s", opened["instance_uuid"], where[0],
                        error)
            raise self.CClose(_FAILED, "The console cannot be reached") from error
        return console


class _Refused(Exception):
    """A host did not let us through to a console."""


def _pass_host(console: socket.socket, host: str, path: str) -> None:
    """Have the host join this connection to the console at `path`, which holds a session: it is never told."""
    console.sendall(f"CONNECT {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = console.recv(1)  # what follows the answer is the screen's
        if not byte or len(answer) > _MAX_ANSWER_B:
            raise _Refused("the host gave no answer")
        answer += byte
    words = answer.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or words[1] != b"200":
        raise _Refused(f"the host answered {words[1].decode('latin-1') if len(words) > 1 else 'nothing known'}")


def _serving_tls(conf: cfg.ConfigOpts) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(conf.console.cert, conf.console.key)
    except (OSError, ssl.SSLError) as error:
        raise exception.ConfigurationError(reason=f"[console] cert, key: {error}") from error
    return context


def _calling_tls(conf: cfg.ConfigOpts) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=conf.console.host_cafile)
    except (OSError, ssl.SSLError) as error:
        raise exception.ConfigurationError(reason=f"[console] host_cafile: {error}") from error
    if conf.console.host_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
