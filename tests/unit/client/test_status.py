"""nova-status upgrade check, before databases and hosts in all conditions."""

import io
import json

import pytest
import sqlalchemy

from nova_lite import conf as configuration
from nova_lite.client.app import NovaStatus
from nova_lite.db import revision
from nova_lite.db.api import Database
from tests.fixtures.services import database_url


class Installation:
    """One cell's configuration and database; `check` gives (exit status, {check: [(result, detail)]})."""

    def __init__(self, directory):
        self.config = directory / "cell.conf"
        self._text = f"[DEFAULT]\nstate_path = {directory}\n"
        self._database = f"[database]\nconnection = {database_url(directory / 'cell.sqlite', is_new=True)}\n"
        self.configure()
        self.database = Database(configuration.load(prog="test", config_files=[str(self.config)], config_dirs=[]))

    def configure(self, text=""):
        self.config.write_text(self._text + text + "\n" + self._database)

    def check(self):
        stdout = io.StringIO()
        program = NovaStatus(stdin=io.StringIO(), stdout=stdout, stderr=io.StringIO())
        status = program.run(["--config-file", str(self.config), "upgrade", "check", "-f", "json"])
        found = {}
        for row in json.loads(stdout.getvalue()):
            found.setdefault(row["Check"], []).append((row["Result"], row["Detail"]))
        return status, found


@pytest.fixture
def installation(tmp_path):
    made = Installation(tmp_path)
    yield made
    made.database.dispose()


def test_all_is_well_after_a_sync(installation):
    installation.database.sync()

    status, found = installation.check()

    assert status == 0
    assert found == {"configuration": [("ok", "every option is known")],
                     "schema": [("ok", f"version {revision.CURRENT}")], "services": [("ok", "0 up")]}


def test_an_unknown_option_and_a_service_that_is_down_are_warned_about(installation):
    installation.database.sync()
    installation.configure("no_such_option = 1\n")
    service = installation.database.service_create(None, {
        "host": "west", "binary": "nova-compute", "topic": "compute", "report_count": 0})
    installation.database.service_update(None, service["id"], {"forced_down": True})

    status, found = installation.check()

    assert status == 1
    assert found["configuration"][0][0] == "warning" and "no_such_option" in found["configuration"][0][1]
    assert found["services"] == [("warning", "nova-compute on west is down")]


@pytest.mark.parametrize(("stored", "said"), [
    (None, "nova-manage db sync"), ("001", f"this release needs {revision.CURRENT}"), ("999", "newer release")])
def test_a_schema_of_another_release_has_to_be_repaired(installation, stored, said):
    if stored:
        installation.database.sync("001")
        with installation.database.writer(None) as session:
            session.execute(sqlalchemy.text(f"UPDATE alembic_version SET version_num = '{stored}'"))

    status, found = installation.check()

    assert status == 2
    assert found["schema"][0][0] == "failed" and said in found["schema"][0][1]
    assert "services" not in found


def test_a_mistake_in_the_configuration_is_a_failed_check(installation):
    installation.configure("osapi_compute_unique_server_name_scope = everywhere\n")

    status, found = installation.check()

    assert status == 2
    assert found["configuration"][0][0] == "failed"


def test_a_host_that_does_not_answer_is_a_failed_check(installation):
    installation.database.sync()
    installation.configure("compute_driver = xenapi.XenAPIDriver\n[xenserver]\nconnection_url = http://127.0.0.1:1\n"
                           "connection_password = x\n")

    status, found = installation.check()

    assert status == 2
    assert [result for result, _ in found["host"]] == ["failed"]
