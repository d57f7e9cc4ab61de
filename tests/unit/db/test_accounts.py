"""Flavors, keys, quotas, usage, groups, networks, console tokens, purging."""

import datetime

import pytest

from nova_lite import exception

# -- flavors and keys --


def test_a_flavor_with_extra_specs_and_projects(db, ctxt):
    made = db.flavor_create(ctxt, {"name": "big", "flavorid": "77", "memory_mb": 4, "vcpus": 2, "root_gb": 1,
                                   "extra_specs": {"a": "1"}}, projects=["p1"])

    db.flavor_extra_specs_update_or_create(ctxt, "77", {"a": "2", "b": "3"})
    db.flavor_extra_specs_delete(ctxt, "77", "b")
    db.flavor_access_replace(ctxt, "77", ["p2"])

    flavor = db.flavor_get_by_flavor_id(ctxt, "77")
    assert (flavor["extra_specs"], flavor["projects"]) == ({"a": "2"}, ["p2"])
    assert db.flavor_get(ctxt, made["id"]) == db.flavor_get_by_name(ctxt, "big") == flavor
    with pytest.raises(exception.FlavorExtraSpecsNotFound):
        db.flavor_extra_specs_delete(ctxt, "77", "b")


def test_flavor_names_and_ids_are_unique_among_the_living(db, ctxt):
    values = {"name": "big", "flavorid": "77", "memory_mb": 4, "vcpus": 2, "root_gb": 1}
    db.flavor_create(ctxt, values)

    with pytest.raises(exception.FlavorExists):
        db.flavor_create(ctxt, {**values, "flavorid": "78"})
    with pytest.raises(exception.FlavorIdExists):
        db.flavor_create(ctxt, {**values, "name": "other"})
    db.flavor_destroy(ctxt, "big")
    again = db.flavor_create(ctxt, values)

    assert db.flavor_get_by_flavor_id(ctxt.elevated(read_deleted="yes"), "77")["id"] == again["id"]


def test_missing_flavors(db, ctxt):
    with pytest.raises(exception.FlavorNotFound):
        db.flavor_get_by_flavor_id(ctxt, "99")
    with pytest.raises(exception.InstanceTypeNotFound):
        db.flavor_get(ctxt, 99)
    with pytest.raises(exception.InstanceTypeNotFoundByName):
        db.flavor_destroy(ctxt, "none")


def test_flavors_are_listed_and_filtered(db, ctxt):
    db.flavor_destroy(ctxt, "m1.tiny")

    assert len(db.flavor_get_all(ctxt)) == 4
    assert len(db.flavor_get_all(ctxt, inactive=True)) == 5
    assert [row["name"] for row in db.flavor_get_all(ctxt, filters={"min_memory_mb": 8192})] == [
        "m1.large", "m1.xlarge"]
    assert db.flavor_get_all(ctxt, filters={"is_public": False}) == []


def test_key_pairs(db, ctxt):
    made = db.key_pair_create(ctxt, {"user_id": "user", "name": "key", "public_key": "ssh-rsa A", "fingerprint": "f"})

    assert db.key_pair_get(ctxt, "user", "key") == made
    assert made["type"] == "ssh"
    assert db.key_pair_count_by_user(ctxt, "user") == len(db.key_pair_get_all_by_user(ctxt, "user")) == 1
    with pytest.raises(exception.KeyPairExists):
        db.key_pair_create(ctxt, {"user_id": "user", "name": "key"})
    db.key_pair_destroy(ctxt, "user", "key")
    with pytest.raises(exception.KeypairNotFound):
        db.key_pair_get(ctxt, "user", "key")
    with pytest.raises(exception.KeypairNotFound):
        db.key_pair_destroy(ctxt, "user", "key")


# -- quotas --

def usage(db, ctxt, resource="instances"):
    row = db.quota_usage_get_all_by_project(ctxt, "project")[resource]
    return row["in_use"], row["reserved"]


def test_a_reservation_is_committed_once(db, ctxt, clock):
    uuids = db.quota_reserve(ctxt, {"instances": 5}, {"instances": 2}, clock.naive())
    reserved = usage(db, ctxt)

    db.reservation_commit(ctxt, uuids)
    db.reservation_commit(ctxt, uuids)
    db.reservation_rollback(ctxt, [*uuids, "unknown"])

    assert (reserved, usage(db, ctxt)) == ((0, 2), (2, 0))


