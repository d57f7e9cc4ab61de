"""The simulation finds what it is there to find: each defence that is taken away shows."""

import pytest
import sqlalchemy

from nova_lite.cells.disputes import Disputes
from nova_lite.cells.messaging import MessageRunner
from nova_lite.cells.outbox import Outbox
from nova_lite.cells.replica import Replica
from nova_lite.cells.skew import Skew
from nova_lite.db.api import Database

pytestmark = pytest.mark.timeout(900)

_SEEDS = (1, 2, 3)


def revisions_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(Replica, "_newer_fields", lambda self, row, changed, revision, is_snapshot: changed)


def tombstones_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(Database, "tombstone_get", lambda self, context, uuid: None, raising=False)


def messages_that_come_twice_are_processed_twice(monkeypatch):
    monkeypatch.setattr(MessageRunner, "remember", lambda self, message: True)
    monkeypatch.setattr(Disputes, "settle", lambda self, ctxt: None)  # which ends what comes of it


def updates_are_sent_once_without_acknowledgement(monkeypatch):
    send = Outbox._send

    def send_and_forget(self, ctxt, parent, entries):
        send(self, ctxt, parent, entries)
        return len(entries)

    monkeypatch.setattr(Outbox, "_send", send_and_forget)


def an_update_brings_a_deleted_instance_back(monkeypatch):
    update = Replica._update

    def update_any(self, ctxt, told, row, outcome):
        with self._db.writer(ctxt) as session:
            session.execute(sqlalchemy.text("update instances set deleted = 0 where uuid = :uuid"),
                            {"uuid": told.instance.uuid})
        return update(self, ctxt, told, row and {**row, "deleted": 0}, outcome)

    monkeypatch.setattr(Replica, "_update", update_any)


def nobody_is_told_of_what_was_deleted_before_it_had_a_cell(monkeypatch):
    monkeypatch.setattr(MessageRunner, "have_deleted", lambda self, owner, uuid: None)


def lost_builds_are_waited_for(monkeypatch):
    monkeypatch.setattr("nova_lite.cells.lost_builds.LostBuilds.end", lambda self, ctxt: None)


def deadlines_are_taken_for_times_of_our_own_clock(monkeypatch):
    monkeypatch.setattr(Skew, "local_time", lambda self, neighbour, their_time_s, sent_at_s: their_time_s)


MANY_CHANGES = {"instances": 20, "change_every_s": 0.1}
MANY_BUILDS = {"instances": 50}


@pytest.mark.parametrize(
    ("plant", "options", "symptom"),
    [
        (revisions_are_not_looked_at, MANY_CHANGES, "back to"),
        (tombstones_are_not_looked_at, {**MANY_BUILDS, "hasty": 0.5}, "knows that it is deleted"),
        (messages_that_come_twice_are_processed_twice, {"instances": 120}, "lives in"),
        (updates_are_sent_once_without_acknowledgement, {**MANY_BUILDS, "heals": False}, "at the top"),
        (an_update_brings_a_deleted_instance_back, MANY_BUILDS, "is back"),
        (nobody_is_told_of_what_was_deleted_before_it_had_a_cell, MANY_BUILDS, "is deleted at the top and lives in"),
        (deadlines_are_taken_for_times_of_our_own_clock, {"instances": 10}, "updates wait in"),
        (lost_builds_are_waited_for, {**MANY_BUILDS, "heals": False}, "is building"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_simulation_shows_that(make_tree, monkeypatch, plant, options, symptom):
    plant(monkeypatch)

    for seed in _SEEDS:
        tree = make_tree(seed, **options, calm_s=60.0)
        tree.play()
        found = tree.complaints()
        if any(symptom in line for line in found):
            return

    pytest.fail(f"seeds {_SEEDS} do not show it; found {found[:3]}")
