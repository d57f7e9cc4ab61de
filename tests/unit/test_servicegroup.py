import datetime

import pytest

from nova_lite import conf as configuration
from nova_lite import context, exception, servicegroup

NOW = datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.UTC)


class Clock:
    def utcnow(self):
        return NOW


class Rows:
    """A table of services that can be away."""

    def __init__(self):
        self.row = {"id": 1, "report_count": 3}
        self.away = False

    def service_get_by_args(self, ctxt, host, binary):
        if self.away:
            raise OSError("no database")
        if self.row is None:
            raise exception.HostBinaryNotFound(host=host, binary=binary)
        return self.row

    def service_update(self, ctxt, row_id, values):
        self.row.update(values)


def group(db=None):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[])
    return servicegroup.API(context.Services(conf=conf, host="h1", db=db, clock=Clock()))


def ago(seconds):
    return (NOW - datetime.timedelta(seconds=seconds)).replace(tzinfo=None)


@pytest.mark.parametrize("service, up", [
    ({"last_seen_up": ago(60)}, True),
    ({"last_seen_up": ago(61)}, False),
    ({"last_seen_up": ago(-60)}, True),
    ({"last_seen_up": None, "updated_at": ago(5)}, True),
    ({"last_seen_up": None, "updated_at": None, "created_at": ago(5)}, True),
    ({"last_seen_up": ago(600), "updated_at": ago(5)}, False),
    ({"updated_at": "2026-11-21T07:59:30"}, True),
    ({"updated_at": "2026-11-21T07:50:30Z"}, False),
    ({"last_seen_up": ago(1), "forced_down": True}, False),
    ({}, False),
])
def test_a_service_is_up_while_it_reports(service, up):
    assert group().service_is_up(service) is up


def test_a_beat_counts_and_stamps():
    rows = Rows()

    group(rows).join("h1", "nova-compute").beat()

    assert rows.row == {"id": 1, "report_count": 4, "last_seen_up": NOW.replace(tzinfo=None)}


def test_a_database_that_is_away_is_told_once_and_once_when_it_is_back(caplog):
    rows = Rows()
    heartbeat = group(rows).join("h1", "nova-compute")

    rows.away = True
    heartbeat.beat()
    heartbeat.beat()
    rows.away = False
    heartbeat.beat()
    heartbeat.beat()

    assert [record.message.split(":")[0] for record in caplog.records] == [
        "cannot report that nova-compute on h1 is alive", "reporting that nova-compute on h1 is alive works again"]