def test_a_reservation_is_given_up_or_expires(db, ctxt, clock):
    limits, hour = {"instances": 5}, datetime.timedelta(hours=1)
    given_up = db.quota_reserve(ctxt, limits, {"instances": 1}, clock.naive() + hour)
    db.quota_reserve(ctxt, limits, {"instances": 2}, clock.naive() + hour)

    db.reservation_rollback(ctxt, given_up)
    before = usage(db, ctxt)
    clock.advance(3601)
    expired = db.reservation_expire(ctxt)

    assert (before, expired, usage(db, ctxt)) == ((0, 2), 1, (0, 0))


def test_what_is_too_much_reserves_nothing(db, ctxt, make_instance, clock):
    make_instance(vcpus=3, memory_mb=100)

    with pytest.raises(exception.OverQuota) as caught:
        db.quota_reserve(ctxt, {"instances": 5, "cores": 4, "ram": -1}, {"instances": 1, "cores": 2, "ram": 999},
                         clock.naive())

    assert caught.value.kwargs["overs"] == ["cores"]
    assert caught.value.kwargs["usages"]["cores"] == {"in_use": 3, "reserved": 0}
    assert db.quota_usage_get_all_by_project(ctxt, "project") == {}


def test_releasing_is_never_too_much_and_counts_when_committed(db, ctxt, make_instance, clock):
    make_instance(vcpus=3)
    uuids = db.quota_reserve(ctxt, {"cores": 1}, {"cores": -3}, clock.naive())
    before = usage(db, ctxt, "cores")

    db.reservation_commit(ctxt, uuids)

    assert (before, usage(db, ctxt, "cores")) == ((3, 0), (0, 0))


def test_usage_that_is_old_is_counted_anew(db, ctxt, make_instance, clock):
    db.reservation_commit(ctxt, db.quota_reserve(ctxt, {}, {"instances": 7}, clock.naive()))
    make_instance()
    clock.advance(100)

    db.quota_reserve(ctxt, {}, {"instances": 0}, clock.naive(), max_age=60)

    assert usage(db, ctxt) == (1, 0)


def test_limits_of_a_project(db, ctxt):
    db.quota_create(ctxt, "project", "cores", 5)
    db.quota_update(ctxt, "project", "cores", 6)

    assert db.quota_get_all_by_project(ctxt, "project") == {"cores": 6}
    with pytest.raises(exception.QuotaExists):
        db.quota_create(ctxt, "project", "cores", 7)
    with pytest.raises(exception.ProjectQuotaNotFound):
        db.quota_update(ctxt, "project", "ram", 1)
    db.quota_destroy_all_by_project(ctxt, "project")
    assert db.quota_get_all_by_project(ctxt, "project") == {}


# -- usage --

def test_an_audit_runs_once_a_period(db, ctxt, clock):
    period = (clock.naive(), clock.naive() + datetime.timedelta(hours=1))
    db.task_log_begin_task(ctxt, "audit", *period, "h1", 3, "started")

    with pytest.raises(exception.TaskAlreadyRunning):
        db.task_log_begin_task(ctxt, "audit", *period, "h1")
    with pytest.raises(exception.TaskNotRunning):
        db.task_log_end_task(ctxt, "audit", *period, "h2", 0)
    assert len(db.task_log_get_running_by_host(ctxt, "audit", "h1")) == 1
    db.task_log_end_task(ctxt, "audit", *period, "h1", 1, "done")

    task = db.task_log_get(ctxt, "audit", str(period[0]), period[1].isoformat(), "h1")
    assert (task["state"], task["errors"], task["message"], task["task_items"]) == ("DONE", 1, "done", 3)
    assert db.task_log_get_all(ctxt, "audit", *period, state="RUNNING") == []


def test_bandwidth_of_a_period_is_one_row(db, ctxt, clock):
    start = clock.naive()
    db.bw_usage_update(ctxt, "u1", "02:00", start, 1, 2, 3, 4)

    db.bw_usage_update(ctxt, "u1", "02:00", start.isoformat(), 10, 20, 30, 2**40)

    [row] = db.bw_usage_get_by_uuids(ctxt, ["u1", "u2"], start)
    assert row == db.bw_usage_get(ctxt, "u1", start, "02:00")
    assert (row["bw_in"], row["last_ctr_out"], row["last_refreshed"]) == (10, 2**40, start)


