"""nova-manage on a database."""

import io
import json

import oslo_messaging
import pytest

from nova_lite import conf as configuration
from nova_lite.client.app import NovaManage
from nova_lite.context import Services, get_admin_context
from nova_lite.db.api import Database
from tests.fixtures.services import database_url, make_database


class Manage:
    """nova-manage with one cell's configuration; `run` gives (status, standard output, standard error)."""

    def __init__(self, config):
        self.config = str(config)

    def run(self, *arguments):
        stdout, stderr = io.StringIO(), io.StringIO()
        program = NovaManage(stdin=io.StringIO(), stdout=stdout, stderr=stderr)
        status = program.run(["--config-file", self.config, *arguments])
        return status, stdout.getvalue(), stderr.getvalue()

    def rows(self, *arguments):
        status, stdout, stderr = self.run(*arguments, "-f", "json")
        assert status == 0, stderr
        return json.loads(stdout)

    def conf(self):
        return configuration.load(prog="test", config_files=[self.config], config_dirs=[])

    def stored_url(self, name):
        conf = self.conf()
        db = Database(conf)
        context = get_admin_context().bind(Services(conf=conf, db=db))
        return oslo_messaging.TransportURL.parse(conf, db.cell_get(context, name)["transport_url"])


def manage_in(directory, url):
    config = directory / "cell.conf"
    config.write_text(
        f"[DEFAULT]\nstate_path = {directory}\ntransport_url = rabbit://own:secret@127.0.0.1:5672/api\n"
        f"[database]\nconnection = {url}\n"
        "[cells]\nenable = true\nname = api\ncell_type = api\n"
    )
    return Manage(config)


@pytest.fixture
def manage(tmp_path):
    """nova-manage of a cell whose database is synced."""
    url = database_url(tmp_path / "cell.sqlite")
    made = manage_in(tmp_path, url)
    database = make_database(made.conf())
    yield made
    database.dispose()


WEST = ("--name", "west", "--username", "nova", "--hostname", "192.0.2.1", "--port", "5672", "--virtual_host", "west")


def test_a_new_database_gets_the_default_flavors(tmp_path):
    manage = manage_in(tmp_path, database_url(tmp_path / "cell.sqlite", is_new=True))

    status, _, stderr = manage.run("db", "sync")

    assert status == 0, stderr
    flavors = {row["Name"]: (row["Flavor ID"], row["RAM MB"]) for row in manage.rows("flavor", "list")}

    assert flavors["m1.tiny"] == ("1", 512)
    assert set(flavors) == {"m1.tiny", "m1.small", "m1.medium", "m1.large", "m1.xlarge"}


def test_syncing_again_changes_nothing(manage):
    before = manage.run("db", "version")

    assert manage.run("db", "sync")[0] == 0
    assert manage.run("db", "version") == before
    assert len(manage.rows("flavor", "list")) == 5


def test_version_prints_one_line(manage):
    status, stdout, _ = manage.run("db", "version")

    assert status == 0
    assert len(stdout.split()) == 1


def test_a_neighbour_is_listed_without_its_password(manage):
    assert manage.run("cell", "create", *WEST, "--password", "secret") == (0, "", "")

    status, stdout, _ = manage.run("cell", "list", "-f", "json")
    row = json.loads(stdout)[0]
    row.pop("Id")
    assert row == {
        "Name": "west", "Type": "child", "Username": "nova", "Hostname": "192.0.2.1", "Port": 5672, "VHost": "west",
    }  # fmt: skip
    assert "secret" not in stdout


@pytest.mark.parametrize(
    ("cell_type", "shown"), [("parent", "parent"), ("api", "parent"), ("child", "child"), ("compute", "child")]
)
def test_the_type_says_where_the_neighbour_lies(manage, cell_type, shown):
    manage.run("cell", "create", *WEST, "--cell_type", cell_type)

    assert manage.rows("cell", "list")[0]["Type"] == shown


def test_special_characters_of_credentials_survive(manage):
    manage.run("cell", "create", *WEST, "--password", "p@ss/w:rd%21#?")

    url = manage.stored_url("west")

    assert (url.transport, url.virtual_host) == ("rabbit", "west")
    assert (url.hosts[0].username, url.hosts[0].password) == ("nova", "p@ss/w:rd%21#?")


