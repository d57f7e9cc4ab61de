"""nova-lite-xensim fault ACTION and nova-lite-xensim calls: the control of a running simulator from the shell."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from nova_lite.xensim.remote import RemoteControl

MIB = 1024 * 1024
METHOD = ("method", {"help": "such as VM.start, VBD.* or 'PUT /import_raw_vdi'"})
HOST = ("host", {"help": "reference, uuid or name of a host"})
SWITCH = ("switch", {"choices": ("on", "off")})
Action = tuple[str, list[tuple[str, dict[str, Any]]], Callable[[RemoteControl, argparse.Namespace], Any]]


def _match(options: argparse.Namespace) -> dict[str, Any]:
    """Return which calls a fault concerns."""
    match = {"nth": options.nth, "count": options.count}
    return match | {name: value for name in ("object", "caller") if (value := getattr(options, name))}


# Action: help, arguments, what it asks of the control. Those with METHOD take --nth, --count, --object, --caller too.
ACTIONS: dict[str, Action] = {
    "fail": (
        "let a call fail before its effect, or with --after after it",
        [METHOD, ("error", {"nargs": "+", "help": "code and arguments"}), ("--after", {"action": "store_true"})],
        lambda control, given: control.fail(given.method, error=given.error, after=given.after, **_match(given)),
    ),
    "delay": (
        "let a call take longer",
        [METHOD, ("seconds", {"type": float})],
        lambda control, given: control.delay(given.method, seconds=given.seconds, **_match(given)),
    ),
    "drop": ("lose a call: no effect, no reply", [METHOD], lambda c, given: c.drop(given.method, **_match(given))),
    "lose-reply": (
        "lose the reply of a call that took effect",
        [METHOD],
        lambda control, given: control.drop_reply(given.method, **_match(given)),
    ),
    "random": (
        "let calls meet faults by chance; rate 0 ends it",
        [
            ("seed", {"type": int}),
            ("rate", {"type": float, "help": "between 0 and 1"}),
            ("--only", {"default": "*", "metavar": "METHOD", "help": "pattern of the calls"}),
            ("--kinds", {"nargs": "+", "help": "error error_after delay drop lose_reply; default: all"}),
        ],
        lambda control, given: control.random_faults(given.seed, given.rate, method=given.only, kinds=given.kinds),
    ),
    "latency": (
        "let calls take as long as on a real host",
        [("profile", {"choices": ("none", "host")}), ("scale", {"type": float, "nargs": "?", "default": 1.0})],
        lambda control, given: control.latency(given.profile, given.scale),
    ),
    "lose-sessions": ("end every session", [], lambda control, _: control.lose_sessions()),
    "kill-toolstack": ("answer nobody until start-toolstack", [], lambda control, _: control.kill_toolstack()),
    "start-toolstack": ("answer again", [], lambda control, _: control.start_toolstack()),
    "restart-toolstack": (
        "refuse connections for a while",
        [("seconds", {"type": float, "nargs": "?", "default": 0.0})],
        lambda control, given: control.restart_toolstack(given.seconds),
    ),
    "move-master": ("make another host the master", [HOST], lambda c, given: c.move_master(given.host)),
    "partition-host": ("cut a host off, its VMs go on", [HOST], lambda c, given: c.partition_host(given.host)),
    "heal-host": ("reach a host again that was cut off", [HOST], lambda c, given: c.heal_host(given.host)),
    "kill-host": ("cut the power of a host", [HOST], lambda c, given: c.kill_host(given.host)),
    "revive-host": ("let a host that was killed come up", [HOST], lambda c, given: c.revive_host(given.host)),
    "fill-sr": (
        "let something else take a repository's space; -1 bytes free takes it away again",
        [("sr", {"help": "reference, uuid or name"}), ("free", {"type": int, "nargs": "?", "default": 0})],
        lambda control, given: control.fill_sr(given.sr, given.free),
    ),
    "corrupt-disk": (
        "overwrite the beginning of a disk's image",
        [("vdi", {"help": "reference, uuid or name"})],
        lambda control, given: control.corrupt_disk(given.vdi),
    ),
    "slow-disks": (
        "limit imports, exports and copies; 0 lifts the limit",
        [("mb_per_s", {"type": float})],
        lambda control, given: control.slow_disks(given.mb_per_s * MIB),
    ),
    "reject-overlapping-plugs": (
        "refuse a plug while another device of the VM is plugged",
        [SWITCH],
        lambda control, given: control.reject_overlapping_plugs(is_on=given.switch == "on"),
    ),
    "hang-coalescing": (
        "keep the collector of VHD chains from running",
        [SWITCH],
        lambda control, given: control.collector(is_paused=given.switch == "on"),
    ),
    "list": ("print what is planted", [], lambda control, _: control.faults()),
    "clear": ("forget faults of calls, chances, latency and slow disks", [], lambda control, _: control.clear()),
}


def add_commands(commands: Any) -> None:
    """Add `fault` and `calls` to the command's subparsers."""
    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--url", default="http://127.0.0.1:8080", help="any host of the simulator")
    address.add_argument("--password", default="xensim")
    planting = commands.add_parser("fault", help="plant a fault in a running simulator")
    actions = planting.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, (text, arguments, work) in ACTIONS.items():
        action = actions.add_parser(name, help=text, parents=[address])
        for argument, details in arguments:
            action.add_argument(argument, **details)
        if METHOD in arguments:
            action.add_argument("--nth", type=int, default=1, help="which call from now on; 1 is the next")
            action.add_argument("--count", type=int, default=1, help="how many calls in a row")
            action.add_argument("--object", default="", help="only calls that concern this reference, uuid or name")
            action.add_argument("--caller", default="", help="only calls of this session, user or originator")
        action.set_defaults(run=run, work=work)
    log = commands.add_parser("calls", help="print the calls a simulator received, in lines of JSON", parents=[address])
    log.add_argument("--method", default="*", help="pattern of the method")
    log.add_argument("--result", default="*", help="pattern of the result, such as VM_*")
    log.add_argument("--since", type=int, default=0, metavar="NUMBER", help="only later calls")
    log.set_defaults(run=run, work=_calls)


def _calls(control: RemoteControl, given: argparse.Namespace) -> None:
    for entry in control.call_log(given.method, given.result, given.since):
        print(json.dumps(entry))


def run(options: argparse.Namespace) -> int:
    """Do one action; print what it returns. One line on stderr, and status 1, when the simulator refuses."""
    try:
        answer = options.work(RemoteControl(options.url, password=options.password), options)
    except (OSError, ValueError) as error:
        print(f"nova-lite-xensim: {error}", file=sys.stderr)
        return 1
    if answer is not None:
        print(json.dumps(answer, indent=2))
    return 0
