"""Options of consoles."""

import socket

from oslo_config import cfg

from nova_lite.conf.types import moved_to, seconds


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, _vnc() + _services()), ("spice", _spice()), ("console", _proxy())]


def _vnc() -> list[cfg.Opt]:
    return [
        cfg.BoolOpt("vnc_enabled", default=True, deprecated_opts=moved_to(("vnc", "enabled")),
                    help="Give access to the screens of guests."),
        cfg.StrOpt("novncproxy_base_url", default="http://127.0.0.1:6080/vnc_auto.html",
                   deprecated_opts=moved_to(("vnc", "novncproxy_base_url")),
                   help="Address of the console proxy as browsers see it."),
        cfg.StrOpt("xvpvncproxy_base_url", default="http://127.0.0.1:6081/console",
                   deprecated_opts=moved_to(("vnc", "xvpvncproxy_base_url")),
                   help="Address of the XVP console proxy as clients see it."),
        cfg.StrOpt("novncproxy_host", default="0.0.0.0", deprecated_opts=moved_to(("vnc", "novncproxy_host")),
                   help="Address the console proxy listens on."),
        cfg.PortOpt("novncproxy_port", default=6080, deprecated_opts=moved_to(("vnc", "novncproxy_port")),
                    help="Port the console proxy listens on."),
        cfg.StrOpt("vncserver_listen", default="127.0.0.1", deprecated_opts=moved_to(("vnc", "server_listen")),
                   help="Kept for configurations of older releases; XenServer serves the screens of guests."),
        cfg.StrOpt("vncserver_proxyclient_address", default="127.0.0.1",
                   deprecated_opts=moved_to(("vnc", "server_proxyclient_address")),
                   help="Address of this host that the console proxy connects to."),
    ]


def _services() -> list[cfg.Opt]:
    return [
        seconds("console_token_ttl", 600, "How long a console token may be used.", min=1, mutable=True),
        cfg.StrOpt("console_host", default=socket.gethostname(), sample_default="<machine host name>",
                   help="Host named in the console topic."),
        cfg.StrOpt("console_topic", default="console", help="Topic of console services."),
        cfg.StrOpt("consoleauth_topic", default="consoleauth", help="Topic of console tokens."),
    ]


def _spice() -> list[cfg.Opt]:
    return [
        cfg.BoolOpt("enabled", default=False, help="SPICE consoles; XenServer has none."),
        cfg.StrOpt("html5proxy_base_url", default="http://127.0.0.1:6082/spice_auto.html",
                   help="Address of the SPICE proxy as browsers see it."),
    ]


def _proxy() -> list[cfg.Opt]:
    return [
        cfg.ListOpt("allowed_origins", default=[],
                    help="Names of other sites whose pages may open consoles through the proxy."),
        cfg.StrOpt("web", help="Directory of files that the proxy serves, such as noVNC's; none without it."),
        cfg.StrOpt("cert", help="Certificate file of the proxy; without it browsers reach it by plain HTTP."),
        cfg.StrOpt("key", help="Key file of `cert`, when it is not in the same file."),
        cfg.IntOpt("max_connections", default=500, min=1, help="At most so many consoles through one proxy."),
        cfg.StrOpt("host_cafile",
                   help="Certificates by which the proxy knows hosts whose consoles are reached by HTTPS; those the "
                        "system trusts without it."),
        cfg.BoolOpt("host_insecure", default=False, help="Do not check the certificates of hosts."),
    ]
