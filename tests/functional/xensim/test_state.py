"""What was answered is there after any end of the process, and records and disk files agree.

`NOVA_LITE_KILLS=100` kills it more often; `NOVA_LITE_CHAOS_SEED` replays.
"""

import contextlib
import hashlib
import http.client
import os
import random
import threading
import urllib.request

import pytest
import XenAPI

from tests.fixtures.processes import wait_until
from tests.fixtures.xen_client import Client
from tests.fixtures.xen_invariants import Snapshot
from tests.fixtures.xensim import SimulatorProcess, logged_in

MIB = 1024 * 1024
ROUNDS = int(os.environ.get("NOVA_LITE_KILLS", "3"))
SEED = int(os.environ.get("NOVA_LITE_CHAOS_SEED", "20"))


class Worker:
    """Does random things to VMs and disks of its own, and remembers what the simulator answered."""

    def __init__(self, url, name, seed):
        self._url = url
        self._name = name
        self._random = random.Random(seed)
        self._session = XenAPI.Session(url)
        self._session.login_with_password("root", "xensim")
        self.client = Client(self._session)
        self.vms = {}  # VM: (power state, description)
        self.disks = {}  # VDI: digest of what was uploaded
        self.gone = set()
        self.doubtful = set()  # what the call without an answer concerned
        self.answers = 0

    def work(self):
        """Go on until the simulator is killed."""
        actions = [self._make_vm, self._start, self._halt, self._describe, self._destroy_vm]
        actions += [self._make_disk, self._upload, self._snapshot, self._snapshot, self._destroy_disk]
        while True:
            try:
                self._random.choice(actions)()
            except (OSError, http.client.HTTPException):
                return
            self.answers += 1

    def _choose(self, objects, wanted=lambda value: True):
        """Return one of the objects; while its call runs nothing is known of it."""
        found = [ref for ref, value in objects.items() if wanted(value)]
        self.doubtful = {self._random.choice(found)} if found else set()
        return next(iter(self.doubtful), None)

    def _make_vm(self):
        vm = self.client.vm(f"{self._name} {self.answers}")
        self.vms[vm] = ("Halted", "")

    def _start(self):
        if vm := self._choose(self.vms, lambda known: known[0] == "Halted"):
            self.client.api.VM.start(vm, False, False)
            self.vms[vm] = ("Running", self.vms[vm][1])

    def _halt(self):
        if vm := self._choose(self.vms, lambda known: known[0] == "Running"):
            self.client.api.VM.hard_shutdown(vm)
            self.vms[vm] = ("Halted", self.vms[vm][1])

    def _describe(self):
        if vm := self._choose(self.vms):
            self.client.api.VM.set_name_description(vm, str(self.answers))
            self.vms[vm] = (self.vms[vm][0], str(self.answers))

    def _destroy_vm(self):
        if vm := self._choose(self.vms, lambda known: known[0] == "Halted"):
            self.client.api.VM.destroy(vm)
            self.gone.add(vm)
            del self.vms[vm]

    def _make_disk(self):
        self.disks[self.client.vdi(size_mib=4)] = digest(bytes(4 * MIB))

    def _upload(self):
        if vdi := self._choose(self.disks):
            content = self._random.randbytes(MIB) * 4
            task = self.client.api.task.create("upload", "")
            url = f"{self._url}/import_raw_vdi?vdi={vdi}&session_id={self._session._session}&task_id={task}"
            urllib.request.urlopen(urllib.request.Request(url, data=content, method="PUT"), timeout=60).close()
            assert self.client.finished(task)["status"] == "success"
            self.disks[vdi] = digest(content)

    def _snapshot(self):
        if vdi := self._choose(self.disks):
            with contextlib.suppress(XenAPI.Failure):  # the chain is as long as it may be
                snapshot = self.client.api.VDI.snapshot(vdi)
                self.disks[snapshot] = self.disks[vdi]

    def _destroy_disk(self):
        if vdi := self._choose(self.disks):
            self.client.api.VDI.destroy(vdi)
            self.gone.add(vdi)
            del self.disks[vdi]


def digest(content):
    return hashlib.sha256(content).hexdigest()


def check(worker, url, session):
    """Compare what the worker knows with what is there; the call that had no answer may have happened or not."""
    api = session.xenapi
    vms, disks = api.VM.get_all_records(), api.VDI.get_all_records()
    for vm, (power_state, description) in worker.vms.items():
        if vm not in worker.doubtful:
            assert (vms[vm]["power_state"], vms[vm]["name_description"]) == (power_state, description)
    for vdi, content in worker.disks.items():
        if vdi not in worker.doubtful:
            assert vdi in disks
            query = f"vdi={vdi}&session_id={session._session}"
            with urllib.request.urlopen(f"{url}/export_raw_vdi?{query}", timeout=60) as reply:
                assert digest(reply.read()) == content
    assert not worker.gone & (set(vms) | set(disks))


@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_nothing_that_was_answered_is_lost_and_nothing_half_done_stays(tmp_path):
    """Each round works on what the last one left, is killed at a random point, and starts again."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    process = SimulatorProcess(tmp_path)
    try:
        for number in range(ROUNDS):
            process.start()
            workers = [Worker(process.url, f"{number}-{each}", chance.random()) for each in range(2)]
            threads = [threading.Thread(target=worker.work, daemon=True) for worker in workers]
            for thread in threads:
                thread.start()
            limit = chance.randrange(5, 60)
            wait_until(
                lambda workers=workers, limit=limit: sum(worker.answers for worker in workers) >= limit,
                process.log, interval_s=0.001,
            )  # fmt: skip
            process.kill()
            for thread in threads:
                thread.join(60)

            process.start()
            with logged_in(process) as session:
                for worker in workers:
                    check(worker, process.url, session)
                process.control.collector(is_paused=True)
                Snapshot(session).check(tmp_path / "xensim")
            process.kill()
            assert not process.tracebacks()
    finally:
        process.kill()


def test_what_the_database_does_not_keep_is_fresh_after_a_restart(tmp_path):
    process = SimulatorProcess(tmp_path).start()
    try:
        with logged_in(process) as session:
            client = Client(session)
            vm, halted = client.started("running"), client.vm("halted")
            process.control.delay("VM.pause", 600)
            task = client.api.Async.VM.pause(vm)
            wait_until(lambda: client.api.VM.get_current_operations(vm), "pause was never shown")
            session.xenapi.VM.add_to_other_config(halted, "kept", "yes")
            memory = client.api.VM_metrics.get_memory_actual(client.api.VM.get_metrics(vm))
            process.kill()
        process.start()
        with logged_in(process) as session:
            api = session.xenapi
            metrics = api.VM_metrics.get_record(api.VM.get_metrics(vm))
            assert api.VM.get_record(vm)["current_operations"] == {}
            assert "pause" in api.VM.get_allowed_operations(vm)
            assert (api.task.get_all(), api.VM.get_power_state(vm)) == ([], "Running")
            assert task not in api.task.get_all()
            assert (metrics["memory_actual"], metrics["hvm"]) == (memory, False)
            assert api.VM.get_other_config(halted)["kept"] == "yes"
    finally:
        process.kill()
