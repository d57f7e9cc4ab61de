"""The pool's toolstack: the composition of tables, rules, files and behaviour, shared by all its hosts."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from nova_lite.xensim.availability import Availability
from nova_lite.xensim.blobs import Blobs
from nova_lite.xensim.bonds import Bonds
from nova_lite.xensim.certificates import Certificates
from nova_lite.xensim.change_tracking import ChangeTracking
from nova_lite.xensim.collector import Collector
from nova_lite.xensim.consoles import Consoles
from nova_lite.xensim.database_replicas import DatabaseReplicas
from nova_lite.xensim.db import Database
from nova_lite.xensim.devices import Vbds, Vifs
from nova_lite.xensim.directory import Directory
from nova_lite.xensim.dispatch import Dispatcher, is_null
from nova_lite.xensim.dom0 import Dom0
from nova_lite.xensim.domains import Domains
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.events import Events, Messages
from nova_lite.xensim.extensions import Extensions
from nova_lite.xensim.faults import Faults
from nova_lite.xensim.graphics import Graphics
from nova_lite.xensim.guests import Guests
from nova_lite.xensim.host_services import HostServices
from nova_lite.xensim.hosts import Hosts, Pools
from nova_lite.xensim.images import ImageStore
from nova_lite.xensim.iscsi import Iscsi
from nova_lite.xensim.joining import Joining
from nova_lite.xensim.metrics import DataSources
from nova_lite.xensim.migration import Migration
from nova_lite.xensim.model import load_schema
from nova_lite.xensim.networks import Networks
from nova_lite.xensim.noun import Caller, GenericCalls, Noun
from nova_lite.xensim.operations import Operations
from nova_lite.xensim.pool_services import PoolServices
from nova_lite.xensim.power import Power
from nova_lite.xensim.probes import Probes
from nova_lite.xensim.repositories import Repositories
from nova_lite.xensim.roles import Roles
from nova_lite.xensim.sessions import Secrets, Sessions
from nova_lite.xensim.tasks import Tasks
from nova_lite.xensim.updates import Updates
from nova_lite.xensim.vdis import Vdis
from nova_lite.xensim.vm_copies import VmCopies
from nova_lite.xensim.vm_services import VmServices
from nova_lite.xensim.vms import Vms
from nova_lite.xensim.vtpms import Vtpms
from nova_lite.xensim.workload_balancing import WorkloadBalancing

# Nouns that no other part asks for anything.
STANDALONE = (
    Secrets,
    DataSources,
    Migration,
    Bonds,
    DatabaseReplicas,
    PoolServices,
    Updates,
    VmServices,
    WorkloadBalancing,
    Joining,
)


class Toolstack:
    """Everything behind the sockets of one pool.

    `lock` is held while a call runs. `unlocked` and `wait` give it up where XenServer would let others work.
    """

    def __init__(
        self,
        directory: str,
        *,
        username: str,
        password: str,
        faults: Faults | None = None,
        plugin_directory: str | None = None,
    ):
        self.directory = directory
        self.username = username
        self.password = password
        self.pool_secret = str(uuid.uuid4())
        self.schema = load_schema()
        self.lock = threading.Lock()
        self.db = Database(self.schema, self.lock)
        self.faults = faults or Faults()
        self.images = ImageStore(os.path.join(directory, "sr"))
        self.is_stopping = False
        self.joined_to = ""  # address of the master, once this pool's only host has joined another pool
        self.urls: dict[str, str] = {}  # of each host
        self.dead_hosts: set[str] = set()  # hosts without power
        self.generic = GenericCalls(self)
        self.operations = Operations(self)
        self.roles = Roles(self)
        self.people = Directory(self)
        self.sessions = Sessions(self)
        self.tasks = Tasks(self)
        self.events = Events(self)
        self.messages = Messages(self)
        self.collector = Collector(self)
        self.change_tracking = ChangeTracking(self)
        self.iscsi = Iscsi(self)
        self.probes = Probes(self)
        self.repositories = Repositories(self)
        self.vdis = Vdis(self)
        self.vbds = Vbds(self)
        self.vifs = Vifs(self)
        self.domains = Domains(self)
        self.guests = Guests(self)
        self.dom0 = Dom0(self, plugin_directory)
        self.blobs = Blobs(self)
        self.vtpms = Vtpms(self)
        self.graphics = Graphics(self)
        self.vms = Vms(self)
        self.vm_copies = VmCopies(self)
        self.power = Power(self)
        self.networks = Networks(self)
        self.availability = Availability(self)
        self.hosts = Hosts(self)
        self.host_services = HostServices(self)
        self.certificates = Certificates(self)
        self.extensions = Extensions(self)
        self.pools = Pools(self)
        self.consoles = Consoles(self)
        own = [each for each in vars(self).values() if isinstance(each, Noun)]
        nouns = [*own, *(noun(self) for noun in STANDALONE)]
        self.dispatcher = Dispatcher(self, nouns)

    @property
    def pool_ref(self) -> str:
        return next(iter(self.db.tables["pool"]))

    @property
    def master_ref(self) -> str:
        return self.db.get("pool", self.pool_ref, "master")

    def promote(self, host_ref: str) -> None:
        """Make another host the master; sessions are lost. Expects the lock."""
        self.db.set("pool", self.pool_ref, master=host_ref)
        self.sessions.end_all()

    def restart(self) -> None:
        """Forget what a toolstack does not keep: sessions, tasks, running operations. Expects the lock."""
        self.sessions.end_all()
        for task in self.db.rows("task"):
            self.db.destroy("task", task.ref)
        for class_name, described in self.schema.classes.items():
            if described.has_table and "current_operations" in described.fields:
                for row in self.db.rows(class_name):
                    self.db.set(class_name, row.ref, current_operations={})
        self.operations.refresh()

    @contextlib.contextmanager
    def unlocked(self) -> Iterator[None]:
        """Let other calls run while this one works on files or waits."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def wait(self, seconds: float, caller: Caller, is_over: Callable[[], bool] = lambda: False) -> None:
        """Wait with the lock given up. Raises TASK_CANCELLED when the caller's task is cancelled meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.is_stopping and not is_over():
            self.check_cancelled(caller)
            self.db.changed.wait(left)
        self.check_cancelled(caller)

    def linger(self, seconds: float, caller: Caller) -> None:
        """Wait as long as planted delays and the latency ask, or until all that is planted is forgotten."""
        cleared = self.faults.times_cleared
        self.wait(seconds, caller, lambda: self.faults.times_cleared != cleared)

    def check_cancelled(self, caller: Caller) -> None:
        """Raise TASK_CANCELLED when the caller's task was asked to stop."""
        if not is_null(caller.task_ref) and self.tasks.is_cancelled(caller.task_ref):
            raise ApiError("TASK_CANCELLED", caller.task_ref)

    def slow_down(self, size: int) -> None:
        """Take as long as a slow disk would for this many bytes. Call it unlocked."""
        if self.faults.disk_bytes_per_s:
            time.sleep(size / self.faults.disk_bytes_per_s)

    def stop(self) -> None:
        """Wake everything that waits, so that it ends."""
        with self.lock:
            self.is_stopping = True
            self.db.changed.notify_all()
        self.collector.stop()
        self.dom0.stop()
