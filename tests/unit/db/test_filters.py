"""Finding instances."""

import datetime

import pytest

from nova_lite import exception


@pytest.fixture
def find(db, ctxt):
    def names(filters=None, **kwargs):
        return [row["display_name"] for row in db.instance_get_all_by_filters(ctxt, filters or {}, **kwargs)]

    return names


@pytest.fixture
def fleet(db, ctxt, make_instance, clock):
    """Four instances, a second apart: web1, web2, db1, and gone, which is deleted."""
    rows = {}
    for name, values in {
        "web1": {"host": "h1", "vm_state": "active", "metadata": {"tier": "web"}},
        "web2": {"host": "h2", "vm_state": "active", "task_state": "rebooting", "metadata": {"tier": "web", "a": "b"}},
        "db1": {"host": "h1", "vm_state": "stopped", "project_id": "other", "system_metadata": {"image_os": "x"}},
        "gone": {"host": "h1", "vm_state": "active"},
    }.items():
        rows[name] = make_instance(display_name=name, **values)
        clock.advance(1)
    db.instance_destroy(ctxt, rows["gone"]["uuid"])
    return rows


@pytest.mark.parametrize("filters, expected", [
    ({}, {"web1", "web2", "db1", "gone"}),
    ({"deleted": False}, {"web1", "web2", "db1"}),
    ({"deleted": True}, {"gone"}),
    ({"deleted": False, "host": "h1"}, {"web1", "db1"}),
    ({"deleted": False, "vm_state": ["active", "error"]}, {"web1", "web2"}),
    ({"deleted": False, "task_state": [None, "pausing"]}, {"web1", "db1"}),
    ({"deleted": False, "task_state": None}, {"web1", "db1"}),
    ({"deleted": False, "display_name": "^web"}, {"web1", "web2"}),
    ({"deleted": False, "display_name": "1$"}, {"web1", "db1"}),
    ({"deleted": False, "project_id": "other"}, {"db1"}),
    ({"metadata": {"tier": "web"}}, {"web1", "web2"}),
    ({"metadata": [{"tier": "web"}, {"a": "b"}]}, {"web2"}),
    ({"system_metadata": {"image_os": "x"}}, {"db1"}),
])
def test_filters(fleet, find, filters, expected):
    assert set(find(filters)) == expected


def test_sorting_in_both_directions_and_by_creation_when_equal(fleet, find):
    assert find({"deleted": False}, sort_key="display_name", sort_dir="asc") == ["db1", "web1", "web2"]
    assert find({"deleted": False}, sort_key="vm_state", sort_dir="desc") == ["db1", "web2", "web1"]
    assert find({"deleted": False}) == ["db1", "web2", "web1"]


@pytest.mark.parametrize("sort_key", ["created_at", "host", "task_state", "display_name"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_pages_follow_each_other_without_gaps(fleet, db, ctxt, sort_key, sort_dir):
    everything = db.instance_get_all_by_filters(ctxt, {}, sort_key, sort_dir)

    paged, marker = [], None
    while page := db.instance_get_all_by_filters(ctxt, {}, sort_key, sort_dir, limit=1, marker=marker):
        paged += page
        marker = page[-1]["uuid"]

    assert [row["uuid"] for row in paged] == [row["uuid"] for row in everything]
    assert len(paged) == 4


def test_a_limit_holds_for_patterns_too(fleet, find):
    assert len(find({"display_name": "."}, limit=2)) == 2


def test_what_has_changed_since(fleet, find, db, ctxt, clock):
    clock.advance(100)
    since = clock.utcnow()
    db.instance_update(ctxt, fleet["web1"]["uuid"], {"progress": 1})

    assert find({"changes-since": since}) == ["web1"]
    assert find({"changes-since": since.isoformat()}) == ["web1"]


def test_mistakes_are_told(fleet, find):
    with pytest.raises(exception.MarkerNotFound):
        find(marker="nobody")
    with pytest.raises(exception.InvalidInput, match="colour"):
        find({"colour": "red"})
    with pytest.raises(exception.InvalidInput, match="regular expression"):
        find({"display_name": "("})
    with pytest.raises(exception.InvalidInput, match="sorted"):
        find(sort_key="colour")


def test_users_see_only_their_project(fleet, find, ctxt):
    ctxt.is_admin, ctxt.project_id = False, "other"

    assert find() == ["db1"]


def test_the_other_ways_to_find_some(fleet, db, ctxt, clock):
    def names(rows):
        return [row["display_name"] for row in rows]

    assert names(db.instance_get_all_by_host(ctxt, "h1")) == ["web1", "db1"]
    assert names(db.instance_get_all_by_uuids(ctxt, [fleet["web2"]["uuid"], "nobody"])) == ["web2"]
    db.instance_update(ctxt, fleet["web2"]["uuid"], {"progress": 0})
    clock.advance(50)
    assert names(db.instance_get_all_hung_in_rebooting(ctxt, 40)) == ["web2"]
    assert names(db.instance_get_all_hung_in_rebooting(ctxt, 60)) == []
    assert names(db.instance_get_all_hung_in_rebooting(ctxt, 40, host="h1")) == []


def test_who_was_active_in_a_period(db, ctxt, make_instance, clock):
    begin = clock.naive()
    for name, launched_h, terminated_h in (("before", -3, -1), ("over", -3, 1), ("within", 1, 2), ("after", 9, None)):
        times = {"launched_at": launched_h, "terminated_at": terminated_h}
        row = make_instance(display_name=name, host="h1", **{
            key: begin + hours(value) for key, value in times.items() if value is not None})
        if name == "over":
            db.instance_destroy(ctxt, row["uuid"])

    rows = db.instance_get_active_by_window_joined(ctxt, begin, begin + hours(5), host="h1")

    assert [row["display_name"] for row in rows] == ["over", "within"]


def hours(count):
    return datetime.timedelta(hours=count)


def test_what_a_project_uses(db, ctxt, make_instance):
    for vm_state in ("active", None, "soft-delete"):
        make_instance(vcpus=2, memory_mb=512, vm_state=vm_state)

    assert db.instance_count_by_project(ctxt, "project") == {"instances": 2, "cores": 4, "ram": 1024}
    assert db.instance_count_by_project(ctxt, "nobody") == {"instances": 0, "cores": 0, "ram": 0}
