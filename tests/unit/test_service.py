"""The life of a service, with small parts on the in-process transport."""

import itertools
import threading

import oslo_messaging
import pytest
from oslo_db import exception as db_exception

from nova_lite import concurrency, context, exception, manager, rpc
from nova_lite import conf as configuration
from nova_lite.rpc import server
from nova_lite.service import lifecycle

_NUMBERS = itertools.count()


class ServiceTable:
    """The database as the life of a service uses it, with ways to be away."""

    def __init__(self):
        self.rows = {}
        self.trouble = []
        self.beats = threading.Event()
        self.closed = False

    def ping(self):
        if self.trouble:
            raise self.trouble.pop(0)

    def schema_is_current(self):
        return True

    def service_get_by_args(self, ctxt, host, binary):
        try:
            return self.rows[host, binary]
        except KeyError:
            raise exception.HostBinaryNotFound(host=host, binary=binary) from None

    def service_create(self, ctxt, values):
        self.rows[values["host"], values["binary"]] = {"id": len(self.rows) + 1, **values}

    def service_update(self, ctxt, row_id, values):
        next(row for row in self.rows.values() if row["id"] == row_id).update(values)
        self.beats.set()

    def service_destroy(self, ctxt, row_id):
        self.rows = {key: row for key, row in self.rows.items() if row["id"] != row_id}

    def dispose(self):
        self.closed = True


class Worker(manager.Manager):
    remote_methods = {"work"}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.history = []
        self.ticked = threading.Event()
        self.working = threading.Event()
        self.release = threading.Event()

    def init_host(self):
        self.history.append(("init_host", dict(self.db.rows)))

    def pre_start_hook(self, **kwargs):
        self.history.append(("pre_start_hook", set(self.db.rows)))

    def post_start_hook(self):
        self.history.append(("post_start_hook", None))

    def stop(self):
        self.history.append(("stop", None))

    def reset(self):
        self.history.append(("reset", None))

    def work(self, ctxt):
        self.working.set()
        self.release.wait(10)
        self.history.append(("worked", None))

    @manager.periodic_task(run_immediately=True)
    def tick(self, ctxt):
        self.ticked.set()


class World:
    def __init__(self, **overrides):
        options = {"transport_url": f"memory://service/{next(_NUMBERS)}", "host": "h1", "periodic_fuzzy_delay": 0,
                   "report_interval": 1, **overrides}
        self.conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                                       overrides={(None, name): value for name, value in options.items()})
        self.db = ServiceTable()
        self.service = lifecycle.Service(self.conf, binary="nova-test", topic="work", assemble=self._assemble,
                                         compose=self._compose)
        self.worker = None

    def _assemble(self, conf):
        clock = concurrency.Clock()
        return context.Services(conf=conf, host=conf.host, clock=clock, db=self.db, rpc=rpc.Rpc(conf, clock=clock))

    def _compose(self, services):
        self.worker = Worker(services=services)
        return [lifecycle.Part(self.worker, "work", services)]


@pytest.fixture
def world():
    made = []

    def make(**overrides):
        made.append(World(**overrides))
        return made[-1]

    yield make
    for one in made:
        if one.worker:
            one.worker.release.set()
        one.service.stop()


@pytest.mark.parametrize("met", [ConnectionResetError("Connection reset by peer"), BrokenPipeError(),
                                 oslo_messaging.MessageDeliveryFailure("away")])
def test_a_broker_that_goes_away_while_the_service_starts_is_waited_for(world, monkeypatch, caplog, met):
    one = world()
    create, failures = server._LibraryServer._create_listener, [met]

    def create_listener(self):
        if failures:
            raise failures.pop()
        return create(self)

    monkeypatch.setattr(server._LibraryServer, "_create_listener", create_listener)

    one.service.start()

    client = rpc.Rpc(one.conf).client("work", namespace="baseapi")
    assert client.call(context.RequestContext("u"), "ping", arg=1)["arg"] == 1
    assert "waiting for the message broker" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_service_starts_in_strict_order(world):
    one = world()

    one.service.start()

    assert one.worker.history == [("init_host", {}), ("pre_start_hook", {("h1", "nova-test")}),
                                  ("post_start_hook", None)]
    assert one.db.rows["h1", "nova-test"]["disabled"] is False


def test_it_answers_and_beats_and_runs_periodic_tasks(world):
    one = world()

    one.service.start()

    client = rpc.Rpc(one.conf).client("work", namespace="baseapi")
    assert client.call(context.RequestContext("u"), "ping", arg=3) == {"service": "work", "arg": 3}
    assert one.db.beats.wait(5)
    assert one.worker.ticked.wait(5)


def test_new_services_can_start_disabled(world):
    one = world(enable_new_services=False)

    one.service.start()

    assert one.db.rows["h1", "nova-test"]["disabled"] is True


def test_a_record_that_is_there_is_kept(world):
    one = world()
    one.db.rows["h1", "nova-test"] = {"id": 7, "report_count": 9, "disabled": True}

    one.service.start()

    assert one.db.rows["h1", "nova-test"]["id"] == 7
    assert one.db.rows["h1", "nova-test"]["disabled"] is True


def test_it_waits_for_a_database_with_one_line(world, caplog):
    one = world()
    one.db.trouble = [db_exception.DBConnectionError(Exception("refused")) for _ in range(2)]

    one.service.start()

    waiting = [record.message for record in caplog.records if "the database" in record.message]
    assert len(waiting) == 2
    assert "refused" in waiting[0]
    assert waiting[1] == "the database is there"


def test_what_waiting_will_not_change_is_raised(world):
    one = world()
    one.db.trouble = [exception.ConfigurationError(reason="no such database")]

    with pytest.raises(exception.ConfigurationError):
        one.service.start()


def test_it_can_be_stopped_while_it_waits(world):
    one = world()
    one.db.trouble = [exception.DatabaseNotReady(reason="run nova-manage db sync")] * 1000
    starting = concurrency.spawn(one.service.start)

    one.service.stop()

    with pytest.raises(lifecycle.Stopped):
        starting.wait(10)
    assert one.worker is None


def test_C38_stopping_lets_work_in_flight_end(world):
    one = world()
    one.service.start()
    rpc.Rpc(one.conf).client("work").cast(context.RequestContext("u"), "work")
    assert one.worker.working.wait(5)

    stopping = concurrency.spawn(one.service.stop)
    one.worker.release.set()

    assert stopping.wait(10) is True
    assert [name for name, _ in one.worker.history][-2:] == ["worked", "stop"]
    assert one.db.closed
    one.service.wait()


def test_stopping_gives_up_after_its_time(world):
    one = world()
    one.service.start()
    rpc.Rpc(one.conf).client("work").cast(context.RequestContext("u"), "work")
    assert one.worker.working.wait(5)

    assert one.service.stop(timeout=0.1) is False


def test_killing_takes_the_record_away(world):
    one = world()
    one.service.start()

    one.service.kill()

    assert one.db.rows == {}


def test_reset_reaches_the_manager(world):
    one = world()
    one.service.start()

    one.service.reset()

    assert ("reset", None) in one.worker.history


def test_several_services_live_in_one_process(world):
    first, second = world(), world(host="h2")

    first.service.start()
    second.service.start()
    first.service.stop()

    client = rpc.Rpc(second.conf).client("work", namespace="baseapi")
    assert client.call(context.RequestContext("u"), "ping", arg=1)["arg"] == 1
