"""What operators do with servers, hosts and projects by the client's commands, on a running tree."""

import pytest

from tests.fixtures.client import Client
from tests.fixtures.tree import RunningTree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    directory = tmp_path_factory.mktemp("commands-tree")
    overrides = {("volume", "backend"): "local", ("volume", "store_path"): str(directory / "volumes")}
    with RunningTree(directory, overrides=overrides).start() as running:
        yield running


@pytest.fixture(scope="module")
def client(tree):
    return Client(tree)


@pytest.fixture(scope="module")
def server(tree, client):
    """A server in the cell that has two hosts, so that it can move."""
    return client.read("server", "create", "mover", "--image", tree.image_id, "--flavor", "m1.tiny",
                       "--hint", "target_cell=api!west", "--wait")  # fmt: skip


def shown(client, *columns):
    found = client.read("server", "show", "mover")
    return tuple(found[name] for name in columns)


@pytest.mark.parametrize(("orders", "state"), [
    ([["rescue", "mover"]], "rescued"),
    ([["unrescue", "mover"]], "active"),
    ([["rebuild", "mover"]], "active"),
    ([["resize", "mover", "--flavor", "m1.small"]], "resized"),
    ([["resize", "confirm", "mover"]], "active"),
    ([["resize", "mover", "--flavor", "m1.medium"], ["resize", "revert", "mover"]], "active"),
    ([["migrate", "mover"], ["resize", "confirm", "mover"]], "active"),
    ([["migrate", "mover", "--live", "--block-migration"]], "active"),
], ids=lambda value: " ".join(value[-1][:2]) if isinstance(value, list) else value)
def test_a_server_gets_another_image_size_or_host(client, server, orders, state):
    for order in orders:
        client.ok("server", *order, "--wait")

    assert shown(client, "state", "task") == (state, None)


def test_a_confirmed_size_stays_and_a_reverted_one_goes(client, server):
    assert shown(client, "flavor") == ("m1.small",)


def test_moves_are_listed(client, server):
    statuses = [row["Status"] for row in client.read("server", "migrations")]
    assert {"confirmed", "reverted"} <= set(statuses)


def test_an_image_and_a_backup_are_made(client, server):
    image = client.read("server", "image", "create", "mover", "--name", "picture", "--wait")
    backup = client.read("server", "backup", "create", "mover", "--name", "copy", "--rotate", "1", "--wait")

    assert (image["status"], backup["status"]) == ("active", "active")
    assert image["size"] > 0


def test_a_volume_comes_and_goes(client, server):
    made = client.read("volume", "create", "data", "--size", "1")
    attached = client.read("server", "add", "volume", "mover", "data")
    client.tree.until(lambda: client.read("volume", "show", "data")["Status"] == "in-use", "it was not attached")
    client.ok("server", "remove", "volume", "mover", "data")
    client.tree.until(lambda: client.read("volume", "show", "data")["Status"] == "available", "it was not detached")
    client.ok("volume", "delete", "data")

    assert attached["device"].startswith("/dev/")
    assert made["ID"] not in [row["ID"] for row in client.read("volume", "list")]


def test_a_second_interface_comes_and_goes(client, server):
    (port,) = client.read("server", "ports", "mover")
    client.ok("server", "add", "network", "mover", port["Network ID"])
    second = client.tree.until(
        lambda: [one for one in client.read("server", "ports", "mover") if one["Port"] != port["Port"]], "no port")[0]
    client.ok("server", "remove", "port", "mover", second["Port"])

    client.tree.until(lambda: client.read("server", "ports", "mover") == [port], "the port stayed")
    assert second["Addresses"] and second["Addresses"] != port["Addresses"]


def test_a_second_address_comes_and_goes(client, server):
    (port,) = client.read("server", "ports", "mover")
    client.ok("server", "add", "fixed", "ip", "mover", port["Network ID"])

    def addresses():
        return [address for one in client.read("server", "ports", "mover")
                for address in one["Addresses"].split(", ")]  # fmt: skip

    both = client.tree.until(lambda: len(found := addresses()) == 2 and found, "no second address")
    client.ok("server", "remove", "fixed", "ip", "mover", both[1])
    client.tree.until(lambda: addresses() == both[:1], "the address stayed")


def test_its_name_and_properties_are_changed(client, server):
    client.ok("server", "set", "mover", "--property", "colour=red", "--property", "shape=round")
    client.ok("server", "unset", "mover", "--property", "shape")
    client.ok("server", "set", "mover", "--name", "renamed")
    client.ok("server", "set", "renamed", "--name", "mover")

    assert shown(client, "name", "metadata") == ("mover", '{"colour": "red"}')


def test_a_locked_server_says_so_and_is_unlocked(client, server):
    client.ok("server", "lock", "mover")
    assert shown(client, "locked") == (True,)
    client.ok("server", "unlock", "mover")
    assert shown(client, "locked") == (False,)


def test_what_was_done_is_told_with_its_steps(client, server):
    actions = client.read("server", "events", "mover")
    steps = client.read("server", "events", "mover", "--request", actions[-1]["Request"])

    assert actions[-1]["Action"] == "create"
    assert {step["Result"] for step in steps} == {"Success"}


def test_an_unknown_request_is_one_line(client, server):
    status, _, stderr = client.run("server", "events", "mover", "--request", "req-none")

    assert (status, stderr) == (1, "nova-lite: the server has no action of request 'req-none'\n")


