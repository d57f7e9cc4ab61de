"""[cells]: this cell, its place in the tree, and what travels between cells."""

import re
from collections.abc import Iterator

from oslo_config import cfg

from nova_lite.conf.types import class_list_opt, class_opt, seconds

FORBIDDEN_IN_NAMES = "!.@"


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [("cells", _identity() + _messaging() + _replication() + _scheduling())]


def _identity() -> list[cfg.Opt]:
    return [
        cfg.BoolOpt("enable", default=False, help="Take part in a tree of cells."),
        cfg.StrOpt("name", default="nova",
                   help="Short name of this cell, without any of '!', '.', '@'; unique in the whole tree."),
        cfg.StrOpt("cell_type", default="compute", ignore_case=True,
                   choices=[("api", "the top of a tree, where users' requests arrive"),
                            ("compute", "a cell with hosts, or between others")],
                   help="Role of this cell."),
        cfg.ListOpt("capabilities", default=["hypervisor=xenserver;kvm", "os=linux;windows"],
                    help="What hosts of this cell can do: name=value;value, comma separated."),
        cfg.StrOpt("topic", default="cells", help="Local topic of nova-cells."),
        class_opt("manager", default="nova_lite.cells.manager.CellsManager", help="Class of the cells manager."),
        class_opt("driver", default="nova_lite.cells.rpc_driver.CellsRPCDriver",
                  help="Class that carries messages between cells."),
        cfg.StrOpt("cells_config", help="JSON file that describes the neighbours, instead of the table 'cells'."),
        seconds("db_check_interval", 60, "How often neighbours and capacities are read again.", min=1, mutable=True),
    ]


def _messaging() -> list[cfg.Opt]:
    return [
        seconds("call_timeout", 60, "How long a call waits for each expected reply.", min=1, mutable=True),
        cfg.IntOpt("max_hop_count", default=10, min=1, help="Cells a message may pass before it is refused."),
        cfg.StrOpt("rpc_driver_queue_base", default="cells.intercell", help="Base of the topics between cells."),
        cfg.BoolOpt("lean_messages", default=True,
                    help="Exchange messages that somebody waits for in a form of our own, by queues of our own, with "
                         "neighbours that offer it too; others are always spoken to as the reference does."),
        cfg.IntOpt("max_message_bytes", default=16 * 1024 * 1024, min=64 * 1024,
                   help="Messages of other cells above this size are refused. Bytes."),
        cfg.BoolOpt("forward_auth_tokens", default=False,
                    help="Tell neighbours of our kind the tokens and service catalogues of users. Needed only above a "
                         "cell of the reference, which always gets them."),
        cfg.BoolOpt("send_tracebacks", default=True,
                    help="Failures that are told to other cells have tracebacks, as in the reference."),
        cfg.IntOpt("answer_part_bytes", default=1024 * 1024, min=16 * 1024,
                   help="Longer answers to neighbours of our kind travel in parts of about this size. Bytes."),
        cfg.BoolOpt("strict_queries", default=False, mutable=True,
                    help="Lists of all cells fail when one cell does not answer, as in the reference; else they hold "
                         "what the others have answered, and cell_failures of nova-cells tells which are missing."),
        seconds("mute_child_interval", 300, "Silence after which a child counts as mute.", min=1, mutable=True),
    ]


def _replication() -> list[cfg.Opt]:
    return [
        seconds("bandwidth_update_interval", 600, "Time between upward bandwidth updates; 0 or less sends none.",
                min=None, mutable=True),
        seconds("instance_updated_at_threshold", 3600,
                "Only instances changed within this time are healed; 0 or less heals all.", min=None, mutable=True),
        cfg.IntOpt("instance_update_num_instances", default=1, min=0, mutable=True,
                   help="Instances healed in one run."),
        cfg.IntOpt("instance_update_sync_database_limit", default=100, min=1, help="Page size of syncing."),
        cfg.FloatOpt("outbox_poll_interval", default=1.0, min=0.05,
                     help="How often waiting upward updates are looked for when nobody tells. Seconds."),
        cfg.IntOpt("outbox_batch_size", default=1000, min=1, max=10000,
                   help="Upward updates sent in one message, if so many wait and they are not long."),
        seconds("tombstone_ttl", 86400, "How long a deleted instance may not be built by a late message."),
    ]


def _scheduling() -> list[cfg.Opt]:
    return [
        class_opt("scheduler", default="nova_lite.cells.scheduler.CellsScheduler", help="Class that chooses a cell."),
        class_list_opt("scheduler_filter_classes", default=["nova_lite.cells.filters.all_filters"],
                       help="Filters that choose among cells."),
        class_list_opt("scheduler_weight_classes", default=["nova_lite.cells.weights.all_weighers"],
                       help="Weighers that order cells."),
        seconds("build_repeat_interval", 60, "Time after which the top cell looks whether a build is under way, and "
                "orders it again if it is not.", min=1, mutable=True),
        seconds("lost_build_timeout", 600, "Silence after which the top cell gives up a build that no cell has; "
                "0 or less waits for ever.", min=None, mutable=True),
        cfg.IntOpt("scheduler_retries", default=10, min=0, help="Further attempts when no cell could be reached."),
        seconds("scheduler_retry_delay", 2, "Time between attempts."),
        cfg.FloatOpt("reserve_percent", default=10.0, min=0.0, max=100.0, mutable=True,
                     help="Share of each host's memory and disk that is not offered upwards. Percent."),
        cfg.FloatOpt("mute_weight_multiplier", default=-10000.0, help="Weight of mute children; negative avoids them."),
        cfg.FloatOpt("ram_weight_multiplier", default=10.0, help="Weight of free memory; negative packs cells full."),
        cfg.FloatOpt("offset_weight_multiplier", default=1.0, help="Weight of the offsets in the table 'cells'."),
    ]


def complaints(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield one line per mistake that no single option can show."""
    name = conf.cells.name
    if not name.strip() or name != name.strip() or len(name) > 255:
        yield "[cells] name must be 1 to 255 characters, without spaces around them"
    if re.search(f"[{re.escape(FORBIDDEN_IN_NAMES)}]", name):
        yield f"[cells] name = {name!r} contains one of the characters {' '.join(FORBIDDEN_IN_NAMES)}"
    for item in conf.cells.capabilities:
        if "=" not in item:
            yield f"[cells] capabilities: {item!r} is not of the form name=value;value"
