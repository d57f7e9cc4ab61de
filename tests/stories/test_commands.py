"""The client's commands on a running tree."""

import csv
import io
import json

import pytest
import yaml

from tests.fixtures.client import Client


@pytest.fixture
def client(tree):
    return Client(tree)


@pytest.fixture
def server(tree, client):
    created = client.read("server", "create", "web", "--image", tree.image_id, "--flavor", "m1.tiny",
                          "--property", "role=front", "--wait")  # fmt: skip
    yield created
    if any(row["ID"] == created["id"] for row in client.read("server", "list")):
        client.ok("server", "delete", created["id"], "--wait")


def test_a_created_server_is_shown_where_it_runs(server):
    assert (server["name"], server["state"], server["flavor"]) == ("web", "active", "m1.tiny")
    assert server["cell"].startswith("api!")
    assert json.loads(server["metadata"]) == {"role": "front"}


def test_lists_have_all_formats(client, server):
    rows = client.read("server", "list")
    as_yaml = yaml.safe_load(client.ok("server", "list", "-f", "yaml"))
    as_csv = list(csv.DictReader(io.StringIO(client.ok("server", "list", "-f", "csv"))))
    as_value = client.ok("server", "list", "-f", "value", "-c", "ID")
    as_table = client.ok("server", "list")

    assert [row["Name"] for row in rows] == ["web"]
    assert as_yaml == rows
    assert as_csv[0]["ID"] == as_value.strip() == server["id"]
    assert server["id"] in as_table


@pytest.mark.parametrize(
    ("verbs", "state", "power"),
    [
        (["reboot"], "active", "running"),
        (["pause", "unpause"], "active", "running"),
        (["stop"], "stopped", "shutdown"),
        (["suspend", "resume"], "active", "running"),
        (["stop", "start"], "active", "running"),
    ],
)
def test_waiting_returns_when_it_has_happened(client, server, verbs, state, power):
    for verb in verbs:
        client.ok("server", verb, "web", "--wait")

    shown = client.read("server", "show", "web")
    assert (shown["state"], shown["power"], shown["task"]) == (state, power, None)


def test_a_deleted_server_is_gone_when_waiting_returns(client, server):
    client.ok("server", "delete", "web", "--wait")

    status, _, stderr = client.run("server", "show", server["id"])
    assert status == 1
    assert server["id"] in stderr
    assert stderr.count("\n") == 1


def test_an_unknown_server_is_one_line(client):
    assert client.run("server", "pause", "nobody") == (1, "", "nova-lite: nobody: there is no server 'nobody'\n")


def test_an_operation_in_the_wrong_state_is_one_line(client, server):
    status, _, stderr = client.run("server", "unpause", "web")

    assert status == 1
    assert "unpause" in stderr
    assert stderr.count("\n") == 1


def test_an_unknown_flavor_or_image_is_named(tree, client):
    for arguments in (["--image", "none", "--flavor", "m1.tiny"], ["--image", tree.image_id, "--flavor", "none"]):
        status, _, stderr = client.run("server", "create", "x", *arguments)
        assert status == 1
        assert "'none'" in stderr


def test_every_host_and_service_of_the_tree_is_listed(client):
    hosts = {row["Host"] for row in client.read("host", "list")}
    services = {(row["Binary"], row["Host"], row["State"]) for row in client.read("service", "list")}

    assert {host.rpartition("@")[2] for host in hosts} == {"west-1", "west-2", "east-1"}
    assert ("nova-compute", "api!west@west-1", "up") in services


def test_neighbours_are_listed_with_what_fits(client):
    assert {row["Name"]: row["Type"] for row in client.read("cell", "list")} == {"west": "child", "east": "child"}
    assert client.read("cell", "show", "west")["ram_free_mb"] > 0


def test_an_unknown_cell_is_one_line(client):
    assert client.run("cell", "show", "north") == (1, "", "nova-lite: there is no cell 'north' next to 'api'\n")


def test_flavors_are_made_shown_and_removed(client):
    client.ok("flavor", "create", "huge", "--memory", "4096", "--cpu", "4", "--property", "a=b")
    shown = client.read("flavor", "show", "huge")
    client.ok("flavor", "delete", "huge")

    assert (shown["RAM MB"], shown["VCPUs"], json.loads(shown["Extra Specs"])) == (4096, 4, {"a": "b"})
    assert "huge" not in [row["Name"] for row in client.read("flavor", "list")]


