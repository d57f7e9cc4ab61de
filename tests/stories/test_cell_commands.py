"""What operators ask of the cells of a running tree."""

import json

import pytest

from tests.fixtures.client import Client


@pytest.fixture
def client(tree):
    return Client(tree)


@pytest.fixture
def below(tree, client):
    """The full path of a cell below the top that has answered."""
    return tree.until(lambda: next((row["Cell"] for row in client.read("cell", "tree")
                                    if "!" in row["Cell"] and row["State"] == "up"), None), "no cell below is up")


def test_the_tree_is_listed_with_what_each_cell_holds_and_how_far_it_is(client, below):
    rows = {row["Cell"]: row for row in client.read("cell", "tree")}

    assert rows[below]["RAM Free MB"] > 0
    assert rows[below]["Round Trip ms"] > 0
    assert rows[below]["Report Age s"] is not None
    assert rows["api"]["Outbox"] == 0
    assert rows[below]["Lag s"] >= 0


def test_without_a_format_the_tree_is_drawn(client, below):
    drawn = client.ok("cell", "tree").splitlines()

    assert drawn[0].startswith("api")
    assert any(line.lstrip().startswith("└─ " + below.split("!")[1]) for line in drawn)


def test_the_tree_is_drawn_again_until_interrupted(client, below, monkeypatch):
    from nova_lite.concurrency import Clock

    pauses = []

    def interrupted(clock, seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Clock, "sleep", interrupted)

    drawn = client.ok("cell", "tree", "--watch", "7")

    assert pauses == [7, 7]
    assert below.split("!")[1] in drawn


def test_a_drained_cell_has_handed_over_what_waited(client, below):
    name = below.split("!")[1]
    try:
        client.ok("cell", "drain", name, "--wait")
        assert {row["Cell"]: row["State"] for row in client.read("cell", "tree")}[below] == "draining"
    finally:
        client.ok("cell", "enable", name)


def test_a_cell_that_cannot_hand_over_is_told(client):
    client.ok("cell", "create", "ruin", "--transport-url", "memory://elsewhere/ruin")
    try:
        status, _, stderr = client.run("cell", "drain", "ruin", "--wait", "--timeout", "1")
    finally:
        client.ok("cell", "delete", "ruin")

    assert status == 1
    assert "does not answer" in stderr


def test_a_ping_shows_every_hop(client, below):
    rows = client.read("cell", "ping", below)

    assert [row["Cell"] for row in rows] == ["api", below]
    assert all(row["Result"] == "ok" and row["Round Trip ms"] >= 0 for row in rows)


def test_a_ping_of_a_cell_that_is_not_there_says_so(client):
    rows = client.read("cell", "ping", "api!nowhere")

    assert "Unknown child" in rows[-1]["Result"]


def test_why_tells_filters_weights_and_the_cell_that_was_chosen(tree, client, below):
    server = client.read("server", "create", "why", "--image", tree.image_id, "--flavor", "m1.tiny", "--wait")

    rows = client.read("cell", "why", server["id"])
    client.ok("server", "delete", server["id"], "--wait")

    at_top = [row for row in rows if row["In Cell"] == "api"]
    assert at_top[-1]["Step"] == "outcome"
    assert at_top[-1]["Result"] == f"built in {server['cell'].split('!')[1]}"
    assert {"TargetCellFilter", "ImagePropertiesFilter"} <= {row["Step"] for row in at_top}
    assert any("RamByInstanceTypeWeigher" in row["Result"] for row in at_top if row["Step"] == "weight")


def test_why_of_an_unknown_request_is_one_line(client):
    status, _, stderr = client.run("cell", "why", "req-nobody")

    assert status == 1
    assert "no cell remembers" in stderr


def test_a_neighbour_is_made_changed_drained_disabled_enabled_and_forgotten(client):
    status, _, stderr = client.run("cell", "create", "attic", "--transport-url", "-",
                                   stdin="memory://user:secret@elsewhere/attic\n")
    assert status == 0, stderr

    def state():
        return {row["Cell"]: row["State"] for row in client.read("cell", "tree")}["api!attic"]

    try:
        client.ok("cell", "disable", "attic")
        assert state() == "disabled"
        client.ok("cell", "enable", "attic")
        client.ok("cell", "update", "attic", "--weight-offset", "2.5")
        client.ok("cell", "drain", "attic")
        client.ok("cell", "disable", "attic")
        assert "secret" not in client.ok("cell", "list") + json.dumps(client.read("cell", "show", "attic"))
    finally:
        client.ok("cell", "delete", "attic")
    assert "attic" not in client.ok("cell", "list")


def test_a_key_is_shared_with_a_neighbour_and_given_up_again(tree, client, tmp_path):
    key, nothing = tmp_path / "key", tmp_path / "nothing"
    key.write_text("0123456789abcdef-of-both\n")
    nothing.write_text("")

    def stored():
        return tree.api.services.db.cell_get(None, "vault")["shared_key"]

    client.ok("cell", "create", "vault", "--transport-url", "memory://elsewhere/vault", "--key-file", str(key))
    try:
        assert stored() == "0123456789abcdef-of-both"
        assert "0123456789abcdef" not in json.dumps(client.read("cell", "show", "vault"))
        client.ok("cell", "update", "vault", "--key-file", str(nothing))
        assert not stored()
    finally:
        client.ok("cell", "delete", "vault")


def test_a_short_key_is_refused(client, tmp_path, capsys):
    (tmp_path / "key").write_text("short")

    status, _, _ = client.run("cell", "update", "vault", "--key-file", str(tmp_path / "key"))

    assert status == 2
    assert "fewer than 16" in capsys.readouterr().err


def test_forgetting_an_unknown_neighbour_is_a_mistake(client):
    status, _, stderr = client.run("cell", "delete", "nobody")

    assert status == 1
    assert "nobody" in stderr


def test_a_sync_is_asked_for(client):
    assert client.ok("cell", "sync", "--deleted", "--updated-since", "2026-01-01T00:00:00") == ""


def test_a_sync_since_no_time_is_wrong_usage(client, capsys):
    status, _, _ = client.run("cell", "sync", "--updated-since", "yesterday")

    assert status == 2
    assert "not a time" in capsys.readouterr().err
