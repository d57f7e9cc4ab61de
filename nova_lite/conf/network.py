"""[network]: who gives instances their addresses."""

from oslo_config import cfg

from nova_lite.conf.types import class_opt


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [
        ("network", [
            cfg.StrOpt("backend", default="local", help="Adapter behind the network port: local, neutron, or the name "
                       "of an entry point in the group nova_lite.network."),
        ]),
        (None, [
            cfg.StrOpt("network_topic", default="network",
                       help="Kept for configurations of older releases; networks are a part of each service."),
            class_opt("network_api_class", default="", help="Class of the network port, instead of [network] backend."),
        ]),
    ]
