import pytest

from nova_lite import conf as configuration
from nova_lite import context, exception, manager


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def build(cls, **overrides):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                              overrides={(None, name): value for name, value in overrides.items()})
    clock = Clock()
    made = cls(services=context.Services(conf=conf, host="h1", clock=clock))
    made.clock = clock
    made.ran = []
    return made


class Worker(manager.Manager):
    @manager.periodic_task
    def every_pass(self, ctxt):
        self.ran.append("every_pass")

    @manager.periodic_task(spacing=30)
    def each_30(self, ctxt):
        self.ran.append("each_30")

    @manager.periodic_task(spacing=10, run_immediately=True)
    def at_once(self, ctxt):
        self.ran.append("at_once")

    @manager.periodic_task(spacing=-1)
    def never(self, ctxt):
        self.ran.append("never")

    @manager.periodic_task(enabled=False)
    def off(self, ctxt):
        self.ran.append("off")

    @manager.periodic_task(external_process_ok=True)
    def elsewhere(self, ctxt):
        self.ran.append("elsewhere")


def test_a_pass_runs_what_is_due_and_tells_how_long_to_idle():
    worker = build(Worker)

    assert worker.periodic_tasks(None) == 10
    assert worker.ran == ["every_pass", "at_once", "elsewhere"]

    worker.ran.clear()
    worker.clock.now += 9
    assert worker.periodic_tasks(None) == 1
    assert worker.ran == ["every_pass", "elsewhere"]

    worker.ran.clear()
    worker.clock.now += 20.9
    assert worker.periodic_tasks(None) == 10
    assert worker.ran == ["every_pass", "each_30", "at_once", "elsewhere"]


def test_a_manager_without_tasks_idles_for_a_minute():
    assert build(manager.Manager).periodic_tasks(None) == 60


def test_a_failing_task_does_not_stop_the_others(caplog):
    class Failing(Worker):
        @manager.periodic_task
        def every_pass(self, ctxt):
            raise ZeroDivisionError("x")

    worker = build(Failing)

    worker.periodic_tasks(None)
    assert worker.ran == ["at_once", "elsewhere"]
    with pytest.raises(ZeroDivisionError):
        worker.periodic_tasks(None, raise_on_error=True)


def test_a_subclass_changes_its_own_tasks_only():
    class Calm(Worker):
        @manager.periodic_task(spacing=5)
        def every_pass(self, ctxt):
            self.ran.append("calm")

        def elsewhere(self, ctxt):
            self.ran.append("not periodic any more")

    calm, plain = build(Calm), build(Worker)
    calm.periodic_tasks(None)
    plain.periodic_tasks(None)

    assert calm.ran == ["at_once"]
    assert plain.ran == ["every_pass", "at_once", "elsewhere"]


def test_tasks_an_external_process_may_do_are_left_out_where_it_does_them():
    worker = build(Worker, run_external_periodic_tasks=False)

    worker.periodic_tasks(None)

    assert "elsewhere" not in worker.ran


def test_an_old_argument_is_refused():
    with pytest.raises(exception.InvalidPeriodicTaskArg) as caught:
        manager.periodic_task(ticks_between_runs=1)

    assert caught.value.kwargs["arg"] == "ticks_between_runs"


def test_host_and_database_given_to_a_manager_win():
    made = manager.Manager(host="other", db_driver="db", services=context.Services(host="h1"))

    assert (made.host, made.db, made.services.host) == ("other", "db", "other")
