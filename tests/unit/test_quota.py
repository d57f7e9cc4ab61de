import datetime

import pytest

from nova_lite import conf as configuration
from nova_lite import context, exception, quota

NOW = datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.UTC)
CTXT = context.RequestContext("u", "p")


class Clock:
    def utcnow(self):
        return NOW


class Tables:
    """The database as the engine uses it."""

    def __init__(self, has_parents=False):
        self._has_parents = has_parents
        self.limits = {"cores": 4, "ram": None}
        self.reserved = []
        self.settled = []
        self.gone = False

    def has_parents(self, ctxt):
        return self._has_parents

    def quota_get_all_by_project(self, ctxt, project_id):
        return {"project_id": project_id, **self.limits}

    def quota_usage_get_all_by_project(self, ctxt, project_id):
        return {"project_id": project_id, "cores": {"in_use": 3, "reserved": 1}}

    def quota_reserve(self, ctxt, limits, deltas, expire, until_refresh, max_age, project_id):
        self.reserved.append((limits["cores"], deltas, expire, project_id))
        return ["r1"]

    def reservation_commit(self, ctxt, reservations, project_id):
        if self.gone:
            raise exception.ReservationNotFound(uuid=reservations[0])
        self.settled.append(("commit", reservations))

    def reservation_rollback(self, ctxt, reservations, project_id):
        self.settled.append(("rollback", reservations))


def engine(tables):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[])
    return quota.QuotaEngine(context.Services(conf=conf, db=tables, clock=Clock()))


def test_a_projects_own_limits_win_over_the_defaults():
    quotas = engine(Tables()).get_project_quotas(CTXT)

    assert quotas["cores"] == {"limit": 4, "in_use": 3, "reserved": 1}
    assert quotas["ram"]["limit"] == quota.UNLIMITED
    assert quotas["instances"] == {"limit": 10, "in_use": 0, "reserved": 0}


def test_a_reservation_ends_after_a_day_unless_told_otherwise():
    tables = Tables()

    assert engine(tables).reserve(CTXT, instances=1, cores=2) == ["r1"]
    engine(tables).reserve(CTXT, expire=60, instances=1)

    naive = NOW.replace(tzinfo=None)
    assert tables.reserved[0] == (4, {"instances": 1, "cores": 2}, naive + datetime.timedelta(days=1), "p")
    assert tables.reserved[1][2] == naive + datetime.timedelta(minutes=1)


def test_an_expiration_that_is_none_is_refused():
    with pytest.raises(exception.InvalidReservationExpiration):
        engine(Tables()).reserve(CTXT, expire="soon", instances=1)


def test_values_are_checked_against_limits():
    checked = engine(Tables())

    checked.limit_check(CTXT, metadata_items=128, fixed_ips=10_000)
    with pytest.raises(exception.OverQuota) as caught:
        checked.limit_check(CTXT, metadata_items=129, cores=5)
    assert caught.value.kwargs["overs"] == ["cores", "metadata_items"]
    with pytest.raises(exception.InvalidQuotaValue):
        checked.limit_check(CTXT, cores=-1)
    with pytest.raises(exception.QuotaResourceUnknown):
        checked.limit_check(CTXT, zebras=1)


def test_nothing_is_counted_in_a_cell_that_has_parents():
    tables = Tables(has_parents=True)
    below = engine(tables)

    below.limit_check(CTXT, cores=1_000_000)
    assert below.reserve(CTXT, cores=1_000_000) == []
    assert set(below.get_defaults(CTXT).values()) == {quota.UNLIMITED}
    assert tables.reserved == []


def test_settling_reservations_never_fails_what_they_were_for():
    tables = Tables()
    settling = engine(tables)

    settling.commit(CTXT, ["r1"])
    settling.rollback(CTXT, ["r2"])
    settling.commit(CTXT, None)
    tables.gone = True
    settling.commit(CTXT, ["r3"])

    assert tables.settled == [("commit", ["r1"]), ("rollback", ["r2"])]
