"""Two hosts and the compute services of both in this process: moves between them, which meet trouble on either."""

import collections
import contextlib
import logging

from nova_lite.objects import vm_states
from tests.chaos.xen.faults import HurriedClock
from tests.chaos.xen.operations import OPERATIONS
from tests.chaos.xen.ordeal import PROPER, in_a_hurry, numbered
from tests.chaos.xen.pair import Hosts
from tests.chaos.xen.site import Site, confs

# How long a task is waited for that will never end: its host has abandoned it.
TASK_S = 20
START_S = 8


class Couple(Hosts):
    """Two hosts, their compute services, and a machine for each operation tried."""

    def __init__(self, directory):
        super().__init__(directory)
        by_host = confs(directory, self.urls)
        for conf in by_host.values():
            conf.set_override("running_timeout", START_S, "xenserver")
        self.spared = 0  # how many never made the call that was to meet trouble
        self.mended = collections.Counter()  # how many operations ended in each state that had to be mended
        self.site = Site(directory, by_host)
        self.site.furnish()
        self.site.start()
        self._hurry()
        self._cached = self.site.image(1)
        self.site.delete(self.site.boot(self._cached))
        self.empty = self.left()

    def close(self):
        self.site.stop()
        logging.disable(logging.NOTSET)
        super().close()

    def _hurry(self):
        for session in self._sessions():
            session.clock = HurriedClock()
            session.task_timeout_s = TASK_S

    def _sessions(self):
        return [manager.driver.vmops._session for manager in self.site.hosts.values()]

    def restart(self, host):
        """End the service of a host and start it again; the other one goes on."""
        self.site.restart(host)
        self._hurry()

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
            self.restart(host)
        problem = self._judge(operation, trouble, things)
        if problem:
            problem = f"after {raised!r}: {problem}"
        self.site.delete(things["uuid"])
        self._clean_up()
        left = self.left()
        if left != self.empty:
            problem += f" left after {raised!r}: {left} instead of {self.empty}"
            self.empty = left  # told once, not with every trouble to come
        return problem

    def _judge(self, operation, trouble, things):
        """Return what is wrong with the instance after its operation met trouble, '' when nothing is.

        One that the operation left in error, or switched off, is mended as operators do; then it is like any other.
        """
        uuid = things["uuid"]
        state = self.site.settle(uuid)
        try:
            if self._is_off(trouble, uuid, *state):
                self.mended[vm_states.STOPPED] += 1
                state = self.site.reboot(uuid)
            if operation.is_settled(state):
                operation.again(self.site, things, state[0])
                return ""
            if not self._may_be_in_error(operation, trouble, *state):
                return f"ended as {state}"
            self.mended[vm_states.ERROR] += 1
            then = operation.mend(self.site, things)
            if not operation.is_settled(then) or not self.site.is_running(uuid):
                return f"ended as {state}, and mended as {then}"
            operation.anew(self.site, things)
        except (*PROPER, AssertionError) as error:
            return f"ended as {state}, and cannot be mended or done again: {error!r}"
        return ""

    def _is_off(self, trouble, uuid, vm_state, task_state, _):
        """Tell whether the trouble has switched the machine off, whether or not that has been noted yet."""
        is_idle = vm_state in (vm_states.ACTIVE, vm_states.STOPPED) and task_state is None
        return trouble.switches_off and is_idle and not self.site.is_running(uuid)

    @staticmethod
    def _may_be_in_error(operation, trouble, vm_state, task_state, host):
        return (vm_state, task_state) == (vm_states.ERROR, None) and (trouble.leaves_error or host in operation.errs)

    def _clean_up(self):
        """Let both services look for what moves of deleted instances left."""
        for manager in self.site.hosts.values():
            manager._recovery.moves.close_moves(self.site.context)
            manager._leftovers.clean_up_migrations(self.site.context)

    def left(self):
        """Like that of the hosts, but for tasks: one whose making was not answered is ended by the next start."""
        return {host: {name: number for name, number in found.items() if name != "tasks"}
                for host, found in super().left().items()}

    def _count_spared(self, control):
        self.spared += bool(control.faults())

    def _meet(self, operation, things, trouble, host, method, nth):
        for simulator in self.simulators.values():
            simulator.control.reset_calls()
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(trouble.befalling(self.simulators[host], method, nth))
                stack.callback(self._count_spared, self.simulators[host].control)
                for session in self._sessions():
                    stack.enter_context(in_a_hurry(session, trouble.deadline_s))
                operation.run(self.site, things)
                self.site.settle(things["uuid"])
        except PROPER as error:
            return error
        return None
