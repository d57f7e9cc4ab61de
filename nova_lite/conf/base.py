"""Options every daemon and command reads: who we are, where our files are, how services run."""

import socket
from collections.abc import Iterator

from oslo_config import cfg

from nova_lite.conf.types import class_opt, seconds

CONCURRENCY = cfg.StrOpt(
    "concurrency",
    default="eventlet",
    choices=[
        ("eventlet", "green threads; the standard library is patched at start"),
        ("threading", "native threads"),
    ],
    help="How a daemon does several things at once.",
)


def outgoing_address() -> str:
    """Return the address this machine would send from, 127.0.0.1 when it has no route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, _identity() + _services() + _texts()), ("conductor", _conductor())]


def _identity() -> list[cfg.Opt]:
    return [
        cfg.StrOpt(
            "host",
            default=socket.gethostname(),
            sample_default="<machine host name>",
            help="Opaque name of this node, used in queues and rows. Several services of one machine need "
            "different names.",
        ),
        cfg.StrOpt(
            "my_ip",
            default=outgoing_address(),
            sample_default="<outgoing address>",
            help="IP address of this machine that the scheduler and other hosts see.",
        ),
        cfg.StrOpt("state_path", default="/var/lib/nova_lite", help="Directory of everything kept between runs."),
        cfg.StrOpt("instances_path", default="$state_path/instances",
                   help="Local files of instances; also holds the registry of shared storage."),
    ]


def _services() -> list[cfg.Opt]:
    return [
        CONCURRENCY,
        seconds("graceful_shutdown_timeout", 60, "How long a stopping service waits for work in flight."),
        cfg.BoolOpt("periodic_enable", default=True, help="Run periodic tasks."),
        seconds("periodic_fuzzy_delay", 60, "Random delay before the first run of periodic tasks, at most."),
        cfg.BoolOpt("enable_new_services", default=True, help="A service that registers itself starts enabled."),
        class_opt("compute_manager", default="nova_lite.compute.manager.ComputeManager",
                  help="Class of the compute manager."),
    ]


def _texts() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("instance_name_template", default="instance-%08x",
                   help="Name of an instance on its host. One %d or %x takes the row id; %(column)s takes a column. "
                   "Cells that share a XenServer pool need %(uuid)s."),
        cfg.StrOpt("snapshot_name_template", default="snapshot-%s",
                   help="Kept for configurations of older releases; snapshots have no local ids."),
        cfg.StrOpt("multi_instance_display_name_template", default="%(name)s-%(count)d",
                   help="Display names when one request asks for several instances; keys name, uuid, count."),
        cfg.StrOpt("internal_service_availability_zone", default="internal",
                   help="Zone shown for services that run no instances."),
        cfg.StrOpt("default_availability_zone", default="nova", help="Zone of hosts whose aggregates name none."),
        cfg.StrOpt("default_schedule_zone", help="Zone of instances that ask for none."),
        cfg.IntOpt("password_length", default=12, min=1, help="Length of generated passwords."),
        cfg.BoolOpt("fatal_exception_format_errors", default=False,
                    help="Raise when the text of an exception cannot be formatted, instead of logging it."),
    ]


def _conductor() -> list[cfg.Opt]:
    return [
        cfg.BoolOpt("use_local", default=True,
                    help="Conductor work is done inside the service; there is no remote conductor."),
        cfg.StrOpt("topic", default="conductor", help="Topic name neighbours of older releases may ask for."),
        class_opt("manager", default="nova_lite.compute.conductor.LocalConductor", help="Class doing conductor work."),
    ]


def complaints(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield one line per mistake that no single option can show."""
    if not conf.conductor.use_local:
        yield "[conductor] use_local = false is not possible: services do conductor work themselves"
    if not conf.host:
        yield "host must not be empty"
