"""The simulator as a whole: a pool, its sockets, its control."""

import contextlib
import shutil
import tempfile

from nova_lite.xensim.control import Control, ControlPath
from nova_lite.xensim.handlers import Door, RawDisks, Router, Rpc
from nova_lite.xensim.http import Listener, listen_tcp, listen_unix
from nova_lite.xensim.population import HostPlan, Population, prepare_directory
from nova_lite.xensim.toolstack import Toolstack

PORT_ATTEMPTS = 20


class Simulator:
    """A simulated XenServer pool of one or more hosts.

        with Simulator(hosts=2) as simulator:
            session = XenAPI.Session(simulator.url)
            session.login_with_password(simulator.username, simulator.password)

    `state_dir` keeps disks; without one a temporary directory is used and removed by `stop`. Hosts listen on
    successive loopback addresses (127.0.0.1, 127.0.0.2, ...) with one port, so that a host's `address` and the port
    of the first URL reach any of them.
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
    ):
        self.username = username
        self.password = password
        self.name = name
        self.url = ""
        self.urls: list[str] = []
        self._host_count = hosts
        self._owns_directory = state_dir is None
        self._state_dir = state_dir
        self._plan = plan or HostPlan()
        self._listeners: list[Listener] = []
        self.toolstack: Toolstack | None = None
        self.control: Control | None = None

    def start(self, listen: str = "127.0.0.1:0", tls: bool = False) -> str:
        """Listen on HOST:PORT (port 0: any free one) or on a Unix socket path; return the URL of the first host."""
        sockets, addresses, urls = self._open_sockets(listen, tls)
        directory = prepare_directory(self._state_dir or tempfile.mkdtemp(prefix="xensim-"))
        self.toolstack = Toolstack(directory, username=self.username, password=self.password)
        self.control = Control(self.toolstack)
        names = [f"{self.name}-{number}" if number else self.name for number in range(self._host_count)]
        with self.toolstack.lock:
            Population(self.toolstack, self._plan).install(names, addresses)
            host_refs = list(self.toolstack.db.tables["host"])
        for sock, host_ref in zip(sockets, host_refs, strict=False):
            self._listeners.append(Listener(sock, self._router(host_ref).handle))
        for listener in self._listeners:
            listener.start()
        self.urls, self.url = urls, urls[0]
        return self.url

    def _open_sockets(self, listen: str, tls: bool):
        if "/" in listen:
            return [listen_unix(listen)], ["127.0.0.1"] * self._host_count, ["http://" + listen.replace("/", "_") + "/"]
        host, _, port = listen.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        for attempt in range(PORT_ATTEMPTS):
            with contextlib.ExitStack() as undo:
                try:
                    return self._listen_all(host, int(port), undo)
                except OSError:
                    if int(port) or attempt == PORT_ATTEMPTS - 1:
                        raise
        raise OSError("no port is free on all addresses")

    def _listen_all(self, host: str, port: int, undo: contextlib.ExitStack):
        sockets, addresses = [], []
        first, _, last = host.rpartition(".")
        for number in range(self._host_count):
            is_loopback = host.startswith("127.")
            own_host = f"{first}.{int(last) + number}" if is_loopback and number else host
            own_port = port if is_loopback or not port else port + number
            sock = listen_tcp(own_host, own_port)
            undo.callback(sock.close)
            port = port or sock.getsockname()[1]
            sockets.append(sock)
            addresses.append(own_host if is_loopback else f"{own_host}:{sock.getsockname()[1]}")
        urls = [f"http://{self._bracketed(sock.getsockname()[0])}:{sock.getsockname()[1]}" for sock in sockets]
        undo.pop_all()
        return sockets, addresses, urls

    @staticmethod
    def _bracketed(host: str) -> str:
        return f"[{host}]" if ":" in host else host

    def _router(self, host_ref: str) -> Router:
        router = Router(self.toolstack, host_ref)
        door = Door(self.toolstack)
        for handler in (Rpc(self.toolstack), RawDisks(self.toolstack, door), ControlPath(self.control, door)):
            handler.register(router)
        return router

    def stop(self) -> None:
        """End every connection and remove what was temporary. Stopping twice is no error."""
        for listener in self._listeners:
            listener.stop()
        self._listeners = []
        if self.toolstack:
            self.toolstack.stop()
            if self._owns_directory:
                shutil.rmtree(self.toolstack.directory, ignore_errors=True)
            self.toolstack = None

    def __enter__(self) -> "Simulator":
        if not self.url:
            self.start()
        return self

    def __exit__(self, *_details) -> None:
        self.stop()
