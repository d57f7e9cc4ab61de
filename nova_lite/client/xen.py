"""nova-lite xen: a XenServer or XCP-ng host is looked at, put through its paces, and cleared of what nobody claims."""

import argparse
import getpass
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nova_lite import conf as configuration
from nova_lite import exception
from nova_lite.client import base
from nova_lite.client.errors import CommandError, one_line

PASSWORD_VARIABLE = "NOVA_LITE_XEN_PASSWORD"
DEFAULT_AGE = "1h"
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class OnHost:
    """A command on one host: the one of the configuration, or the one its options name."""

    app: Any
    status: int

    def add_host_options(self, parser) -> None:
        group = parser.add_argument_group("host (default: section [xenserver] of the configuration)")
        group.add_argument("--url", metavar="URL", help="https://HOST, or unix:///PATH of a socket.")
        group.add_argument("--username", metavar="NAME", help="User to log in as.")
        group.add_argument("--password-file", metavar="PATH",
                           help=f"File with the password; else ${PASSWORD_VARIABLE}, else it is asked for.")
        group.add_argument("--ca-file", metavar="PATH", help="Certificates that the host's is checked against.")
        group.add_argument("--fingerprint", metavar="SHA256", help="Accept this one certificate of the host.")
        group.add_argument("--insecure", action="store_true", help="Do not check the certificate.")

    def host_conf(self, parsed_args):
        """Return the configuration with what the options change."""
        given = {("xenserver", name): value for name, value in {
            "connection_url": parsed_args.url, "connection_username": parsed_args.username,
            "connection_ca_file": parsed_args.ca_file, "connection_password": self._password(parsed_args)}.items()
            if value is not None}
        if parsed_args.fingerprint:
            given["xenserver", "connection_fingerprint"] = [parsed_args.fingerprint]
        if parsed_args.insecure:
            given["xenserver", "connection_verify"] = False
        options = self.app.options
        conf = configuration.load(prog=self.app.NAME, config_files=options.config_file,
                                  config_dirs=options.config_dir, overrides=given)
        if not conf.xenserver.connection_url:
            raise CommandError("no host is named: give --url, or [xenserver] connection_url in the configuration")
        if conf.xenserver.connection_password is None:
            conf.set_override("connection_password", self._asked_password(conf), "xenserver")
        return conf

    def _password(self, parsed_args) -> str | None:
        if not parsed_args.password_file:
            return os.environ.get(PASSWORD_VARIABLE)
        try:
            with open(parsed_args.password_file) as file:
                return file.readline().rstrip("\n")
        except OSError as error:
            raise CommandError(f"cannot read {parsed_args.password_file}: {error.strerror}") from error

    def _asked_password(self, conf) -> str:
        if not self.app.stdin.isatty():
            raise CommandError(f"no password: give --password-file, ${PASSWORD_VARIABLE}, or the configuration")
        user, url = conf.xenserver.connection_username, conf.xenserver.connection_url
        return getpass.getpass(f"Password of {user} at {url}: ", self.app.stderr)

    @contextmanager
    def session(self, parsed_args) -> Iterator:
        """Lend a session with the host, and the configuration it was made with."""
        from nova_lite.virt.xenapi.session import XenAPISession
        from nova_lite.virt.xenapi.transport import TlsPolicy

        conf = self.host_conf(parsed_args)
        options = conf.xenserver
        session = XenAPISession(
            options.connection_url, options.connection_username, options.connection_password,
            timeout=options.login_timeout, concurrent=2, tls=TlsPolicy.of(options),
            call_timeout=options.call_timeout, task_timeout=options.task_timeout, plugin_wire=options.plugin_wire)
        try:
            yield session, conf
        finally:
            session.close()

    def tell(self, line: str) -> None:
        """Show progress where somebody watches."""
        if self.app.stderr.isatty():
            self.app.stderr.write(f"\r\x1b[K{line}")
            self.app.stderr.flush()

    def run(self, parsed_args) -> int:
        """Carry out; the exit status is 1 when something was found wrong."""
        self.status = 0
        logging.disable(logging.WARNING)  # what is wrong is in the report
        try:
            super().run(parsed_args)  # type: ignore[misc]
        finally:
            logging.disable(logging.NOTSET)
        return self.status


