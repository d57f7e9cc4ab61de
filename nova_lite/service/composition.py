"""What a cell's services are made of. Parts that a process does not need are not imported."""

from typing import Any

from oslo_config import cfg

from nova_lite import concurrency, context, exception
from nova_lite.context import NullCellsNotifier, RequestContext, Services
from nova_lite.service.lifecycle import Part, Service


def assemble(conf: cfg.ConfigOpts) -> Services:
    """The collaborators every part of a cell needs. Connects to nothing. Raises ConfigurationError."""
    from nova_lite import image, network, rpc, volume
    from nova_lite.db.api import Database

    if (conf.database.connection or "").startswith("postgresql"):
        concurrency.use_psycopg2()
    clock = concurrency.Clock()
    messaging = rpc.Rpc(conf, clock=clock)
    services = Services(conf=conf, host=conf.host, clock=clock, rpc=messaging,
                        db=Database(conf, clock, host=conf.host),
                        notifier=_notifier(conf, messaging), cells_notifier=NullCellsNotifier(),
                        image_api=image.load(conf), network_api=network.load(conf), volume_api=volume.load(conf))
    if conf.cells.enable:
        services = services.with_(cells_notifier=_cells_notifier(services))
    return services


def _notifier(conf: cfg.ConfigOpts, messaging: Any) -> Any:
    """None when nobody wants notifications, so that none are made up."""
    wanted = [driver for driver in conf.oslo_messaging_notifications.driver if driver != "noop"]
    return messaging.notifier(conf.default_publisher_id) if wanted else None


def _cells_notifier(services: Services) -> Any:
    from nova_lite.cells.notifier import CellsNotifier
    from nova_lite.cells.rpcapi import CellsAPI

    return CellsNotifier(services, CellsAPI(services))


# --- nova-cells ---

def build_cells_service(conf: cfg.ConfigOpts) -> Service:
    """What nova-cells does: the cell's way to other cells, its scheduler, and console tokens where it is the top."""
    return Service(conf, binary="nova-cells", topic=conf.cells.topic, assemble=assemble, compose=_cells_parts)


def _cells_parts(services: Services) -> list[Part]:
    from nova_lite.cells import utils
    from nova_lite.console.tokens import ConsoleTokens
    from nova_lite.scheduler.handover import HostScheduler

    conf = services.conf
    tokens = ConsoleTokens(services)
    services = _with_compute_api(services.with_(console_tokens=tokens))
    services = services.with_(host_scheduler=HostScheduler(services))  # it writes rows by the compute API
    cells_manager = utils.load_class(conf.cells.manager)(services=services)
    parts = [Part(cells_manager, conf.cells.topic, services), _scheduler_part(services)]
    if not services.db.has_parents(context.get_admin_context().bind(services)):
        parts.append(Part(tokens, conf.consoleauth_topic, services))
    return parts


def _scheduler_part(services: Services) -> Part:
    from oslo_utils import importutils

    manager = importutils.import_class(services.conf.scheduler_manager)(services=services)
    return Part(manager, services.conf.scheduler_topic, services,
                post_start=lambda: manager.post_start_hook(context.get_admin_context().bind(services)))


# --- nova-compute ---

def build_compute_service(conf: cfg.ConfigOpts, *, driver: Any = None) -> Service:
    """What nova-compute does: the instances of one host. ``driver``: a hypervisor driver that is built already."""
    def compose(services: Services) -> list[Part]:
        return _compute_parts(services, driver)

    return Service(conf, binary="nova-compute", topic=conf.compute_topic, assemble=assemble, compose=compose)


def _compute_parts(services: Services, driver: Any) -> list[Part]:
    from oslo_utils import importutils

    services = _with_compute_api(services)
    manager = importutils.import_class(services.conf.compute_manager)(driver, services=services)
    return [Part(manager, services.conf.compute_topic, services)]


# --- The library that stands in for an API service ---

class Api:
    """The user-level API of a cell as a library: for commands, the demo and tests.

    ``compute_api`` is the API cell's where cells are on and this is one; ``cells_api`` is the client of nova-cells.
    """

    def __init__(self, services: Services, *, compute_api: Any, host_api: Any, action_api: Any, cells_api: Any):
        self.services = services
        self.compute_api = compute_api
        self.host_api = host_api
        self.action_api = action_api
        self.cells_api = cells_api

    def context(self, **values: Any) -> RequestContext:
        """A request context in this cell; keywords as of RequestContext."""
        return RequestContext(**values).bind(self.services)

    def close(self) -> None:
        """Give up connections."""
        self.services.rpc.close()
        self.services.db.dispose()


def build_api(conf: cfg.ConfigOpts) -> Api:
    """The API library of the cell that ``conf`` describes. Connects when it is used. Raises ConfigurationError."""
    from nova_lite.cells.rpcapi import CellsAPI

    services = assemble(conf)
    cells_api = CellsAPI(services)
    if conf.cells.enable and conf.cells.cell_type == "api" and not _is_alone_with_hosts(services):
        return _api_of_an_api_cell(services, cells_api)
    return _api_of_a_compute_cell(services, cells_api)


def _is_alone_with_hosts(services: Services) -> bool:
    """Tell whether this is a tree of one cell, whose instances live here whatever the cell's type says."""
    from oslo_db import exception as db_exception

    admin = context.get_admin_context().bind(services)
    try:
        alone = not services.db.cell_get_all(admin)
        return alone and bool(services.db.service_get_all_by_binary(admin, "nova-compute", include_disabled=True))
    except (db_exception.DBError, exception.NovaException):  # told when the database is used
        return False


def _api_of_an_api_cell(services: Services, cells_api: Any) -> Api:
    from nova_lite.compute import cells_api as api_cell
    from nova_lite.console.tokens import ConsoleTokens

    services = services.with_(console_tokens=ConsoleTokens(services))
    services = services.with_(compute_api=api_cell.ComputeCellsAPI(services, cells_api),
                              host_api=api_cell.HostAPI(services, cells_api))
    return Api(services, compute_api=services.compute_api, host_api=services.host_api, cells_api=cells_api,
               action_api=api_cell.InstanceActionAPI(services, cells_api))


def _api_of_a_compute_cell(services: Services, cells_api: Any) -> Api:
    from nova_lite.console.tokens import ConsoleTokens
    from nova_lite.scheduler.handover import HostScheduler

    services = _with_compute_api(services.with_(console_tokens=ConsoleTokens(services)))
    services = services.with_(host_scheduler=HostScheduler(services))
    return Api(services, compute_api=services.compute_api, host_api=services.host_api, cells_api=cells_api,
               action_api=_beside_compute_api(services.conf, "InstanceActionAPI")(services))


def _with_compute_api(services: Services) -> Services:
    """Add the user-level API of a cell with hosts: compute_api_class, and the HostAPI that stands beside it."""
    api = services.conf.compute_api_class.rpartition(".")[2]
    return services.with_(compute_api=_beside_compute_api(services.conf, api)(services),
                          host_api=_beside_compute_api(services.conf, "HostAPI")(services))


def _beside_compute_api(conf: cfg.ConfigOpts, name: str) -> Any:
    from oslo_utils import importutils

    module = conf.compute_api_class.rpartition(".")[0]
    try:
        return importutils.import_class(f"{module}.{name}")
    except (ImportError, ValueError) as error:
        raise exception.ConfigurationError(reason=f"compute_api_class = {conf.compute_api_class}: {error}") from error
