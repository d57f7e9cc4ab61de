"""python -m tests.chaos.xen.server: forks a process for every job it reads, so that a killed one costs little.

Jobs and answers are lines of JSON. A job names what its process does: `furnish`, `run` an operation (and die in it),
`restart`: start again, judge, try again, delete.
"""

# ruff: noqa: E402
from nova_lite import concurrency

concurrency.setup(concurrency.THREADING)

import json
import os
import signal
import sys
import tempfile
import traceback

from tests.chaos.xen.guillotine import Guillotine
from tests.chaos.xen.operations import OPERATIONS
from tests.chaos.xen.site import Site, confs

LONGEST_S = 180


def furnish(site, job):
    site.furnish()
    site.start()
    cached = site.image(1)
    warm = [site.boot(cached)]
    site.resize(warm[0])
    site.confirm(warm[0])
    site.delete(warm[0])
    return {"cached": cached}


def run(site, job, guillotine):
    """Prepare, tell what was prepared, and do the operation: with `nth` this process ends at that call."""
    site.start()
    operation = OPERATIONS[job["operation"]]
    things = operation.prepare(
        site, {"cached": job["cached"], "new": site.image(job["seed"]), "volume": job["volume"]})
    tell(job, {"things": things})
    guillotine.arm(job.get("nth"), job.get("after", False))
    operation.run(site, things)
    guillotine.disarm()
    return {"things": things, "calls": guillotine.calls, "state": site.state(things["uuid"])}


def restart(site, job):
    """Start again; report how the instance is, whether the operation can be done again, and how that ended."""
    operation, things = OPERATIONS[job["operation"]], job["things"]
    site.start(operation.stays_up)
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


def tell(job, answer):
    with open(job["answer"] + ".part", "w") as file:
        json.dump(answer, file)
    os.replace(job["answer"] + ".part", job["answer"])


def work(directory, by_host, job):
    """The life of one forked process."""
    signal.alarm(LONGEST_S)
    try:
        guillotine = Guillotine()
        site = Site(directory, by_host)
        if job["do"] == "run":
            told = run(site, job, guillotine)
        else:
            told = {"furnish": furnish, "restart": restart}[job["do"]](site, job)
        for manager in site.hosts.values():
            manager.driver.cleanup_host(manager.host)
    except BaseException:  # the edge of the process: whatever went wrong is its answer
        told = {"problem": traceback.format_exc()}
        if os.path.exists(job["answer"]):
            with open(job["answer"]) as file:
                told = {**json.load(file), **told}
    tell(job, told)
    os._exit(0)


def main():
    directory, urls = sys.argv[1], json.loads(sys.argv[2])
    by_host = confs(directory, urls)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        handle, job["answer"] = tempfile.mkstemp(dir=directory, prefix="answer-")
        os.close(handle)
        os.unlink(job["answer"])
        child = os.fork()
        if child == 0:
            work(directory, by_host, job)
        _, status = os.waitpid(child, 0)
        answer = {}
        if os.path.exists(job["answer"]):
            with open(job["answer"]) as file:
                answer = json.load(file)
            os.unlink(job["answer"])
        answer["signal"] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