class CheckHost(OnHost, base.Listing):
    """Look whether this driver can use a host. Nothing is changed there.

    Exit status 1 when a check failed; warnings leave it 0.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        self.add_host_options(parser)
        return parser

    def take_action(self, parsed_args):
        from nova_lite.virt.xenapi import acceptance

        with self.session(parsed_args) as (session, conf):
            found = acceptance.Acceptance(session, conf).run(self.tell)
        self.tell("")
        self.status = int(any(finding.result == acceptance.FAILED for finding in found))
        return ("Check", "Result", "Detail"), [(each.check, each.result, each.detail) for each in found]


class BurnIn(OnHost, base.Listing):
    """Boot, check, reboot, pause, snapshot, rescue, stop, migrate and remove machines of its own on a host.

    All that it makes is named nova-lite-burnin-…, and removed at the end, also after Ctrl-C, SIGTERM and SIGHUP. Exit
    status 1 when a step failed.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--machines", type=base.positive, default=2, metavar="N",
                            help="Machines of 128 MB and 1 GB to boot (default: 2).")
        parser.add_argument("--clean-up", action="store_true",
                            help="Only remove what runs have left that were killed by force.")
        self.add_host_options(parser)
        return parser

    def take_action(self, parsed_args):
        from nova_lite.virt.xenapi import burnin

        run = burnin.BurnIn(self.host_conf(parsed_args), parsed_args.machines, self.tell)
        with ended_by_signals():
            steps = run.clear_up() if parsed_args.clean_up else run.run()
        self.tell("")
        self.status = 0 if run.passed else 1
        return ("Step", "Result", "Seconds", "Detail"), [
            (each.step, each.result, each.seconds, each.detail) for each in steps]


class Orphans(OnHost, base.Listing):
    """List what bears our marks on a pool and no record of this cell claims; with --remove, remove it.

    What is younger than --older-than may be work in flight and is left out. Exit status 1 when something could not be
    removed.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--remove", action="store_true", help="Remove what is listed.")
        parser.add_argument("--older-than", type=age, default=age(DEFAULT_AGE), metavar="AGE",
                            help=f"Leave out what is younger: 90s, 30m, 2h, 7d (default: {DEFAULT_AGE}).")
        parser.add_argument("--strangers-too", action="store_true",
                            help="Remove even when the cell knows not one of the instances and volumes on the pool.")
        self.add_host_options(parser)
        return parser

    def take_action(self, parsed_args):
        from nova_lite.virt.xenapi import orphans

        with self.session(parsed_args) as (session, _):
            search = orphans.Orphans(session, self._claim, self._has_volume)
            found = search.find(parsed_args.older_than)
            outcomes = [""] * len(found)
            if parsed_args.remove:
                self._refuse_strangers(search, parsed_args)
                outcomes = [self._remove(search, orphan) for orphan in found]
        return ("Kind", "UUID", "Name", "Instance", "Why", "Age", "Outcome"), [
            (each.kind, each.uuid, each.name, each.instance_uuid, each.reason, _shown(each.age_s), outcome)
            for each, outcome in zip(found, outcomes, strict=True)]

    def _claim(self, instance_uuid: str):
        from nova_lite import objects
        from nova_lite.virt.xenapi.orphans import Claim

        try:
            row = objects.Instance.get_by_uuid(self.context.elevated(read_deleted="yes"), instance_uuid)
        except exception.InstanceNotFound:
            return None
        return Claim(row.vm_state, row.task_state, row.deleted_at if row.deleted else row.updated_at,
                     bool(row.deleted))

    def _has_volume(self, volume_id: str) -> bool:
        from nova_lite import objects

        try:
            objects.BlockDeviceMapping.get_by_volume_id(self.context.elevated(), volume_id)
        except exception.VolumeUnattached:
            return False
        return True

    def _refuse_strangers(self, search, parsed_args) -> None:
        met, known = search.tagged()
        if met and not known and not parsed_args.strangers_too:
            raise CommandError(f"this cell knows none of the {met} instances and volumes on the pool: is it the right "
                               "one? (--strangers-too removes all the same)")

    def _remove(self, search, orphan) -> str:
        import XenAPI

        from nova_lite.virt.xenapi import errors

        self.tell(f"removing {orphan.kind} {orphan.name}")
        try:
            search.remove(orphan)
        except XenAPI.Failure as failure:
            self.status = 1
            return errors.describe(failure)
        except exception.NovaException as error:
            self.status = 1
            return one_line(error)
        finally:
            self.tell("")
        return "removed"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what runs here as Ctrl-C does, unless they are ignored (nohup)."""
    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    chosen = [number for number, handler in former.items() if handler is not signal.SIG_IGN]
    for number in chosen:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, former[number])


def age(text: str) -> int:
    """argparse type of a time such as 90s, 30m, 2h, 7d; returns seconds."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_S or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 90s, 30m, 2h or 7d")
    return int(number) * UNITS_S[unit]


def _shown(age_s: float | None) -> str | None:
    """Return a time as 3d 04:05, days, hours and minutes."""
    if age_s is None:
        return None
    days, rest_s = divmod(int(age_s), UNITS_S["d"])
    return f"{days}d {rest_s // 3600:02d}:{rest_s % 3600 // 60:02d}"