def test_volume_counters_that_went_backwards_are_added_to_the_totals(db, ctxt):
    db.vol_usage_update(ctxt, "v1", 10, 100, 20, 200, "u1")
    db.vol_usage_update(ctxt, "v1", 15, 150, 25, 250, "u1")

    restarted = db.vol_usage_update(ctxt, "v1", 1, 10, 2, 20, "u1")
    ended = db.vol_usage_update(ctxt, "v1", 2, 20, 3, 30, "u1", update_totals=True)

    assert (restarted["tot_reads"], restarted["curr_reads"]) == (15, 1)
    assert (ended["tot_reads"], ended["tot_write_bytes"], ended["curr_reads"]) == (17, 280, 0)


def test_volume_usage_since_a_time(db, ctxt, clock):
    before = clock.naive() - datetime.timedelta(seconds=1)
    db.vol_usage_update(ctxt, "v1", 1, 1, 1, 1, "u1")
    db.vol_usage_update(ctxt, "v1", 1, 1, 1, 1, "u1", update_totals=True)

    assert len(db.vol_get_usage_by_time(ctxt, before)) == 1
    assert db.vol_get_usage_by_time(ctxt, clock.naive()) == []


# -- security groups --

def test_groups_their_rules_and_members(db, ctxt, make_instance):
    member = make_instance(security_groups=["default", "web"])
    web = db.security_group_get_by_name(ctxt, "project", "web")
    default = db.security_group_get_by_name(ctxt, "project", "default")
    db.security_group_rule_create(ctxt, {"parent_group_id": web["id"], "protocol": "tcp", "from_port": 80,
                                         "to_port": 80, "cidr": "0.0.0.0/0"})
    db.security_group_rule_create(ctxt, {"parent_group_id": web["id"], "group_id": default["id"]})

    rules = db.security_group_rule_get_by_security_group(ctxt, web["id"])
    assert [rule["protocol"] for rule in rules] == ["tcp", None]
    assert rules[1]["grantee_group"]["instances"] == [member["uuid"]]
    assert {group["name"] for group in db.security_group_get_by_instance(ctxt, member["uuid"])} == {"default", "web"}
    assert db.security_group_in_use(ctxt, web["id"]) is True
    db.instance_remove_security_group(ctxt, member["uuid"], web["id"])
    assert db.security_group_in_use(ctxt, web["id"]) is False
    db.security_group_destroy(ctxt, web["id"])
    with pytest.raises(exception.SecurityGroupNotFoundForProject):
        db.security_group_get_by_name(ctxt, "project", "web")
    with pytest.raises(exception.SecurityGroupExists):
        db.security_group_create(ctxt, {"name": "default", "project_id": "project"})


# -- networks --

def test_a_network_knows_what_follows_of_its_cidr(db, ctxt):
    network = db.network_create(ctxt, {"label": "net", "cidr": "10.1.0.0/29", "bridge": "xenbr0"})

    addresses = db.fixed_ip_get_by_network(ctxt, network["id"])
    assert (network["gateway"], network["netmask"], network["broadcast"], network["dhcp_start"]) == (
        "10.1.0.1", "255.255.255.248", "10.1.0.7", "10.1.0.2")
    assert [row["address"] for row in addresses if not row["reserved"]] == [f"10.1.0.{n}" for n in range(2, 7)]
    assert len(addresses) == 8
    with pytest.raises(exception.Duplicate):
        db.network_create(ctxt, {"label": "twin", "cidr": "10.1.0.0/29"})
    with pytest.raises(exception.InvalidInput):
        db.network_create(ctxt, {"label": "odd", "cidr": "10.1.0.1/29"})


def test_the_address_that_was_free_longest_is_given_first(db, ctxt, clock):
    network = db.network_create(ctxt, {"label": "net", "cidr": "10.1.0.0/29"})
    first = db.fixed_ip_allocate(ctxt, network["id"], "u1")
    clock.advance(1)
    db.fixed_ip_deallocate(ctxt, first["id"])

    second = db.fixed_ip_allocate(ctxt, network["id"], "u2")

    assert (first["address"], second["address"]) == ("10.1.0.2", "10.1.0.3")


