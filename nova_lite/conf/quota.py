"""Limits of what one project may have. -1 is unlimited."""

from oslo_config import cfg

from nova_lite.conf.types import moved_to, seconds

LIMITS = (
    ("instances", 10, "Instances"),
    ("cores", 20, "Virtual CPUs"),
    ("ram", 50 * 1024, "Memory, in MB,"),
    ("floating_ips", 10, "Floating addresses"),
    ("fixed_ips", -1, "Fixed addresses"),
    ("metadata_items", 128, "Metadata items of an instance"),
    ("injected_files", 5, "Injected files of an instance"),
    ("injected_file_content_bytes", 10 * 1024, "Bytes in an injected file"),
    ("injected_file_path_bytes", 255, "Bytes in the path of an injected file"),
    ("security_groups", 10, "Security groups"),
    ("security_group_rules", 20, "Rules in a security group"),
    ("key_pairs", 100, "Key pairs of a user"),
)


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    limits = [
        cfg.IntOpt(f"quota_{name}", default=default, min=-1, mutable=True, help=f"{what} allowed; -1 is unlimited.",
                   deprecated_opts=moved_to(("quota", name), ("quota", _later_name(name))))
        for name, default, what in LIMITS
    ]
    return [(None, limits + _bookkeeping())]


def _later_name(name: str) -> str:
    return {"injected_file_path_bytes": "injected_file_path_length"}.get(name, name)


def _bookkeeping() -> list[cfg.Opt]:
    return [
        seconds("reservation_expire", 86400, "Time after which an open reservation is given up.", min=1,
                deprecated_opts=moved_to(("quota", "reservation_expire"))),
        cfg.IntOpt("until_refresh", default=0, min=0, deprecated_opts=moved_to(("quota", "until_refresh")),
                   help="Reservations until usage is counted anew; 0 is never."),
        seconds("max_age", 0, "Age at which usage is counted anew; 0 is never.",
                deprecated_opts=moved_to(("quota", "max_age"))),
    ]
