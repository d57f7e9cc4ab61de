"""nova-lite server: what happened to a server, and what its guest shows."""

import argparse

from nova_lite.client import base, finding
from nova_lite.client.errors import CommandError


class ListEvents(base.Listing):
    """List what was done to a server, latest first; with --request, the steps of one action."""

    ACTIONS = (
        ("Request", "request_id"), ("Action", "action"), ("Started", "start_time"), ("User", "user_id"),
        ("Message", "message"),
    )  # fmt: skip
    STEPS = (
        ("Step", "event"), ("Host", "host"), ("Started", "start_time"), ("Finished", "finish_time"),
        ("Result", "result"), ("Details", "details"),
    )  # fmt: skip

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("--request", metavar="REQUEST_ID")
        return parser

    def take_action(self, parsed_args):
        instance, actions = finding.server(self, parsed_args.server), self.api.action_api
        if not parsed_args.request:
            return base.table(self.ACTIONS, actions.actions_get(self.context, instance))
        action = actions.action_get_by_request_id(self.context, instance, parsed_args.request)
        if action is None:
            raise CommandError(f"the server has no action of request {parsed_args.request!r}")
        return base.table(self.STEPS, actions.action_events_get(self.context, instance, base.field(action, "id")))


class ShowDiagnostics(base.Showing):
    """Show what the hypervisor measures of a server."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        found = self.api.compute_api.get_diagnostics(self.context, finding.server(self, parsed_args.server))
        return self.dict2columns(found)


class ShowConsoleLog(base.Action):
    """Print the end of what a server wrote onto its console."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("--lines", type=base.positive, help="At most so many (default: all that is kept).")
        return parser

    def take_action(self, parsed_args):
        text = self.api.compute_api.get_console_output(
            self.context, finding.server(self, parsed_args.server), parsed_args.lines)
        self.app.stdout.write(text if text.endswith("\n") or not text else text + "\n")


class ShowConsoleUrl(base.Showing):
    """Print an address where a browser shows a server's screen, for as long as its token is valid."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("--type", choices=("novnc", "xvpvnc"), default="novnc", help=argparse.SUPPRESS)
        return parser

    def take_action(self, parsed_args):
        instance = finding.server(self, parsed_args.server)
        console = self.api.compute_api.get_vnc_console(self.context, instance, parsed_args.type)
        return self.dict2columns({"type": parsed_args.type, "url": console["url"]})