def test_its_measurements_are_shown(client, server):
    assert client.read("server", "diagnostics", "mover")


def test_its_screen_has_an_address_with_a_token(client, server):
    url = client.read("server", "console", "url", "mover")["url"]
    token = url.partition("token=")[2]

    assert client.tree.api.services.console_tokens.check_token(client.tree.context(), token)["instance_uuid"] == server[
        "id"]


def test_a_password_is_never_taken_from_the_command_line(client, server):
    assert client.run("server", "set", "mover", "--password", "x")[0] == 2


def test_a_password_file_that_is_not_there_is_one_line(client, server):
    status, _, stderr = client.run("server", "set", "mover", "--password-file", "/nowhere/password")

    assert status == 1
    assert stderr.startswith("nova-lite: cannot read /nowhere/password")
    assert stderr.count("\n") == 1


def test_a_softly_deleted_server_is_restored(tree, client):
    arguments = ("--image", tree.image_id, "--flavor", "m1.tiny", "--wait")
    made = client.read("server", "create", "phoenix", *arguments)
    client.ok("server", "delete", made["id"], "--soft", "--wait")
    assert client.read("server", "show", made["id"])["state"] == "soft-delete"

    client.ok("server", "restore", made["id"], "--wait")
    assert client.read("server", "show", made["id"])["state"] == "active"
    client.ok("server", "delete", made["id"], "--force", "--wait")


# --- Hosts and services ---

def test_a_host_is_shown_closed_and_opened(client, server):
    (name,) = [row["Host"] for row in client.read("host", "list") if row["Host"].endswith("@east-1")]
    client.ok("host", "set", name, "--disable")
    assert client.read("host", "show", name)["status"] == "disabled"
    client.ok("host", "set", name, "--enable")

    found = client.read("host", "show", name)
    assert (found["status"], found["state"]) == ("enabled", "up")
    assert found["ram_mb"] > 0


def test_a_service_is_disabled_with_its_reason(client):
    (name,) = [row["Host"] for row in client.read("host", "list") if row["Host"].endswith("@east-1")]
    client.ok("service", "set", name, "--disable", "--reason", "new memory")
    (row,) = [one for one in client.read("service", "list") if one["Host"] == name]
    client.ok("service", "set", name, "--enable")

    assert (row["Status"], row["Reason"]) == ("disabled", "new memory")


def test_an_unknown_host_is_one_line(client):
    status, _, stderr = client.run("host", "set", "api!west@nobody", "--disable")

    assert status == 1
    assert "nobody" in stderr and stderr.count("\n") == 1


def test_sums_over_hosts_are_shown(client):
    assert client.read("host", "statistics")["count"] == 3


# --- Projects ---

def test_a_limit_is_set_and_taken_back(client):
    default = {row["Resource"]: row["Limit"] for row in client.read("quota", "show", "--default")}
    client.ok("quota", "set", "renters", "--limit", "cores=3", "--limit", "ram=-1")
    own = {row["Resource"]: row["Limit"] for row in client.read("quota", "show", "renters")}
    client.ok("quota", "delete", "renters")

    assert own == {**default, "cores": 3, "ram": -1}
    assert {row["Resource"]: row["Limit"] for row in client.read("quota", "show", "renters")} == default


@pytest.mark.parametrize("limit", ["cars=1", "cores=many", "cores=-2"])
def test_a_limit_that_is_none_is_one_line(client, limit):
    status, _, stderr = client.run("quota", "set", "renters", "--limit", limit)

    assert status == 1
    assert stderr.count("\n") == 1


def test_what_a_project_has_used_is_summed_up(client, server):
    (row,) = [one for one in client.read("usage") if one["Project"] == client.tree.context().project_id]

    assert row["Servers"] >= 1


# --- What belongs to one cell ---

def test_security_groups_have_rules(client):
    client.ok("security", "group", "create", "web", "--description", "browsers")
    client.ok("security", "group", "rule", "create", "web", "--protocol", "tcp", "--port", "80:81")
    client.ok("security", "group", "rule", "create", "web", "--protocol", "icmp", "--from-group", "web")
    rules = client.read("security", "group", "rule", "list", "web")
    client.ok("security", "group", "rule", "delete", "web", str(rules[0]["ID"]))
    left = client.read("security", "group", "rule", "list", "web")
    client.ok("security", "group", "delete", "web")

    assert [(rule["Protocol"], rule["From Port"], rule["To Port"], rule["CIDR"]) for rule in rules] == [
        ("tcp", 80, 81, "0.0.0.0/0"), ("icmp", -1, -1, None)]
    assert left == rules[1:]
    assert "web" not in [row["Name"] for row in client.read("security", "group", "list")]


def test_an_aggregate_is_a_zone_of_hosts(client):
    client.ok("aggregate", "create", "racks", "--zone", "north", "--property", "ssd=true")
    client.ok("aggregate", "set", "racks", "--name", "rack", "--unset", "ssd", "--property", "gpu=true")
    found = client.read("aggregate", "show", "rack")
    status, _, stderr = client.run("aggregate", "add", "host", "rack", "nobody")
    client.ok("aggregate", "delete", "rack")

    assert (found["Zone"], found["Metadata"]) == ("north", '{"gpu": "true"}')
    assert status == 1 and "nobody" in stderr
    assert client.read("aggregate", "list") == []
