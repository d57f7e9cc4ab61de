"""[image]: where images come from."""

from oslo_config import cfg

from nova_lite.conf.types import moved_to


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [
        ("image", [
            cfg.StrOpt("backend", default="local", help="Adapter behind the image port: local, glance, or the name "
                       "of an entry point in the group nova_lite.image."),
            cfg.StrOpt("store_path", default="$state_path/images", help="Directory of the local image store."),
        ]),
        (None, _glance()),
    ]


def _glance() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("glance_host", default="$my_ip", deprecated_opts=moved_to(("glance", "host")),
                   help="Host of the image service, shown in notifications."),
        cfg.PortOpt("glance_port", default=9292, deprecated_opts=moved_to(("glance", "port")), help="Its port."),
        cfg.StrOpt("glance_protocol", default="http", choices=["http", "https"],
                   deprecated_opts=moved_to(("glance", "protocol")), help="Its protocol."),
        cfg.ListOpt("glance_api_servers", default=["$glance_host:$glance_port"],
                    deprecated_opts=moved_to(("glance", "api_servers")), help="Image servers: host:port or URLs."),
        cfg.IntOpt("glance_num_retries", default=0, min=0, deprecated_opts=moved_to(("glance", "num_retries")),
                   help="Further attempts to fetch an image."),
    ]
