"""Reservations that nobody settles."""

from nova_lite import quota
from nova_lite.scheduler.manager import SchedulerManager


def reserved(cell, ctxt):
    return quota.QuotaEngine(cell.services).get_project_quotas(ctxt)["cores"]["reserved"]


def test_reservations_that_nobody_settles_are_given_up_when_their_time_is_over(cell):
    ctxt = cell.context()
    quota.QuotaEngine(cell.services).reserve(ctxt, expire=600, cores=2)
    scheduler = SchedulerManager(services=cell.services)

    cell.clock.advance(120)
    scheduler.periodic_tasks(cell.admin())
    before = reserved(cell, ctxt)
    cell.clock.advance(600)
    scheduler.periodic_tasks(cell.admin())

    assert (before, reserved(cell, ctxt)) == (2, 0)
