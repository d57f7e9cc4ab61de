"""The life of a service: strict start, heartbeat, periodic tasks, graceful stop (compute specification §1.3)."""

import dataclasses
import importlib.metadata
import random
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_lite import concurrency, context, exception, manager, servicegroup
from nova_lite.context import RequestContext, Services

LOG = logging.getLogger(__name__)

_RETRY_FIRST_S = 0.5
_RETRY_MOST_S = 5.0
_BLOCKED_START_S = 5.0
_LEAST_STEP_S = 1.0  # what each step of a stop has, however long those before it took


class Stopped(Exception):
    """The service was told to stop while it was starting."""


@dataclasses.dataclass
class Part:
    """A manager and the topic it is served on.

    A manager's ``additional_endpoints`` are served beside it, with its ``serializer`` if it has one. ``post_start``
    stands in for its post_start_hook.
    """

    manager: Any
    topic: str
    services: Services
    post_start: Callable[[], None] | None = None
    server: Any = None

    def hook(self, name: str, **arguments: Any) -> None:
        """Call a hook of the manager if it has it."""
        function = getattr(self.manager, name, None)
        if function is not None:
            function(**arguments)

    def serve(self, host: str) -> None:
        """Begin to take messages."""
        endpoints = [self.manager, *getattr(self.manager, "additional_endpoints", ()), BaseEndpoint(self.topic)]
        server = self.services.rpc.server(self.topic, endpoints, server_name=host, bind=self.services,
                                          serializer=getattr(self.manager, "serializer", None))
        server.start()
        self.server = server

    def announce(self) -> None:
        """Do what comes once messages are taken."""
        self.post_start() if self.post_start else self.hook("post_start_hook")


class BaseEndpoint:
    """What every server answers: namespace baseapi 1.1."""

    namespace = "baseapi"
    version = "1.1"
    remote_methods = frozenset(("ping", "get_backdoor_port"))

    def __init__(self, service: str):
        self._service = service

    def ping(self, ctxt: RequestContext, arg: Any) -> dict[str, Any]:
        """Say that the service is there."""
        return {"service": self._service, "arg": arg}

    def get_backdoor_port(self, ctxt: RequestContext) -> None:
        """There is no debugging console."""


