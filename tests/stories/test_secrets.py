"""A server with secrets, through the top cell: what the client prints, the cells log and keep, and the users read."""

import json

import pytest

from nova_lite import exception
from tests.fixtures.canaries import (
    FILE,
    NEW_PASSWORD,
    PASSWORD,
    RESCUE,
    USER_DATA,
    attempt,
    collected_logs,
    leaks,
    rows,
)
from tests.fixtures.client import Client


@pytest.fixture
def secrets(tmp_path):
    """A function that gives the path of a file with a secret in it."""
    def written(name, text):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return written


def test_what_a_server_was_given_is_told_to_nobody(tree, secrets):
    client, printed = Client(tree), []

    def run(*arguments):
        printed.extend(str(part) for part in client.run(*arguments))

    with collected_logs() as logs:
        run("server", "create", "bank", "--image", tree.image_id, "--flavor", "m1.tiny", "--wait",
            "--file", f"/etc/motd={secrets('motd', FILE)}", "--user-data", secrets("data", USER_DATA), "-f", "json")
        uuid = json.loads(printed[1])["id"]
        for words in (("rescue", "bank", "--password-file", secrets("rescue", RESCUE), "--wait"),
                      ("unrescue", "bank", "--wait"),
                      ("rebuild", "bank", "--password-file", secrets("rebuild", PASSWORD), "--wait"),
                      ("set", "bank", "--password-file", secrets("new", NEW_PASSWORD)),
                      ("rescue", "nobody", "--password-file", secrets("again", RESCUE)),
                      ("show", "bank"), ("list",), ("events", "bank")):
            run("server", *words)
        ctxt = tree.context()
        printed.append(attempt(tree.api.compute_api.inject_file, ctxt, tree.api.compute_api.get(ctxt, uuid),
                               "/etc/motd", FILE))
        run("server", "delete", "bank", "--wait")

    assert len(printed) > 20
    assert leaks(printed) == []
    assert leaks(logs) == []
    for cell in tree.cells.values():
        assert leaks(rows(cell.db)) == []
    with pytest.raises(exception.InstanceNotFound):
        tree.api.compute_api.get(ctxt, uuid)
