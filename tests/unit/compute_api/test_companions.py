"""Key pairs, aggregates and security groups."""

import pytest

from nova_lite import exception
from nova_lite.compute.api import AggregateAPI, KeypairAPI, SecurityGroupAPI
from tests.fixtures.one_cell import OneCell

PUBLIC = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti "
          "user@example.com")


# -- key pairs --

@pytest.fixture
def keypairs(cell):
    return KeypairAPI(cell.services)


def test_a_public_key_is_kept_with_its_fingerprint(cell, keypairs):
    pair = keypairs.import_key_pair(cell.context(), "alice", "my laptop-1_x", PUBLIC + "\n")

    assert pair.public_key == PUBLIC
    assert len(pair.fingerprint.split(":")) == 16
    assert keypairs.get_key_pair(cell.context(), "alice", "my laptop-1_x").fingerprint == pair.fingerprint
    with pytest.raises(exception.KeyPairExists):
        keypairs.import_key_pair(cell.context(), "alice", "my laptop-1_x", PUBLIC)


def test_a_generated_private_key_fits_its_public_one(cell, keypairs):
    from cryptography.hazmat.primitives import serialization

    pair, private = keypairs.create_key_pair(cell.context(), "alice", "new")

    loaded = serialization.load_ssh_private_key(private.encode(), None).public_key()
    assert loaded.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode() == (
        pair.public_key)


@pytest.mark.parametrize(("name", "key"), [
    ("", PUBLIC), ("x" * 256, PUBLIC), ("no/slash", PUBLIC), ("line\n", PUBLIC), ("fine", "nonsense"),
    ("fine", "ssh-rsa !!!"), ("fine", "")])
def test_bad_names_and_keys_are_refused(cell, keypairs, name, key):
    with pytest.raises(exception.InvalidKeypair):
        keypairs.import_key_pair(cell.context(), "alice", name, key)


def test_a_user_may_have_so_many_keys(cell, keypairs):
    cell.db.quota_create(cell.admin(), "red", "key_pairs", 1)
    keypairs.import_key_pair(cell.context(), "alice", "one", PUBLIC)

    with pytest.raises(exception.KeypairLimitExceeded):
        keypairs.import_key_pair(cell.context(), "alice", "two", PUBLIC)


def test_a_deleted_key_is_gone(cell, keypairs):
    keypairs.import_key_pair(cell.context(), "alice", "one", PUBLIC)

    keypairs.delete_key_pair(cell.context(), "alice", "one")

    assert list(keypairs.get_key_pairs(cell.context(), "alice")) == []
    with pytest.raises(exception.KeypairNotFound):
        keypairs.delete_key_pair(cell.context(), "alice", "one")


# -- aggregates --

@pytest.fixture
def aggregates(cell):
    return AggregateAPI(cell.services)


def test_a_host_joins_and_leaves_an_aggregate(cell, aggregates):
    host = cell.add_host("h1")
    made = aggregates.create_aggregate(cell.admin(), "pool", "east")
    assert (made["name"], made["availability_zone"]) == ("pool", "east")

    assert aggregates.add_host_to_aggregate(cell.admin(), made["id"], "h1")["hosts"] == ["h1"]
    order, arguments = host.heard()
    assert (order, arguments["host"], arguments["aggregate"]["name"]) == ("add_aggregate_host", "h1", "pool")

    with pytest.raises(exception.InvalidAggregateAction, match="not empty"):
        aggregates.delete_aggregate(cell.admin(), made["id"])

    assert aggregates.remove_host_from_aggregate(cell.admin(), made["id"], "h1")["hosts"] == []
    assert host.heard()[0] == "remove_aggregate_host"
    aggregates.delete_aggregate(cell.admin(), made["id"])
    with pytest.raises(exception.AggregateNotFound):
        aggregates.get_aggregate(cell.admin(), made["id"])


def test_a_host_nobody_knows_joins_nothing(cell, aggregates):
    made = aggregates.create_aggregate(cell.admin(), "pool", None)

    with pytest.raises(exception.ComputeHostNotFound):
        aggregates.add_host_to_aggregate(cell.admin(), made["id"], "h9")

    assert aggregates.get_aggregate(cell.admin(), made["id"])["hosts"] == []


def test_metadata_of_aggregates_is_set_and_removed(cell, aggregates):
    made = aggregates.create_aggregate(cell.admin(), "pool", "east")

    changed = aggregates.update_aggregate_metadata(cell.admin(), made["id"], {"ssd": "1", "availability_zone": None,
                                                                              "never": None})

    assert changed["metadetails"] == {"ssd": "1"}
    assert aggregates.update_aggregate(cell.admin(), made["id"], {"name": "other"})["name"] == "other"
    assert [one["name"] for one in aggregates.get_aggregate_list(cell.admin())] == ["other"]


# -- security groups --

@pytest.fixture
def groups(cell):
    return SecurityGroupAPI(cell.services)


