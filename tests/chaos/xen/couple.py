"""Two hosts and the compute services of both in this process: moves between them, which meet trouble on either."""

import contextlib
import itertools
import logging

from tests.chaos.xen.faults import HurriedClock
from tests.chaos.xen.operations import OPERATIONS
from tests.chaos.xen.ordeal import PROPER, in_a_hurry, numbered
from tests.chaos.xen.pair import Hosts
from tests.chaos.xen.site import Site, confs


class Couple(Hosts):
    """Two hosts, their compute services, and a machine for each operation tried."""

    def __init__(self, directory):
        super().__init__(directory)
        self._directory = directory
        self._confs = confs(directory, self.urls)
        self._seeds = itertools.count(1)
        self.site = Site(directory, self._confs)
        self.site.furnish()
        self._start()
        self._cached = self.site.image(1)
        self.site.delete(self.site.boot(self._cached))
        self.empty = self.left()

    def close(self):
        self.site.stop()
        logging.disable(logging.NOTSET)
        super().close()

    def _start(self):
        self.site.start()
        for session in self._sessions():
            session.clock = HurriedClock()
            session.task_timeout_s = 20  # a task whose making was not answered is waited for as long

    def _sessions(self):
        return [manager.driver.vmops._session for manager in self.site.hosts.values()]

    def restart(self):
        """End both services and start them again."""
        self.site.stop()
        self.site = Site(self._directory, self._confs)
        self._start()

    def prepare(self, operation):
        return operation.prepare(self.site, {"cached": self._cached, "new": None, "volume": None})

    def calls_of(self, name):
        """Return [(host, method, which call of that method)] of what an operation asks of the hosts."""
        operation = OPERATIONS[name]
        things = self.prepare(operation)
        for simulator in self.simulators.values():
            simulator.control.reset_calls()
        operation.run(self.site, things)
        calls = [(host, *call) for host, simulator in self.simulators.items()
                 for call in numbered(simulator.control.calls())]
        operation.again(self.site, things, self.site.state(things["uuid"])[0])
        self.site.delete(things["uuid"])
        return calls

    def suffer(self, name, trouble, host, method, nth):
        """Return what is wrong after an operation met trouble, '' when nothing is."""
        operation = OPERATIONS[name]
        things = self.prepare(operation)
        raised = self._meet(operation, things, trouble, host, method, nth)
        if not trouble.is_undone:
            self.restart()
        state = self.site.settle(things["uuid"])
        problem = ""
        if state[1] is None and state[0] in trouble.may_end_as:
            pass  # told as it is: the instance can be started, or removed
        elif operation.is_settled(state):
            try:
                operation.again(self.site, things, state[0])
            except PROPER as error:
                problem = f"after {raised!r} and {state} it cannot be done again: {error!r}"
        else:
            problem = f"ended as {state} after {raised!r}"
        self.site.delete(things["uuid"])
        self._clean_up()
        left = self.left()
        if left != self.empty:
            problem += f" left after {raised!r} and {state}: {left} instead of {self.empty}"
            self.empty = left  # told once, not with every trouble to come
        return problem

    def _clean_up(self):
        """Let both services look for what moves of deleted instances left."""
        for manager in self.site.hosts.values():
            manager._recovery.moves.close_moves(self.site.context)
            manager._leftovers.clean_up_migrations(self.site.context)

    def left(self):
        """Like that of the hosts, but for tasks: one whose making was not answered is ended by the next start."""
        return {host: {name: number for name, number in found.items() if name != "tasks"}
                for host, found in super().left().items()}

    def _meet(self, operation, things, trouble, host, method, nth):
        for simulator in self.simulators.values():
            simulator.control.reset_calls()
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(trouble.befalling(self.simulators[host], method, nth))
                for session in self._sessions():
                    stack.enter_context(in_a_hurry(session, trouble.deadline_s))
                operation.run(self.site, things)
                self.site.settle(things["uuid"])
        except PROPER as error:
            return error
        return None