def test_images_are_stored_shown_and_removed(client, tree):
    created = client.read("image", "create", "copy", "--file", str(tree.image.path))
    shown = client.read("image", "show", "copy")
    client.ok("image", "delete", "copy")

    assert shown["ID"] == created["ID"]
    assert (shown["Disk Format"], shown["Size"]) == (tree.image.disk_format, tree.image.path.stat().st_size)
    assert "copy" not in [row["Name"] for row in client.read("image", "list")]


def test_an_image_file_that_is_not_there_is_one_line(client):
    status, _, stderr = client.run("image", "create", "x", "--file", "/nonexistent.vhd")

    assert (status, stderr) == (1, "nova-lite: cannot read /nonexistent.vhd: No such file or directory\n")


def test_key_pairs_are_made_shown_and_removed(client):
    private = client.ok("keypair", "create", "mine")
    shown = client.read("keypair", "show", "mine")
    client.ok("keypair", "delete", "mine")

    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert shown["Public Key"].startswith("ssh-ed25519 ")
    assert client.read("keypair", "list") == []


def test_networks_are_made_shown_and_removed(client):
    client.ok("network", "create", "lab", "--cidr", "10.9.0.0/28", "--bridge", "xenbr1", "--dns", "192.0.2.53")
    shown = client.read("network", "show", "lab")
    client.ok("network", "delete", "lab")

    assert (shown["CIDR"], shown["Gateway"], shown["DNS 1"]) == ("10.9.0.0/28", "10.9.0.1", "192.0.2.53")
    assert client.read("network", "list") == []


def test_a_wrong_network_is_one_line(client):
    status, _, stderr = client.run("network", "create", "lab", "--cidr", "10.9.0.1/8", "--bridge", "xenbr1")

    assert status == 1
    assert stderr.count("\n") == 1


LONG = "x" * 10_000
MISTAKES = {
    "server show": [LONG], "server pause": ["caf\udce9"], "server list --limit": ["-1"],
    "server create --flavor m1.tiny --image IMAGE": [LONG], "server create s --image IMAGE --flavor": [LONG],
    "server create s --flavor m1.tiny --image IMAGE --network": [LONG],
    "server create s --flavor m1.tiny --image IMAGE --count": ["0"],
    "server create s --flavor m1.tiny --image IMAGE --key": ["nobodys"],
    "server create s --flavor m1.tiny --image IMAGE --file": ["/etc/motd=/no/such/file"],
    "server create s --flavor m1.tiny --image IMAGE --property": [f"key={LONG}"],
    "keypair create": ["", LONG, "caf\udce9"], "aggregate create": ["", LONG, "caf\udce9"],
    "security group create": ["", LONG, "caf\udce9"], "network create n --cidr": ["nonsense", "10.0.0.0/99"],
    "flavor create --ram 1 --vcpus 1 --disk 1": ["", LONG, "caf\udce9"],
    "flavor create f --vcpus 1 --disk 1 --ram": ["-1"],
    "image create --file FILE": ["", LONG, "caf\udce9"], "image create i --file FILE --min-ram": ["-1"],
    "host show": [LONG], "host set --disable": ["caf\udce9"], "quota set admin": ["cores=many"],
    "usage --start": ["yesterday"],
}


@pytest.mark.parametrize(("words", "value"), [(words, value) for words, values in MISTAKES.items()
                                              for value in values])
def test_a_mistake_is_one_line_and_a_status(client, tree, tmp_path, capsys, words, value):
    picture = tmp_path / "picture.vhd"
    picture.write_bytes(b"x")
    known = {"IMAGE": tree.image_id, "FILE": str(picture)}

    status, stdout, stderr = client.run(*(known.get(word, word) for word in words.split()), value)

    told = [line for line in (stderr + capsys.readouterr().err).splitlines()
            if line.strip() and not line.startswith(("usage:", "   "))]
    assert (status in (1, 2), stdout, len(told)) == (True, "", 1), told
    assert LONG not in told[0]
    assert "Traceback" not in told[0]
