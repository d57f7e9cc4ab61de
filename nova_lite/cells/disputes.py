"""Instances that two cells say they have: an order to build that came twice, around a crash of the cell between."""

import collections
import threading

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells.remote_exceptions import first_line

LOG = logging.getLogger(__name__)

_MAX_REMEMBERED = 1000


class Disputes:
    """Ends them, at the top: the cell that told of the instance first keeps it.

    The other one's is deleted only when the first, asked at that moment, has it indeed: a cell that has moved in the
    tree, or bears a new name, must not lose its instances because the top knows them under its old one. When the
    first one has it no more, it is the other's.
    """

    def __init__(self, runner):
        self._runner = runner
        self._claims: collections.OrderedDict[tuple[str, str], None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def note(self, claimant: str, uuid: str) -> None:
        """Remember that a cell (full name) told of an instance that belongs to another; bounded."""
        with self._lock:
            self._claims[claimant, uuid] = None
            if len(self._claims) > _MAX_REMEMBERED:
                self._claims.popitem(last=False)

    def settle(self, ctxt) -> None:
        """Look at what was noted since the last time."""
        with self._lock:
            claims, self._claims = list(self._claims), collections.OrderedDict()
        for claimant, uuid in claims:
            try:
                self._decide(ctxt, claimant, uuid)
            except exception.NovaException as error:
                LOG.warning("Cell %s tells of instance %s, it cannot be decided whose it is: %s", claimant, uuid,
                            first_line(error))

    def _decide(self, ctxt, claimant: str, uuid: str) -> None:
        owner = self._runner.services.db.instance_get_by_uuid(ctxt, uuid, columns_to_join=())["cell_name"]
        if owner == claimant:
            return
        if owner and uuid in self._runner.instances_here(ctxt, owner, [uuid]).value_or_raise():
            LOG.warning("Instance %s was built twice, cell %s is to delete its own", uuid, claimant)
            self._runner.have_deleted(claimant, uuid)
            return
        # The build had moved on to the claimant, and word of that came later than what it told.
        if owner:
            self._runner.replica.release(ctxt, [uuid], owner)
        self._runner.ask_for_snapshot(claimant, uuid)