class Service:
    """One daemon's work in this process; its constructor does nothing, so that it can be built anywhere.

    ``assemble(conf)`` gives the collaborators; ``compose(services)`` the parts, the first of which the service record
    and the hooks are about.
    """

    def __init__(self, conf: cfg.ConfigOpts, *, binary: str, topic: str, assemble: Callable[[cfg.ConfigOpts], Services],
                 compose: Callable[[Services], list[Part]]):
        self.conf = conf
        self.binary = binary
        self.topic = topic
        self.host = conf.host
        self.services: Services | None = None
        self.parts: list[Part] = []
        self._assemble = assemble
        self._compose = compose
        self._life = threading.Lock()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._tasks: list[concurrency.Task] = []

    @property
    def manager(self) -> Any:
        """The manager the service is about; None before it started."""
        return self.parts[0].manager if self.parts else None

    # --- Start ---

    def start(self) -> None:
        """Come up; returns when messages are served.

        Waits, with one line in the log, while database, broker or hypervisor are not there. Raises
        ConfigurationError for what waiting will not change, and Stopped when stop() was called meanwhile.
        """
        with self._life:
            self._check_not_stopping()
            LOG.info("%s %s starts on host %s", self.binary, importlib.metadata.version("nova-lite"), self.host)
            _check_temporary_directory()
            self.services = self._assemble(self.conf)
            self._wait_for("the database", self._use_database)
            self._wait_for("the message broker", self.services.rpc.check)
            self.parts = self._wait_for("the hypervisor", lambda: self._compose(self.services))
            for part in self.parts:
                self._wait_for("the hypervisor", lambda part=part: part.hook("init_host"))
            self._register()
            for part in self.parts:
                part.hook("pre_start_hook")
            self._check_not_stopping()
            for part in self.parts:
                self._wait_for("the message broker", lambda part=part: part.serve(self.host))
            for part in self.parts:
                self._wait_for("the message broker", part.announce)
            self._tasks = [concurrency.spawn(self._beat)]
            if self.conf.periodic_enable:
                self._tasks += [concurrency.spawn(self._run_periodic_tasks, part) for part in self.parts
                                if hasattr(part.manager, "periodic_tasks")]
            LOG.info("%s on host %s is up", self.binary, self.host)

    def _wait_for(self, what: str, attempt: Callable[[], Any]) -> Any:
        """The attempt's result, once what it needs is there. Told once, and again when the reason changes."""
        delay_s, told = _RETRY_FIRST_S, None
        while True:
            self._check_not_stopping()
            try:
                result = attempt()
            except Exception as error:
                if _is_refused(error):
                    raise exception.ConfigurationError(reason=_first_line(error)) from None
                if not _may_come_back(error):
                    raise
                reason = _first_line(error)
                if reason != told:
                    LOG.warning("waiting for %s: %s", what, reason)
                    told = reason
            else:
                if told:
                    LOG.warning("%s is there", what)
                return result
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MOST_S)

    def _use_database(self) -> None:
        self.services.db.ping()
        if not self.services.db.schema_is_current():
            raise exception.DatabaseNotReady(reason="its schema is not current; run nova-manage db sync")

    def _check_not_stopping(self) -> None:
        if self._stopping.is_set():
            raise Stopped(f"{self.binary} on host {self.host} was told to stop")

    def _register(self) -> None:
        """Have a record in the table of services."""
        if self._record() is None:
            self.services.db.service_create(self._admin_context(), {
                "host": self.host, "binary": self.binary, "topic": self.topic, "report_count": 0,
                "disabled": not self.conf.enable_new_services})

    def _record(self) -> Any:
        try:
            return self.services.db.service_get_by_args(self._admin_context(), self.host, self.binary)
        except exception.HostBinaryNotFound:
            return None

    def _admin_context(self) -> RequestContext:
        return context.get_admin_context().bind(self.services)

    # --- What goes on while it is up ---

    def _beat(self) -> None:
        heartbeat = servicegroup.API(self.services).join(self.host, self.binary)
        while True:
            heartbeat.beat()
            if self._stopping.wait(self.conf.report_interval):
                return

    def _run_periodic_tasks(self, part: Part) -> None:
        fuzz_s = self.conf.periodic_fuzzy_delay
        idle_s = random.uniform(0, fuzz_s) if fuzz_s else 0
        while not self._stopping.wait(idle_s):
            ctxt = context.get_admin_context().bind(part.services)
            try:
                idle_s = part.manager.periodic_tasks(ctxt)
            except Exception as error:
                idle_s = manager.IDLE_S
                manager.log_failure(f"periodic tasks on topic {part.topic}", error)

    def reset(self) -> None:
        """Read the configuration files again; options that can change while running do."""
        LOG.info("%s on host %s reads its configuration again", self.binary, self.host)
        try:
            self.conf.mutate_config_files()
        except (cfg.Error, ValueError, OSError) as error:
            LOG.error("the configuration was not changed: %s", _first_line(error))
            return
        for part in self.parts:
            part.hook("reset")

    # --- Stop ---

    def stop(self, timeout: float | None = None) -> bool:
        """Take no more work, let what is being done end within ``timeout`` seconds (graceful_shutdown_timeout).

        That is the time of all steps together; what does not end then is left to the end of the process. Returns
        whether all of it ended. May be called while start() waits, and again.
        """
        self._stopping.set()
        limit_s = self.conf.graceful_shutdown_timeout if timeout is None else timeout
        # A start that is blocked in a library, for a broker that went away, does not hold up the stop.
        alone = self._life.acquire(timeout=_BLOCKED_START_S)
        try:
            return self._stop_once(limit_s)
        finally:
            if alone:
                self._life.release()

    def _stop_once(self, limit_s: float) -> bool:
        if self._stopped.is_set():
            return True
        drained = self._stop_parts(limit_s)
        if self.services is not None:
            _try("close messaging", self.services.rpc.close)
            _try("close the database", self.services.db.dispose)
        self._stopped.set()
        LOG.info("%s on host %s has stopped", self.binary, self.host)
        return drained

    def _stop_parts(self, limit_s: float) -> bool:
        deadline_s = time.monotonic() + limit_s

        def left_s() -> float:
            return max(_LEAST_STEP_S, deadline_s - time.monotonic())

        serving = [part.server for part in self.parts if part.server is not None]
        _all_at_once("stop taking messages", [server.stop for server in serving])
        drained = all(_all_at_once("wait for work in flight", [lambda s=s: s.wait(limit_s) for s in serving]))
        managers = [lambda p=part: p.hook("stop") for part in self.parts]
        _all_at_once("stop the manager", managers, left_s())
        for task in self._tasks:
            _ended("let periodic work end", task, left_s())
        return drained

    def kill(self) -> None:
        """Stop at once, and take the record out of the table of services."""
        self.stop(timeout=0)
        if self.services is not None:
            _try("delete the service record", self._unregister)

    def _unregister(self) -> None:
        if row := self._record():
            self.services.db.service_destroy(self._admin_context(), row["id"])
        self.services.db.dispose()

    def wait(self) -> None:
        """Return when the service has stopped."""
        self._stopped.wait()


def _check_temporary_directory() -> None:
    try:
        with tempfile.TemporaryFile() as probe:
            probe.write(b"x")
    except OSError as error:
        raise exception.ConfigurationError(
            reason=f"no temporary file can be written in {tempfile.gettempdir()}: {error.strerror}") from None


def _may_come_back(error: Exception) -> bool:
    """Whether waiting can help: something outside does not answer, or is not set up yet."""
    from oslo_db import exception as db_exception

    if isinstance(error, exception.RpcTimeout | exception.RpcUnavailable | db_exception.DBConnectionError
                  | exception.DatabaseNotReady):
        return True
    from nova_lite.virt import driver

    return isinstance(error, driver.HypervisorUnavailable)


def _is_refused(error: Exception) -> bool:
    """Whether user or password are wrong: logging in again and again could lock the account."""
    from nova_lite.virt import driver

    return isinstance(error, driver.HypervisorLoginRefused)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _ended(what: str, task: concurrency.Task, limit_s: float | None) -> Any:
    """The task's result; None when it has not ended in time, or has failed."""
    try:
        return task.wait(limit_s)
    except concurrency.TimeLimitExceeded:
        LOG.warning("could not %s within %.0f s", what, limit_s)
    except Exception:
        LOG.exception("could not %s", what)
    return None


def _all_at_once(what: str, functions: list[Callable], limit_s: float | None = None) -> list[Any]:
    tasks = [concurrency.spawn(_try, what, function) for function in functions]
    return [_ended(what, task, limit_s) for task in tasks]


def _try(what: str, function: Callable) -> Any:
    """Stopping goes on whatever one of its steps meets."""
    try:
        return function()
    except Exception:
        LOG.exception("could not %s", what)
        return None
