"""What managers of services are made of: construction, hooks, periodic tasks (compute specification §1.1, §1.2)."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from oslo_db import exception as db_exception
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.context import RequestContext, Services
from nova_lite.scheduler.rpcapi import SchedulerAPI

LOG = logging.getLogger(__name__)

IDLE_S = 60.0
# A task that is due this soon is run now, rather than in a pass of its own.
_NEARLY_DUE_S = 0.2
_SPEC = "_periodic_task"


@dataclasses.dataclass(frozen=True)
class PeriodicTask:
    """A declaration: every ``spacing_s`` seconds (0: on every pass)."""

    spacing_s: float
    run_immediately: bool
    enabled: bool
    external_process_ok: bool


def periodic_task(*function: Callable, spacing: float = 0, run_immediately: bool = False, enabled: bool = True,
                  external_process_ok: bool = False, **unknown: Any) -> Callable:
    """Declare a manager's method (self, context) to be run from time to time; bare, or with keywords.

    ``spacing``: seconds between runs, 0 for every pass, negative for never. ``run_immediately``: due on the first
    pass, else first after one spacing. ``external_process_ok``: left out where run_external_periodic_tasks is off.
    Raises InvalidPeriodicTaskArg.
    """
    if unknown:
        raise exception.InvalidPeriodicTaskArg(arg=next(iter(unknown)))
    task = PeriodicTask(spacing, run_immediately, enabled and spacing >= 0, external_process_ok)

    def declare(method: Callable) -> Callable:
        setattr(method, _SPEC, task)
        return method

    return declare(function[0]) if function else declare


class Manager:
    """Base of what a service runs.

    ``services`` is the cell it belongs to; ``host`` and ``db_driver`` override the parts of that record that have
    these names. Hooks run in the order of compute specification §1.3: init_host, pre_start_hook, post_start_hook.
    """

    RPC_API_VERSION = "1.0"

    def __init__(self, host: str | None = None, db_driver: Any = None, *, services: Services | None = None,
                 service_name: str = "undefined"):
        services = services or Services(clock=concurrency.Clock())
        if host is not None:
            services = services.with_(host=host)
        if db_driver is not None:
            services = services.with_(db=db_driver)
        self.services = services
        self.host = services.host or (services.conf.host if services.conf is not None else None)
        self.service_name = service_name
        self.backdoor_port: int | None = None
        self._periodic = PeriodicTasks(self, services)

    @property
    def db(self) -> Any:
        """The cell's database."""
        return self.services.db

    def create_rpc_dispatcher(self) -> Any:
        """What serves this manager's remote methods: look-up by name and version, then the call."""
        from nova_lite.rpc import serializer, server

        return server.Dispatcher([self], self.services, serializer.argument_serializer(),
                                 remembered=self.services.conf.rpc_dedup_size)

    def init_host(self) -> None:
        """Before the service has a record and before messages come in."""

    def pre_start_hook(self, **kwargs: Any) -> None:
        """Once the service has a record, before messages come in."""

    def post_start_hook(self) -> None:
        """Once messages come in."""

    def stop(self) -> None:
        """Messages have stopped coming in; let go of what is held."""

    def reset(self) -> None:
        """The configuration was read again."""

    def periodic_tasks(self, context: RequestContext, raise_on_error: bool = False) -> float:
        """Run every task that is due, once; returns the seconds until there is something to do."""
        return self._periodic.run_due(context, raise_on_error)


class PeriodicTasks:
    """The periodic tasks of one manager object, with the times they last ran."""

    def __init__(self, manager: Manager, services: Services):
        self._manager = manager
        self._clock = services.clock or concurrency.Clock()
        self._tasks = dict(_declared(type(manager)))
        if services.conf is not None and not services.conf.run_external_periodic_tasks:
            self._tasks = {name: task for name, task in self._tasks.items() if not task.external_process_ok}
        started = self._clock.monotonic()
        self._last_run = {name: None if task.run_immediately else started for name, task in self._tasks.items()}

    def run_due(self, context: RequestContext, raise_on_error: bool) -> float:
        idle_for = IDLE_S
        for name, task in self._tasks.items():
            wait_s = self._seconds_until(name, task)
            if wait_s > _NEARLY_DUE_S:
                idle_for = min(idle_for, wait_s)
                continue
            self._last_run[name] = started_s = self._clock.monotonic()
            try:
                getattr(self._manager, name)(context)
            except Exception as error:
                if raise_on_error:
                    raise
                log_failure(f"periodic task {type(self._manager).__name__}.{name}", error)
            self._warn_of_overrun(name, self._clock.monotonic() - started_s)
            if task.spacing_s:
                idle_for = min(idle_for, task.spacing_s)
            concurrency.sleep(0)
        return idle_for

    def _warn_of_overrun(self, name: str, took_s: float) -> None:
        """The tasks of a manager run one after the other: a slow one keeps the rest waiting."""
        if took_s > IDLE_S:
            LOG.warning("Periodic task %s.%s took %.0f s, which all others had to wait for",
                        type(self._manager).__name__, name, took_s)

    def _seconds_until(self, name: str, task: PeriodicTask) -> float:
        last = self._last_run[name]
        if not task.spacing_s or last is None:
            return 0
        return last + task.spacing_s - self._clock.monotonic()


def log_failure(what: str, error: Exception) -> None:
    """Log, from the handler, an error that ends periodic work: in full unless broker or database just are not there."""
    if isinstance(error, exception.RpcError | db_exception.DBConnectionError):
        LOG.warning("%s: %s", what, " ".join(str(error).split()))
    else:
        LOG.exception("%s failed", what)


def _declared(cls: type) -> list[tuple[str, PeriodicTask]]:
    """Names and declarations, base classes first; a subclass replaces by name."""
    found: dict[str, PeriodicTask] = {}
    for ancestor in reversed(inspect.getmro(cls)):
        for name, member in vars(ancestor).items():
            task = getattr(member, _SPEC, None)
            if isinstance(task, PeriodicTask):
                found[name] = task
            elif name in found:
                del found[name]
    return [(name, task) for name, task in found.items() if task.enabled]


class SchedulerDependentManager(Manager):
    """A manager that tells the schedulers what its host can do."""

    def __init__(self, host: str | None = None, db_driver: Any = None, service_name: str = "undefined", *,
                 services: Services | None = None):
        super().__init__(host, db_driver, services=services, service_name=service_name)
        self.last_capabilities: list[dict] | None = None
        self.scheduler_rpcapi = SchedulerAPI(self.services)

    def update_service_capabilities(self, capabilities: dict | list[dict]) -> None:
        """Remember what to tell at the next pass."""
        self.last_capabilities = capabilities if isinstance(capabilities, list) else [capabilities]

    @periodic_task
    def publish_service_capabilities(self, context: RequestContext) -> None:
        """Tell all schedulers what is remembered; nothing when that is nothing."""
        if self.last_capabilities:
            self.scheduler_rpcapi.update_service_capabilities(context, self.service_name, self.host,
                                                              self.last_capabilities)
