"""[volume]: who keeps volumes."""

from oslo_config import cfg

from nova_lite.conf.types import class_opt


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [
        ("volume", [
            cfg.StrOpt("backend", default="none", help="Adapter behind the volume port: none, local, cinder, or the "
                       "name of an entry point in the group nova_lite.volume."),
            cfg.StrOpt("store_path", default="$state_path/volumes", help="Directory of the local volume records."),
            cfg.StrOpt("target_portal", default="127.0.0.1:3260", help="iSCSI portal that serves the local volumes."),
            cfg.StrOpt("target_iqn_prefix", default="iqn.2026-01.lite.nova", help="Each local volume is LUN 0 of the "
                       "target PREFIX:volume-ID on that portal."),
        ]),
        (None, [
            class_opt("volume_api_class", default="", help="Class of the volume port, instead of [volume] backend."),
        ]),
    ]