def test_of_addresses_that_were_all_given_the_one_that_was_freed_first_is_next(db, ctxt, clock):
    network = db.network_create(ctxt, {"label": "net", "cidr": "10.1.0.0/29"})
    given = [db.fixed_ip_allocate(ctxt, network["id"], f"u{number}") for number in range(5)]
    for freed in (given[3], given[1]):
        clock.advance(1)
        db.fixed_ip_deallocate(ctxt, freed["id"])

    again = [db.fixed_ip_allocate(ctxt, network["id"], "u9")["address"] for _ in range(2)]

    assert again == [given[3]["address"], given[1]["address"]]
    with pytest.raises(exception.NoMoreFixedIps):
        db.fixed_ip_allocate(ctxt, network["id"], "u9")


def test_a_wanted_address_is_given_if_it_is_free(db, ctxt):
    network = db.network_create(ctxt, {"label": "net", "cidr": "10.1.0.0/29"})
    db.fixed_ip_allocate(ctxt, network["id"], "u1", address="10.1.0.5")

    for taken in ("10.1.0.5", "10.1.0.1"):
        with pytest.raises(exception.FixedIpAlreadyInUse):
            db.fixed_ip_allocate(ctxt, network["id"], "u2", address=taken)
    with pytest.raises(exception.FixedIpNotFoundForAddress):
        db.fixed_ip_allocate(ctxt, network["id"], "u2", address="10.2.0.1")


def test_an_interface_and_its_addresses_go_together(db, ctxt):
    network = db.network_create(ctxt, {"label": "net", "cidr": "10.1.0.0/29"})
    vif = db.virtual_interface_create(ctxt, {"address": "02:00:01", "network_id": network["id"],
                                             "instance_uuid": "u1"})
    db.fixed_ip_allocate(ctxt, network["id"], "u1", vif["id"])

    with pytest.raises(exception.VirtualInterfaceCreateException):
        db.virtual_interface_create(ctxt, {"address": "02:00:01", "network_id": network["id"],
                                           "instance_uuid": "u2"})
    with pytest.raises(exception.NetworkInUse):
        db.network_delete(ctxt, network["uuid"])
    assert db.virtual_interface_get_by_uuid(ctxt, vif["uuid"])["id"] == vif["id"]
    db.virtual_interface_delete_by_instance(ctxt, "u1")

    assert db.virtual_interface_get_by_instance(ctxt, "u1") == []
    assert db.fixed_ip_get_by_instance(ctxt, "u1") == []
    db.network_delete(ctxt, network["uuid"])
    with pytest.raises(exception.NetworkNotFound):
        db.network_get(ctxt, network["id"])


def test_a_project_gets_its_own_networks_or_those_of_nobody(db, ctxt):
    db.network_create(ctxt, {"label": "open", "cidr": "10.1.0.0/29"})
    own = db.network_create(ctxt, {"label": "own", "cidr": "10.2.0.0/29"})
    db.network_associate(ctxt, "p1", own["uuid"])

    def labels(project):
        return [row["label"] for row in db.network_get_all_by_project(ctxt, project)]

    assert (labels("p1"), labels("p2")) == (["own"], ["open"])
    with pytest.raises(exception.NetworkInUse):
        db.network_associate(ctxt, "p2", own["uuid"])


# -- consoles --

def test_console_tokens_expire_and_are_revoked(db, ctxt, clock):
    now_s = int(clock.time())
    for token, ttl_s in (("a", 10), ("b", 100), ("c", 100)):
        db.console_auth_token_create(ctxt, {"token_hash": token, "console_type": "novnc", "host": "h", "port": 1,
                                            "instance_uuid": "u2" if token == "c" else "u1",
                                            "expires": now_s + ttl_s})
    clock.advance(20)

    assert db.console_auth_token_get_valid(ctxt, "a") is None
    assert db.console_auth_token_get_valid(ctxt, "b")["host"] == "h"
    assert db.console_auth_token_destroy_expired(ctxt) == 1
    assert db.console_auth_token_destroy_all_by_instance(ctxt, "u1") == 1
    assert db.console_auth_token_get_valid(ctxt, "c") is not None
