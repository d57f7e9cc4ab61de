"""Options of consoles."""

import socket

from oslo_config import cfg

from nova_lite.conf.types import moved_to, seconds


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, _vnc() + _services()), ("spice", _spice())]


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
        cfg.StrOpt("vncserver_listen", default="127.0.0.1", deprecated_opts=moved_to(("vnc", "server_listen")),
                   help="Address the screens of guests are served on."),
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