def test_a_changed_rule_reaches_the_hosts_of_the_members(cell, groups):
    host, other = cell.add_host("h1"), cell.add_host("h2")
    web = groups.create_security_group(cell.context(), "web", "servers")
    member = cell.instance(host="h1", security_groups=[{"name": "web"}])
    cell.instance(host="h2", security_groups=[{"name": "default"}])

    (rule,) = groups.add_rules(cell.context(), web["id"], "web", [
        {"protocol": "TCP", "from_port": 80, "to_port": 80, "cidr": "0.0.0.0/0"}])

    order, arguments = host.heard()
    assert (order, arguments["instance"]["uuid"]) == ("refresh_instance_security_rules", member.uuid)
    assert groups.get(cell.context(), "web")["rules"][0]["protocol"] == "tcp"

    groups.remove_rules(cell.context(), web, [rule["id"], 999])
    assert host.heard()[0] == "refresh_instance_security_rules"
    assert groups.get(cell.context(), id=web["id"])["rules"] == []
    assert other.has_heard_nothing()


def test_a_new_member_reaches_the_hosts_it_may_speak_to(cell, groups):
    db_host, web_host = cell.add_host("h1"), cell.add_host("h2")
    database = groups.create_security_group(cell.context(), "db", "")
    web = groups.create_security_group(cell.context(), "web", "")
    cell.db.security_group_rule_create(cell.admin(), {
        "parent_group_id": database["id"], "group_id": web["id"], "protocol": "tcp", "from_port": 3306,
        "to_port": 3306})
    granting = cell.instance(host="h1", security_groups=[{"name": "db"}])
    joining = cell.instance(host="h2", security_groups=[{"name": "default"}])

    groups.add_to_instance(cell.context(), joining, "web")

    assert web_host.heard()[1]["instance"]["uuid"] == joining.uuid
    assert db_host.heard()[1]["instance"]["uuid"] == granting.uuid
    assert {group["name"] for group in cell.stored(joining).security_groups} == {"default", "web"}

    groups.remove_from_instance(cell.context(), joining, "web")
    assert {group["name"] for group in cell.stored(joining).security_groups} == {"default"}


@pytest.mark.parametrize("rule", [
    {"protocol": "sctp", "cidr": "0.0.0.0/0"}, {"protocol": "tcp", "from_port": 90, "to_port": 80, "cidr": "::/0"},
    {"protocol": "tcp", "from_port": 80, "to_port": 80}, {"protocol": "icmp", "cidr": "nonsense"},
    {"protocol": "udp", "from_port": 0, "to_port": 65536, "cidr": "0.0.0.0/0"},
    {"protocol": "TCP", "cidr": "0.0.0.0/0"}, {"protocol": 6, "cidr": "0.0.0.0/0"},
    {"protocol": "tcp", "from_port": "80", "to_port": "80", "cidr": "0.0.0.0/0"},
    {"protocol": "icmp", "from_port": "echo", "to_port": None, "cidr": "0.0.0.0/0"}])
def test_rules_that_make_no_sense_are_refused(cell, groups, rule):
    web = groups.create_security_group(cell.context(), "web", "")

    with pytest.raises(exception.InvalidInput):
        groups.add_rules(cell.context(), web["id"], "web", [rule])


def test_rules_are_not_for_groups_that_are_not_there_or_another_projects(cell, groups):
    rule = {"protocol": "tcp", "from_port": 80, "to_port": 80, "cidr": "0.0.0.0/0"}
    web = groups.create_security_group(cell.context(), "web", "")

    for context, group_id, grantee in ((cell.context(), 99, None), (cell.context(), web["id"], 99),
                                       (cell.context(project="blue"), web["id"], None)):
        with pytest.raises(exception.SecurityGroupNotFound):
            groups.add_rules(context, group_id, "web", [{**rule, "group_id": grantee}])

    assert groups.get(cell.context(), "web")["rules"] == []


def test_a_project_may_have_so_many_groups_and_rules(tmp_path):
    cell = OneCell(tmp_path, quota_security_groups=1, quota_security_group_rules=2)
    groups = SecurityGroupAPI(cell.services)
    rule = {"protocol": "tcp", "from_port": 80, "to_port": 80, "cidr": "0.0.0.0/0"}
    web = groups.create_security_group(cell.context(), "web", "")

    with pytest.raises(exception.SecurityGroupLimitExceeded):
        groups.create_security_group(cell.context(), "more", "")
    with pytest.raises(exception.SecurityGroupLimitExceeded):
        groups.add_rules(cell.context(), web["id"], "web", [rule] * 3)

    assert [group["name"] for group in groups.list(cell.context())] == ["web"]
    assert groups.get(cell.context(), "web")["rules"] == []
    cell.close()


def test_an_aggregate_is_not_given_the_name_of_another(cell, aggregates):
    aggregates.create_aggregate(cell.admin(), "one", None)
    two = aggregates.create_aggregate(cell.admin(), "two", None)

    with pytest.raises(exception.AggregateNameExists):
        aggregates.update_aggregate(cell.admin(), two["id"], {"name": "one"})

    assert aggregates.update_aggregate(cell.admin(), two["id"], {"name": "two"})["name"] == "two"


def test_a_group_in_use_and_the_default_group_stay(cell, groups):
    web = groups.create_security_group(cell.context(), "web", "")
    instance = cell.instance(security_groups=[{"name": "web"}])

    with pytest.raises(exception.Invalid, match="in use"):
        groups.destroy(cell.context(), web)
    instance.destroy()
    groups.destroy(cell.context(), web)

    assert groups.list(cell.context()) == []
    default = groups.create_security_group(cell.context(), "default", "")
    with pytest.raises(exception.Invalid):
        groups.destroy(cell.context(), default)
    with pytest.raises(exception.InvalidInput):
        groups.create_security_group(cell.context(), "", "")