def test_several_brokers_share_the_credentials_and_win_over_the_host_name(manage):
    manage.run("cell", "create", *WEST, "--password", "x", "--broker_hosts", "a:1,b:2")

    hosts = manage.stored_url("west").hosts

    assert [(host.hostname, host.port, host.username) for host in hosts] == [("a", 1, "nova"), ("b", 2, "nova")]


def test_the_same_neighbour_twice_is_refused(manage):
    manage.run("cell", "create", *WEST)

    status, _, stderr = manage.run("cell", "create", *WEST)

    assert status == 1
    assert "west" in stderr
    assert stderr.count("\n") == 1


def test_a_deleted_neighbour_is_gone_and_may_come_back(manage):
    manage.run("cell", "create", *WEST)

    assert manage.run("cell", "delete", "--cell_name", "west")[0] == 0
    assert manage.rows("cell", "list") == []
    assert manage.run("cell", "create", *WEST)[0] == 0


def test_deleting_an_unknown_neighbour_is_said(manage):
    assert manage.run("cell", "delete", "--cell_name", "west") == (1, "", "nova-manage: there is no cell 'west'\n")


def test_an_unknown_cell_type_is_wrong_usage(manage):
    assert manage.run("cell", "create", *WEST, "--cell_type", "moon")[0] == 2


def test_a_flavor_is_made_changed_and_removed(manage):
    created = manage.run("flavor", "create", "big", "--flavorid", "9", "--memory", "1024", "--cpu", "2",
                         "--root_gb", "10", "--property", "a=1", "--property", "b=2")  # fmt: skip
    changed = manage.run("flavor", "set", "big", "--property", "b=3", "--no-property", "a")
    row = next(row for row in manage.rows("flavor", "list") if row["Name"] == "big")
    deleted = manage.run("flavor", "delete", "9")

    assert [run[0] for run in (created, changed, deleted)] == [0, 0, 0]
    assert (row["Flavor ID"], row["RAM MB"], row["VCPUs"], row["Root GB"]) == ("9", 1024, 2, 10)
    assert row["Extra Specs"] == {"b": "3"}
    assert "big" not in [row["Name"] for row in manage.rows("flavor", "list")]


def test_deleting_several_flavors_tells_each_that_is_missing(manage):
    status, _, stderr = manage.run("flavor", "delete", "none", "m1.tiny", "never")

    assert status == 1
    assert len(stderr.splitlines()) == 2
    assert "m1.tiny" not in [row["Name"] for row in manage.rows("flavor", "list")]


def test_a_flavor_without_memory_is_wrong_usage(manage):
    assert manage.run("flavor", "create", "big", "--cpu", "1", "--memory", "0")[0] == 2


# -- rows of what was deleted --

def shadow_rows(manage, *arguments):
    status, stdout, stderr = manage.run("db", *arguments)
    assert "Error" not in stderr
    return status, dict(line.split() for line in stdout.splitlines() if " " in line)


def deleted_instances(manage, count):
    conf = manage.conf()
    db = Database(conf)
    context = get_admin_context().bind(Services(conf=conf, db=db))
    for number in range(count):
        db.instance_create(context, {"uuid": f"u{number}"}, replicate=False)
        db.instance_destroy(context, f"u{number}", replicate=False)
    db.dispose()


def test_deleted_rows_are_archived_so_many_at_a_time_and_the_status_tells_whether_there_are_more(manage):
    deleted_instances(manage, 3)

    first = shadow_rows(manage, "archive_deleted_rows", "--max_rows", "2")
    rest = shadow_rows(manage, "archive_deleted_rows", "--until-complete")

    assert (first[0], first[1]["instances"]) == (1, "2")
    assert (rest[0], rest[1]["instances"]) == (0, "1")


def test_archived_rows_are_purged_when_it_is_said_which(manage):
    deleted_instances(manage, 2)
    manage.run("db", "archive_deleted_rows")

    status, _, stderr = manage.run("db", "purge")
    assert status == 1 and "--before TIME or --all" in stderr
    assert shadow_rows(manage, "purge", "--before", "2000-01-01") == (0, {})
    assert shadow_rows(manage, "purge", "--all")[1]["shadow_instances"] == "2"
    assert shadow_rows(manage, "purge", "--all") == (0, {})


def test_a_time_that_is_none_is_wrong_usage(manage, capsys):
    status, _, _ = manage.run("db", "purge", "--before", "yesterday")

    assert status == 2
    assert "no time such as" in capsys.readouterr().err
