"""The simulator as a whole: a pool, its sockets, its control."""

import contextlib
import os
import socket
import threading
import urllib.parse
from collections.abc import Callable

from nova_lite.xensim.blobs import BlobHandler
from nova_lite.xensim.control import Control, ControlPath
from nova_lite.xensim.displays import Displays
from nova_lite.xensim.handlers import Door, RawDisks, Router, Rpc
from nova_lite.xensim.http import Listener, listen_tcp, listen_unix
from nova_lite.xensim.metrics import Archives
from nova_lite.xensim.package_handlers import Packages
from nova_lite.xensim.population import HostPlan, Population, prepare_directory
from nova_lite.xensim.scratch import Scratch
from nova_lite.xensim.state import StateFile
from nova_lite.xensim.toolstack import Toolstack

PORT_ATTEMPTS = 20


class Simulator:
    """A simulated XenServer pool of one or more hosts.

        with Simulator(hosts=2) as simulator:
            session = XenAPI.Session(simulator.url)
            session.login_with_password(simulator.username, simulator.password)

    `state_dir` keeps records and disks over a restart; without one a temporary directory is used and removed by
    `stop`. Hosts listen on successive loopback addresses (127.0.0.1, 127.0.0.2, ...) with one port, so that a host's
    `address` and the port of the first URL reach any of them; on other addresses they listen on successive ports, and
    `address` holds the port. `plugins` and `extensions` are the directories that stand for those in /etc/xapi.d.
    """

    def __init__(
        self,
        hosts: int = 1,
        state_dir: str | None = None,
        name: str = "xensim",
        *,
        username: str = "root",
        password: str = "xensim",
        plan: HostPlan | None = None,
        plugins: str | None = None,
        extensions: str | None = None,
    ):
        self.username = username
        self.password = password
        self.name = name
        self.url = ""
        self.urls: list[str] = []
        self.certificate = ""  # path of the PEM file, once started with TLS
        self.control: Control | None = None
        self.toolstack: Toolstack | None = None
        self._host_count = hosts
        self._state_dir = state_dir
        self._plan = plan or HostPlan()
        self._plugins = plugins
        self._extensions = extensions
        self._listeners: dict[str, list[Listener]] = {}
        self._endpoints: list[tuple[str, int]] = []
        self._state: StateFile | None = None
        self._scratch: Scratch | None = None

    # starting

    def start(self, listen: str = "127.0.0.1:0", tls: bool = False) -> str:
        """Listen on HOST:PORT (port 0: any free one) or on a Unix socket path; return the URL of the first host.

        Raises OSError when that cannot be done.
        """
        self._scratch = None if self._state_dir else Scratch("xensim-state-")
        directory = prepare_directory(self._state_dir or self._scratch.path)
        self.toolstack = Toolstack(
            directory, username=self.username, password=self.password, plugin_directory=self._plugins
        )
        self.toolstack.extensions.directory = self._extensions
        self.toolstack.host_services.restart_agents = self.restart_toolstack
        self.toolstack.host_services.stop_agent = self.close_host
        self.toolstack.host_services.start_agent = self.open_host
        self.toolstack.host_services.retire_agent = self.retire_host
        self.toolstack.host_services.hand_over_agent = self.hand_over_host
        self.toolstack.host_services.take_back_agent = self.take_back_host
        self.control = Control(self.toolstack, self)
        try:
            self._install(directory, listen, tls)
        except OSError:
            self.stop()
            raise
        return self.url

    def _install(self, directory: str, listen: str, tls: bool) -> None:
        with self.toolstack.lock:
            has_state = self._load(directory)
            sockets = self._open_sockets(listen, tls, directory)
            addresses = self._addresses()
            if has_state:
                for host, address in zip(self.toolstack.db.rows("host"), addresses, strict=True):
                    self.toolstack.db.set("host", host.ref, address=address)
            else:
                names = [f"{self.name}-{number}" if number else self.name for number in range(self._host_count)]
                Population(self.toolstack, self._plan).install(names, addresses)
            if self._state:
                self._state.start()
            host_refs = list(self.toolstack.db.tables["host"])
            self.toolstack.urls = dict(zip(host_refs, self.urls, strict=False))
        for number, host_ref in enumerate(host_refs):
            self._serve(host_ref, sockets[number] if number < len(sockets) else None, is_tls=tls)

    def _load(self, directory: str) -> bool:
        if self._state_dir is None:
            return False
        self._state = StateFile(os.path.join(directory, "state.sqlite"), self.toolstack)
        has_state = self._state.load()
        if has_state:
            self._host_count = len(self.toolstack.db.tables["host"])
        return has_state

    def _serve(self, host_ref: str, sock: socket.socket | None, *, is_tls: bool) -> None:
        handle = self._router(host_ref).handle
        local = listen_unix(self.toolstack.dom0.socket_path(host_ref))
        listeners = [Listener(local, handle)]
        if sock is not None:
            certificates = self.toolstack.certificates
            certificates.default_path = self.certificate
            context = certificates.serving_context(host_ref) if is_tls else None
            listeners.append(Listener(sock, handle, context))
        self._listeners[host_ref] = listeners
        for listener in listeners:
            listener.start()

    def _router(self, host_ref: str) -> Router:
        router = Router(self.toolstack, host_ref)
        door = Door(self.toolstack)
        Rpc(self.toolstack).register(router)
        RawDisks(self.toolstack, door).register(router)
        Packages(self.toolstack, door).register(router)
        BlobHandler(self.toolstack, door).register(router)
        Archives(self.toolstack, door, host_ref).register(router)
        Displays(self.toolstack, door, host_ref).register(router)
        ControlPath(self.control, door).register(router)
        return router

    # sockets

    def _open_sockets(self, listen: str, tls: bool, directory: str) -> list[socket.socket]:
        if "/" in listen:
            self.urls = ["http://" + listen.replace("/", "_") + "/"]
            self.url = self.urls[0]
            return [listen_unix(listen)]
        host, _, port = listen.rpartition(":")
        sockets = self._listen_retrying(host.strip("[]") or "127.0.0.1", int(port))
        self._endpoints = [sock.getsockname()[:2] for sock in sockets]
        if tls:
            # Costs a tenth of a second of start-up, and only with TLS.
            from nova_lite.xensim.tls import make_certificate

            self.certificate = make_certificate(
                directory, [*dict.fromkeys(host for host, _ in self._endpoints), "localhost"]
            )
        scheme = "https" if tls else "http"
        self.urls = [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port in self._endpoints]
        self.url = self.urls[0]
        return sockets

    def _listen_retrying(self, host: str, port: int) -> list[socket.socket]:
        """Listen once for each host; with port 0 another port is tried when one is taken on a later address."""
        for attempt in range(PORT_ATTEMPTS):
            with contextlib.ExitStack() as undo:
                try:
                    return self._listen_all(host, port, undo)
                except OSError:
                    if port or attempt == PORT_ATTEMPTS - 1:
                        raise
        raise OSError("no port is free on all addresses")

    def _listen_all(self, host: str, port: int, undo: contextlib.ExitStack) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        first, _, last = host.rpartition(".")
        is_loopback = host.startswith("127.")
        for number in range(self._host_count):
            own_host = f"{first}.{int(last) + number}" if is_loopback else host
            sock = listen_tcp(own_host, port if is_loopback or not port else port + number)
            undo.callback(sock.close)
            if is_loopback:
                port = port or sock.getsockname()[1]
            sockets.append(sock)
        undo.pop_all()
        return sockets

    def _addresses(self) -> list[str]:
        if not self._endpoints:
            return [f"127.0.0.{number + 1}" for number in range(self._host_count)]
        is_loopback = self._endpoints[0][0].startswith("127.")
        return [host if is_loopback else f"{host}:{port}" for host, port in self._endpoints]

    # accidents

    def kill_toolstack(self) -> None:
        """End every connection and session and answer nothing but the control path until `start_toolstack`."""
        self.toolstack.faults.is_toolstack_down = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.drop_connections()
        with self.toolstack.lock:
            self.toolstack.restart()

    def start_toolstack(self) -> None:
        """Answer again."""
        self.toolstack.faults.is_toolstack_down = False

    def restart_toolstack(self, down_s: float = 0.0) -> None:
        """Refuse every connection for a while, without sessions and tasks afterwards, as a restarted toolstack does."""
        for host_ref in list(self._listeners):
            self.close_host(host_ref)
        with self.toolstack.lock:
            self.toolstack.restart()
        if down_s:
            threading.Event().wait(down_s)
        for host_ref in list(self._listeners):
            self.open_host(host_ref)

    def silence_host(self, host_ref: str) -> None:
        """Answer nothing but the control path on a host's sockets until `hear_host`."""
        self.toolstack.faults.unreachable_hosts.add(host_ref)
        for listener in self._listeners.get(host_ref, []):
            listener.drop_connections()

    def hear_host(self, host_ref: str) -> None:
        """Answer on a host's sockets again."""
        self.toolstack.faults.unreachable_hosts.discard(host_ref)

    def close_host(self, host_ref: str) -> None:
        """Stop answering on a host's sockets, as a host that lost power does."""
        for listener in self._listeners.get(host_ref, []):
            listener.stop()

    def retire_host(self, host_ref: str) -> None:
        """Stop answering on the sockets of a host that has left the pool for good."""
        self.close_host(host_ref)
        self._listeners.pop(host_ref, None)

    def hand_over_host(self, host_ref: str) -> None:
        """Give the public address of a host up for another simulator to listen there; connections stay."""
        for listener in self._listeners[host_ref][1:]:
            listener.stop_listening()

    def take_back_host(self, host_ref: str) -> None:
        """Listen again on the address that `hand_over_host` gave up."""
        for listener in self._listeners[host_ref][1:]:
            listener.listen_again()

    def take_over_host(self, url: str, take_in: Callable[[], str]) -> None:
        """Listen for a host that joins where it listened before; take_in() returns its reference. Raises OSError."""
        parts = urllib.parse.urlsplit(url)
        path = parts.netloc.replace("_", "/") if "_" in parts.netloc else ""
        sock = listen_unix(path) if path else listen_tcp(parts.hostname, parts.port)
        host_ref = take_in()
        self.toolstack.urls[host_ref] = url
        self.urls.append(url)
        self._serve(host_ref, sock, is_tls=parts.scheme == "https")

    def open_host(self, host_ref: str) -> None:
        """Answer again on a host's sockets."""
        public = [listener.address for listener in self._listeners[host_ref][1:]]
        sockets = [listen_unix(address) if isinstance(address, str) else listen_tcp(*address[:2]) for address in public]
        is_tls = self.toolstack.urls[host_ref].startswith("https:")
        self._serve(host_ref, sockets[0] if sockets else None, is_tls=is_tls)

    # ending

    def stop(self) -> None:
        """End every connection and remove what was temporary. Stopping twice is no error."""
        if self.toolstack is None:
            return
        for host_ref in list(self._listeners):
            self.close_host(host_ref)
        self._listeners = {}
        self.toolstack.stop()
        if self._state:
            self._state.stop()
        if self._scratch:
            self._scratch.remove()
        self.toolstack = None

    def __enter__(self) -> "Simulator":
        if not self.url:
            self.start()
        return self

    def __exit__(self, *_details) -> None:
        self.stop()
