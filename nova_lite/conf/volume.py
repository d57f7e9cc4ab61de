"""[volume]: who keeps volumes."""

from oslo_config import cfg

from nova_lite.conf.types import class_opt


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [
        ("volume", [
            cfg.StrOpt("backend", default="none", help="Adapter behind the volume port: none, or the name of an entry "
                       "point in the group nova_lite.volume."),
        ]),
        (None, [
            class_opt("volume_api_class", default="", help="Class of the volume port, instead of [volume] backend."),
        ]),
    ]
