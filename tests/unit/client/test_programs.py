"""The programs around the commands: help, mistakes, exit status."""

import argparse
import io
import subprocess
import sys

import pytest

from nova_lite import exception
from nova_lite.client import base
from nova_lite.client.app import NovaLite, NovaLitePrompt, NovaManage
from nova_lite.client.commands import CLIENT, DEMO, MANAGE, CommandTable
from nova_lite.client.errors import one_line
from nova_lite.client.manage import cell


class Run:
    """One run of a program: what it printed and how it ended."""

    def __init__(self, program, *arguments, connection=None):
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        streams = {"stdin": io.StringIO(), "stdout": self.stdout, "stderr": self.stderr}
        self.status = program(connection, **streams).run(list(arguments))


class BrokenConnection:
    """A cell whose database does not answer."""

    @property
    def api(self):
        raise exception.NovaException("the database does not answer\nTraceback: not for users")

    context = services = api

    def close(self):
        """Nothing is open."""


@pytest.mark.parametrize("name", [*CLIENT, *DEMO, *MANAGE])
def test_every_command_exists_and_says_what_it_does(name):
    table = MANAGE if name in MANAGE and name not in CLIENT else {**CLIENT, **DEMO}
    command, found, rest = CommandTable(table).find_command(name.split())

    assert (found, rest) == (name, [])
    assert command.__doc__


def test_programs_share_words_but_not_commands():
    shared = {name for name in MANAGE if name in CLIENT}

    assert {name.split()[0] for name in shared} == {"flavor", "cell"}
    assert all(MANAGE[name] != CLIENT[name] for name in shared)


def test_help_lists_the_commands():
    done = Run(NovaManage, "--help")

    assert done.status == 0
    assert "cell create" in done.stdout.getvalue()


def test_help_of_a_command_is_the_commands_own():
    done = Run(NovaManage, "cell", "create", "--help")

    assert done.status == 0
    assert "--virtual_host" in done.stdout.getvalue()


def test_an_unknown_command_is_wrong_usage():
    assert Run(NovaLite, "server", "explode").status == 2


def test_a_missing_argument_is_wrong_usage(capsys):
    assert Run(NovaManage, "cell", "create").status == 2
    assert "--name" in capsys.readouterr().err


def test_a_broker_without_port_is_wrong_usage(capsys, tmp_path):
    config = tmp_path / "cell.conf"
    config.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/db\n")

    done = Run(NovaManage, "--config-file", str(config), "cell", "create", "--name", "west", "--hostname", "a")

    assert done.status == 2
    assert "--hostname and --port" in capsys.readouterr().err


def test_a_failure_is_one_line():
    done = Run(NovaLitePrompt, "image", "list", connection=BrokenConnection())

    assert done.status == 1
    assert done.stderr.getvalue() == "nova-lite: the database does not answer\n"


def test_a_missing_configuration_is_one_line(tmp_path):
    done = Run(NovaLite, "--config-file", str(tmp_path / "none.conf"), "server", "list")

    assert done.status == 1
    assert done.stderr.getvalue().count("\n") == 1
    assert "none.conf" in done.stderr.getvalue()


def test_a_wrong_value_in_the_configuration_is_one_line(tmp_path):
    config = tmp_path / "cell.conf"
    config.write_text("[cells]\nname = a!b\n")

    done = Run(NovaLite, "--config-file", str(config), "server", "list")

    assert done.status == 1
    assert "a!b" in done.stderr.getvalue()


def test_commands_are_read_until_the_end_of_input():
    assert Run(NovaLitePrompt, connection=BrokenConnection()).status == 0


def test_options_of_commands_are_not_swallowed_as_abbreviations(capsys, tmp_path):
    done = Run(NovaManage, "cell", "create", "--name", "west", "--p", "x")

    assert done.status == 2
    assert "--p" in capsys.readouterr().err


def test_help_needs_no_heavy_library():
    code = (
        "import sys; from nova_lite.cmd import shell; shell.main(['--help'])\n"
        "heavy = {'sqlalchemy', 'alembic', 'eventlet', 'XenAPI', 'rich', 'cmd2'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["", " west", "we!st", "we.st", "we@st", "w" * 256])
def test_names_that_routing_could_not_carry_are_refused(name):
    with pytest.raises(argparse.ArgumentTypeError):
        cell.cell_name(name)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("a:1", [("a", 1)]), ("a:1, b:2", [("a", 1), ("b", 2)]), ("[::1]:5672", [("::1", 5672)])],
)
def test_brokers_are_pairs(text, pairs):
    assert cell.broker_hosts(text) == pairs


@pytest.mark.parametrize("text", ["a", "a:", ":1", "a:x", "a:0", "a:1,b", "a:65536"])
def test_a_broker_needs_a_host_and_a_port(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cell.broker_hosts(text)


def test_key_value_splits_at_the_first_mark():
    assert base.key_value("a=b=c") == ("a", "b=c")


def test_an_error_without_text_is_named_by_its_class():
    assert one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(("connection", "told"), [
    ("sqlite:///{}/new.sqlite", "nova-manage db sync"),
    ("mysql+pymysql://u:hidden-word@127.0.0.1:9/x", "does not answer")])
@pytest.mark.parametrize("words", ["server list", "server pause web", "host list"])
def test_a_database_that_is_of_no_use_is_one_line(tmp_path, connection, told, words):
    path = tmp_path / "client.conf"
    path.write_text(f"[DEFAULT]\ntransport_url = memory://x/client\n[database]\nconnection = {connection}\n"
                    "max_retries = 0\n".format(tmp_path))

    run = Run(NovaLite, "--config-file", str(path), *words.split())

    assert run.status == 1
    (line,) = run.stderr.getvalue().splitlines()
    assert told in line
    assert "hidden-word" not in line
