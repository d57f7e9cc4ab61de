"""nova-lite dom0: the plugins inside a host are copied there, and compared, by the ssh of this machine."""

import hashlib
import os
import pathlib
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from nova_lite.client import base
from nova_lite.client.errors import CommandError

PLACE = "/etc/xapi.d/plugins"
CONNECT_S = 15
LONGEST_S = 120
SAME, MISSING, DIFFERENT, NOT_EXECUTABLE = "same", "missing", "different", "not executable"


@dataclass(frozen=True)
class Plugin:
    """A file that belongs into dom0."""

    path: pathlib.Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_program(self) -> bool:
        """Tell whether xapi runs it; the others are what those import."""
        return self.path.read_text().startswith("#!")

    @property
    def mode(self) -> str:
        return "0755" if self.is_program else "0644"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def plugins() -> list[Plugin]:
    """Return the files of nova_lite.virt.xenapi.dom0."""
    from nova_lite.virt.xenapi import dom0

    folder = pathlib.Path(dom0.__file__).parent
    return [Plugin(path) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]


class Dom0:
    """A host's dom0, reached by ssh. No shell of this machine is involved; what the remote one reads is quoted."""

    def __init__(self, host: str, user: str, options: list[str], place: str):
        if host.startswith("-") or user.startswith("-") or any(character.isspace() for character in host + user):
            raise CommandError(f"{user}@{host} is no place ssh can go to")
        self.host = host
        self._target = f"{user}@{host}"
        self._options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}", *options]
        self._place = place

    def states(self, wanted: list[Plugin]) -> dict[str, str]:
        """Return {file name: same, missing, different, not executable}."""
        paths = [f"{self._place}/{plugin.name}" for plugin in wanted]
        script = 'for path in "$@"; do [ -f "$path" ] || continue; ' \
                 'mode=plain; [ -x "$path" ] && mode=program; echo "$mode $(sha256sum < "$path") $path"; done'
        found = {}
        for line in self._run(["sh", "-c", script, "sh", *paths]).splitlines():
            mode, digest, _, path = line.split(None, 3)
            found[path] = (mode, digest)
        return {plugin.name: _state(plugin, found.get(path)) for plugin, path in zip(wanted, paths, strict=True)}

    def put(self, chosen: list[Plugin]) -> None:
        """Copy files, each under another name first and then put in place, so that xapi never runs half of one."""
        with tempfile.TemporaryDirectory() as directory:
            batch = pathlib.Path(directory) / "batch"
            batch.write_text("".join(
                f'put "{plugin.path}" "{self._place}/.{plugin.name}.new"\n' for plugin in chosen))
            self._execute(["sftp", *self._options, "-b", str(batch), self._target])
        steps = []
        for plugin in chosen:
            arriving, final = f"{self._place}/.{plugin.name}.new", f"{self._place}/{plugin.name}"
            steps += [["chmod", plugin.mode, arriving], ["mv", "-f", arriving, final]]
        self._run(["sh", "-c", "set -e; " + "; ".join(shlex.join(step) for step in steps)])

    def _run(self, command: list[str]) -> str:
        return self._execute(["ssh", *self._options, self._target, shlex.join(command)])

    def _execute(self, command: list[str]) -> str:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=LONGEST_S, check=False)
        except FileNotFoundError:
            raise CommandError(f"{command[0]} is not installed here (OpenSSH's client)") from None
        except subprocess.TimeoutExpired:
            raise CommandError(f"{self.host}: no answer within {LONGEST_S} s") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
            raise CommandError(f"{self.host}: {lines[-1].strip()}")
        return done.stdout


def _state(plugin: Plugin, found: tuple[str, str] | None) -> str:
    if found is None:
        return MISSING
    mode, digest = found
    if digest != plugin.digest:
        return DIFFERENT
    return NOT_EXECUTABLE if plugin.is_program and mode != "program" else SAME


class _OnDom0(base.Listing):
    """A command on the dom0s of hosts."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", action="append", required=True, dest="hosts", metavar="HOST",
                            help="Name or address; may be repeated.")
        parser.add_argument("--user", default="root", metavar="NAME", dest="ssh_user", help="Default: root.")
        parser.add_argument("--port", type=base.positive, metavar="PORT")
        parser.add_argument("--identity", metavar="PATH", help="Private key to log in with.")
        parser.add_argument("--ssh-config", metavar="PATH", help="Configuration of ssh in place of the user's own.")
        parser.add_argument("--directory", default=PLACE, metavar="PATH", help=f"Default: {PLACE}.")
        return parser

    def dom0(self, host: str, parsed_args) -> Dom0:
        options = []
        if parsed_args.ssh_config:
            options += ["-F", os.path.abspath(parsed_args.ssh_config)]
        if parsed_args.identity:
            options += ["-i", os.path.abspath(parsed_args.identity), "-o", "IdentitiesOnly=yes"]
        if parsed_args.port:
            options += ["-o", f"Port={parsed_args.port}"]
        return Dom0(host, parsed_args.ssh_user, options, parsed_args.directory)

    def each_host(self, parsed_args, act: Callable[[Dom0], list[tuple]], blank: tuple = ()) -> list[tuple]:
        """Return the rows of every host. One of several that cannot be reached is a row of its own, and status 1."""
        rows: list[tuple] = []
        for host in parsed_args.hosts:
            try:
                rows += [(host, *row) for row in act(self.dom0(host, parsed_args))]
            except CommandError as error:
                if len(parsed_args.hosts) == 1:
                    raise
                rows.append((host, "", *blank, str(error).removeprefix(f"{host}: ")))
                self.status = 1
        return rows

    def run(self, parsed_args) -> int:
        """Carry out; the exit status is 1 when a host has not what it should have."""
        self.status = 0
        super().run(parsed_args)
        return self.status


class CheckPlugins(_OnDom0):
    """Compare the plugins on hosts with those of this installation. Exit status 1 when one differs."""

    def take_action(self, parsed_args):
        return ("Host", "Plugin", "State"), self.each_host(parsed_args, self._check)

    def _check(self, dom0: Dom0) -> list[tuple[str, str]]:
        states = dom0.states(plugins())
        self.status = self.status or int(any(state != SAME for state in states.values()))
        return list(states.items())


class InstallPlugins(_OnDom0):
    """Copy the plugins to hosts, and verify what arrived. Files that are the same already are left alone."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--dry-run", action="store_true", help="Only tell what would be copied.")
        return parser

    def take_action(self, parsed_args):
        rows = self.each_host(parsed_args, lambda dom0: self._install(dom0, parsed_args.dry_run), blank=("",))
        return ("Host", "Plugin", "Before", "Outcome"), rows

    def _install(self, dom0: Dom0, dry_run: bool) -> list[tuple[str, str, str]]:
        wanted = plugins()
        before = dom0.states(wanted)
        chosen = [plugin for plugin in wanted if before[plugin.name] != SAME]
        if dry_run:
            return [(name, state, "" if state == SAME else "would be copied") for name, state in before.items()]
        if chosen:
            dom0.put(chosen)
        after = dom0.states(wanted)
        self.status = self.status or int(any(state != SAME for state in after.values()))
        outcomes = {plugin.name: "copied" if after[plugin.name] == SAME else f"{after[plugin.name]} still"
                    for plugin in chosen}
        return [(name, state, outcomes.get(name, "")) for name, state in before.items()]
