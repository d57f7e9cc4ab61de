"""python -m tests.chaos.xen.server: has compute services work in a process that may be killed, and starts the next one.

Jobs and answers are lines of JSON: `run` an operation (and die in it), `restart`: start again, judge, try again,
delete; `end`: be killed while nothing is done. A job goes to the process that lives; where none does, one is forked
from this one, which has done everything before: it has read all modules, and its database knows its statements.
"""

# ruff: noqa: E402
from nova_lite import concurrency

concurrency.setup(concurrency.THREADING)

import functools
import json
import os
import signal
import socket
import sys
import traceback

from tests.chaos.xen.guillotine import Guillotine
from tests.chaos.xen.operations import OPERATIONS
from tests.chaos.xen.site import Site, confs

LONGEST_S = 180


class Worker:
    """The forked process, as its parent sees it."""

    def __init__(self, make_site):
        self._answers, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._answers.close()
            Services(make_site(), theirs).work()
        theirs.close()
        self._lines = self._answers.makefile("r")

    def ask(self, job):
        """Return the answer to a job; with `signal`, that this process has met, it is told as far as it came."""
        self._answers.sendall(json.dumps(job).encode() + b"\n")
        answer = {}
        for line in self._lines:
            answer.update(json.loads(line))
            if answer.pop("is_over", False):
                return answer
        return {**answer, "signal": self._end()}

    def kill(self):
        os.kill(self._pid, signal.SIGKILL)
        self._end()

    def _end(self):
        _, status = os.waitpid(self._pid, 0)
        self._lines.close()
        self._answers.close()
        return os.WTERMSIG(status)


class Workers:
    """One process after another."""

    def __init__(self, make_site):
        self._make_site = make_site
        self._worker = None

    def ask(self, job):
        """Have the process that lives do a job, or a new one; one that was not killed, but failed, is ended."""
        if job["do"] in ("restart", "end"):
            self.end()
        if job["do"] == "end":
            return {}
        self._worker = self._worker or Worker(self._make_site)
        answer = self._worker.ask(job)
        if "signal" in answer:
            self._worker = None
        elif "problem" in answer:
            self.end()
        return answer

    def end(self):
        if self._worker:
            self._worker.kill()
            self._worker = None


class Services:
    """What the forked process does: it lives until it is killed."""

    def __init__(self, site, channel):
        self._site = site
        self._channel = channel
        self._guillotine = Guillotine()

    def work(self):
        for line in self._channel.makefile("r"):
            signal.alarm(LONGEST_S)
            try:
                told = {"run": self._run, "restart": self._restart}[(job := json.loads(line))["do"]](job)
            except BaseException:  # the edge of the process: whatever went wrong is its answer
                told = {"problem": traceback.format_exc()}
            signal.alarm(0)
            self._tell(**told, is_over=True)
        os._exit(0)

    def _tell(self, **answer):
        self._channel.sendall(json.dumps(answer).encode() + b"\n")

    def _run(self, job):
        """Prepare, tell what was prepared, and do the operation: with `nth` this process ends at that call."""
        site, operation = self._site, OPERATIONS[job["operation"]]
        site.start(operation.hosts)
        things = operation.prepare(
            site, {"cached": job["cached"], "new": site.image(job["seed"]), "volume": job["volume"]})
        self._tell(things=things)
        self._guillotine.arm(job["counting"], job.get("nth"), job.get("after", False))
        operation.run(site, things)
        self._guillotine.disarm()
        return {"counted": self._guillotine.counted, "state": site.state(things["uuid"])}

    def _restart(self, job):
        """Start again; report how the instance is, whether the operation can be done again, and how that ended."""
        site, operation, things = self._site, OPERATIONS[job["operation"]], job["things"]
        site.start(operation.hosts)
        state = site.settle(things["uuid"])
        told = {"state": state}
        if not operation.is_settled(state):
            told["problem"] = f"ended as {state}"
        else:
            operation.again(site, things, state[0])
            told["again"] = site.state(things["uuid"])
        if site.state(things["uuid"])[0] != "deleted":
            site.delete(things["uuid"])
        return told


def furnish(directory, by_host):
    """Fill the cell's database, and have its services do something once; return it, and the image that hosts have."""
    site = Site(directory, by_host)
    site.furnish()
    site.start(list(site.hosts))
    cached = site.image(1)
    for name in ("confirm resize", "live migration", "unrescue", "snapshot", "detach", "detach interface"):
        things = OPERATIONS[name].prepare(site, {"cached": cached, "volume": "volume-0"})
        OPERATIONS[name].run(site, things)
        site.delete(things["uuid"])
    site.stop()
    engines = site.db.store.engines
    for engine in (engines.writer, engines.reader):
        engine.dispose()  # not as the database would: the next processes are to have the statements compiled here
    return site.db, cached


def main():
    directory, urls = sys.argv[1], json.loads(sys.argv[2])
    by_host = confs(directory, urls)
    db, cached = furnish(directory, by_host)
    print(json.dumps({"cached": cached}), flush=True)
    workers = Workers(functools.partial(Site, directory, by_host, db))
    for line in sys.stdin:
        print(json.dumps(workers.ask(json.loads(line))), flush=True)
    workers.end()


if __name__ == "__main__":
    main()
