"""Options of notifications; driver and topics are in [oslo_messaging_notifications]."""

from oslo_config import cfg


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [(None, [
        cfg.StrOpt("notify_on_state_change", choices=["vm_state", "vm_and_task_state"],
                   help="State changes that are told; unset: none."),
        cfg.BoolOpt("notify_on_any_change", default=False, help="Tell every change of an instance."),
        cfg.BoolOpt("notify_api_faults", default=False, help="Tell unexpected failures of the API."),
        cfg.StrOpt("default_notification_level", default="INFO",
                   help="Kept for configurations of older releases; all name a priority.",
                   choices=["DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"]),
        cfg.StrOpt("default_publisher_id", default="$host", help="Publisher of notifications that name none."),
        cfg.MultiStrOpt("notification_driver", default=[],
                        help="Stands in for [oslo_messaging_notifications] driver."),
        cfg.ListOpt("notification_topics", default=[],
                    help="Stands in for [oslo_messaging_notifications] topics."),
    ])]
