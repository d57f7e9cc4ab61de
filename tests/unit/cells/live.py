"""Trees of whole cells in one process: database, CellsManager and its client, recorders for the layers below."""

from nova_lite.cells.manager import CellsManager
from nova_lite.cells.notifier import CellsNotifier
from nova_lite.cells.operations import Route, operation
from nova_lite.cells.rpcapi import CellsAPI
from nova_lite.objects import Flavor, Instance, vm_states
from tests.fixtures.services import database_url, make_database
from tests.unit.cells.tree import Cell, Tree, eventually


@operation(Route.NAMED_CELL, own=True, replies=True)
def long_list(cell, message, count):
    """Return a list of texts."""
    return [f"item {number}" for number in range(count)]


@operation(Route.NAMED_CELL, own=True, replies=True)
def long_text(cell, message, count):
    """Return one text."""
    return "x" * count


class Recorder:
    """Stands for the compute API, host API or console tokens: notes calls, returns or raises what it is told to."""

    def __init__(self):
        self.calls: list[tuple] = []
        self.results: dict[str, object] = {}

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def method(ctxt, *args, **kwargs):
            shown = tuple(arg.uuid if isinstance(arg, Instance) else arg for arg in args)
            self.calls.append((name, shown, kwargs))
            result = self.results.get(name)
            if isinstance(result, Exception):
                raise result
            return result(ctxt, *args, **kwargs) if callable(result) else result

        return method

    def reset(self):
        self.calls.clear()
        self.results.clear()

    def called(self, name):
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


class HostScheduler:
    """Stands for the hand-over to the scheduler of hosts: makes the rows, as it does."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.builds: list[list[str]] = []
        self.kwargs: list[dict] = []
        self.error: Exception | None = None

    def build_instances(self, ctxt, instances, **kwargs):
        if self.error is not None:
            raise self.error
        for template in instances:
            row = Instance(ctxt)
            for name, value in template.items():
                if name not in ("id", "created_at", "updated_at", "deleted", "deleted_at", "cell_name", "revision",
                                "replicated_revision", "fault"):
                    setattr(row, name, value)
            row.vm_state = vm_states.BUILDING
            row.create()
        self.builds.append([instance.uuid for instance in instances])
        self.kwargs.append(kwargs)


class LiveCell(Cell):
    """A cell with everything that belongs to the cells layer."""

    def build(self):
        self.compute, self.hosts, self.tokens, self.scheduler = Recorder(), Recorder(), Recorder(), HostScheduler()
        self.api = CellsAPI(self.services)
        self.services = self.services.with_(
            compute_api=self.compute, host_api=self.hosts, console_tokens=self.tokens, host_scheduler=self.scheduler,
            cells_notifier=CellsNotifier(self.services, self.api))
        self.manager = CellsManager(services=self.services)
        self.state, self.runner = self.manager.state_manager, self.manager.msg_runner

    def start(self):
        self._server = self.rpc.server("cells", [self.manager, *self.manager.additional_endpoints],
                                       server_name=self.services.host, bind=self.services,
                                       serializer=self.manager.serializer)
        self._server.start()
        self.manager.post_start_hook()

    def stop(self):
        self._server.stop()
        self.manager.stop()
        self._server.wait(5)

    def create(self, **values):
        """Insert an instance and return it."""
        instance = Instance(self.context(), **{
            "user_id": "u1", "project_id": "p1", "vm_state": vm_states.ACTIVE, "display_name": "vm",
            "flavor": flavor(), "memory_mb": 512, **values})
        instance.create()
        return instance

    def find(self, uuid):
        """Return the instance as this cell has it, None without one; deleted ones are seen."""
        rows = self.db.instance_get_all_by_uuids(self.context(read_deleted="yes"), [uuid])
        return Instance.get_by_uuid(self.context(read_deleted="yes"), uuid) if rows else None


def flavor(**values):
    return Flavor(**{"id": 2, "name": "m1.tiny", "memory_mb": 512, "vcpus": 1, "root_gb": 1, "ephemeral_gb": 0,
                     "swap": 0, "flavorid": "1", "rxtx_factor": 1.0, "vcpu_weight": None, "disabled": False,
                     "is_public": True, "extra_specs": {}, **values})


class LiveTree(Tree):
    """A tree of live cells."""

    cell_class = LiveCell

    def __init__(self, parents, directory, **kwargs):
        self._directory = directory
        super().__init__(parents, **kwargs)

    def settings(self, name):
        return {("database", "connection"): database_url(self._directory / f"{self.id}-{name}.sqlite")}

    def make_db(self, cell):
        return make_database(cell.conf, self.clock)

    def join(self, parent, child):
        self[parent].db.cell_create(None, self[child].row(is_parent=False))
        self[child].db.cell_create(None, self[parent].row(is_parent=True))

    def know_each_other(self):
        """Wait until every cell knows its full name."""
        eventually(lambda: all(cell.runner.place.full_name() for cell in self))

    def forget(self):
        """Let a test find the recorders empty."""
        for cell in self:
            for recorder in (cell.compute, cell.hosts, cell.tokens):
                recorder.reset()
            cell.scheduler.reset()

    def settle(self):
        """Wait until nothing waits in any outbox."""
        eventually(lambda: all(cell.db.outbox_count(cell.context()) == 0 for cell in self))

    def close(self):
        super().close()
        for cell in self:
            cell.db.dispose()
