"""Reservations that nobody settles."""

from nova_lite import quota
from nova_lite.scheduler.manager import SchedulerManager


def reserved(cell, ctxt):
    return quota.QuotaEngine(cell.services).get_project_quotas(ctxt)["cores"]["reserved"]


def test_C36_reservations_that_nobody_settles_are_given_up_when_their_time_is_over(cell):
    ctxt = cell.context()
    quota.QuotaEngine(cell.services).reserve(ctxt, expire=600, cores=2)
    scheduler = SchedulerManager(services=cell.services)

    cell.clock.advance(120)
    scheduler.periodic_tasks(cell.admin())
    before = reserved(cell, ctxt)
    cell.clock.advance(600)
    scheduler.periodic_tasks(cell.admin())

    assert (before, reserved(cell, ctxt)) == (2, 0)


def in_use(cell, ctxt):
    return quota.QuotaEngine(cell.services).get_project_quotas(ctxt)["cores"]["in_use"]


def test_C36_usage_that_a_crash_left_wrong_is_counted_anew_when_it_is_old_enough(make_cell):
    cell = make_cell(max_age=300)
    ctxt = cell.context()
    engine = quota.QuotaEngine(cell.services)
    engine.commit(ctxt, engine.reserve(ctxt, cores=7))
    cell.instance(ctxt, flavor="m1.medium")
    scheduler = SchedulerManager(services=cell.services)

    cell.clock.advance(120)
    scheduler.periodic_tasks(cell.admin())
    before = in_use(cell, ctxt)
    cell.clock.advance(240)
    scheduler.periodic_tasks(cell.admin())

    assert (before, in_use(cell, ctxt)) == (7, 2)


def test_usage_with_an_open_reservation_is_not_counted_anew(make_cell):
    cell = make_cell(max_age=300)
    ctxt = cell.context()
    engine = quota.QuotaEngine(cell.services)
    engine.commit(ctxt, engine.reserve(ctxt, cores=7))
    held = engine.reserve(ctxt, cores=-1)
    scheduler = SchedulerManager(services=cell.services)

    cell.clock.advance(400)
    scheduler.periodic_tasks(cell.admin())
    while_open = in_use(cell, ctxt)
    engine.rollback(ctxt, held)
    cell.clock.advance(400)
    scheduler.periodic_tasks(cell.admin())

    assert (while_open, in_use(cell, ctxt)) == (7, 0)
