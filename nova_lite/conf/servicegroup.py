"""Options of knowing which services are up."""

from collections.abc import Iterator

from oslo_config import cfg

from nova_lite.conf.types import seconds


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, [
        cfg.StrOpt("servicegroup_driver", default="db",
                   choices=["db", "zk", "mc"],
                   help="Where services tell that they are alive; only db is there."),
        seconds("report_interval", 10, "Time between heartbeats.", min=1),
        seconds("service_down_time", 60, "Silence after which a service counts as down.", min=1, mutable=True),
    ])]


def complaints(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield one line per mistake that no single option can show."""
    if conf.servicegroup_driver != "db":
        yield f"servicegroup_driver = {conf.servicegroup_driver} is not there; only db is"
    if conf.service_down_time <= conf.report_interval:
        yield (f"service_down_time = {conf.service_down_time} must be longer than "
               f"report_interval = {conf.report_interval}, or services flap")
