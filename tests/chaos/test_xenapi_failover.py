"""The master of a pool dies in the middle of a call that another host's compute service makes; a third host follows it.

The act is done, or fails with an error of ours or of XenServer; the service finds the new master, what the act left is
cleared up, and it can be done again. By default one call of each act is tried, another every day;
NOVA_LITE_CHAOS_FAULTS=all tries every one, NOVA_LITE_CHAOS_FAULTS=7 those of day 7.
"""

import datetime
import os
import random

import pytest

from nova_lite import exception
from nova_lite.xensim import Simulator
from tests.chaos.xen.faults import Act, ColdSpawn, Destroy, HurriedBench, Snapshot, Spawn
from tests.chaos.xen.ordeal import calls_of, suffer
from tests.chaos.xen.troubles import Accident
from tests.fixtures.xen_bench import make_network_info

PLACES_A_DAY = 1
WHICH = os.environ.get("NOVA_LITE_CHAOS_FAULTS") or str(datetime.date.today().toordinal())

pytestmark = pytest.mark.timeout(3600 if WHICH == "all" else 300)


class Move(Act):
    """A live migration to the third host of the pool."""

    def run(self):
        target = self.bench.neighbour.vmops._session.host_ref
        if self.bench.vm(self.instance)["resident_on"] != target:
            data = {"block_migration": False, "destination_host_ref": target}
            self.bench.driver.live_migration(None, self.instance, "third", self._arrived, self._stayed, False, data)
        else:
            self._arrived()

    def _arrived(self, *_what):
        self.bench.neighbour.driver.post_live_migration_at_destination(None, self.instance, make_network_info())

    def _stayed(self, *_what):
        """The VM runs where it ran."""

    def end(self):
        vm = self.bench.vm(self.instance)
        there = self.bench.neighbour if vm["resident_on"] != self.bench.vmops._session.host_ref else self.bench
        there.driver.destroy(self.instance, make_network_info())


ACTS = {"spawn": Spawn, "cold spawn": ColdSpawn, "snapshot": Snapshot, "destroy": Destroy, "live migration": Move}


class Pool:
    """Three hosts over shared storage: the first is the master, the second one's compute service is watched."""

    def __init__(self, directory):
        self.simulator = Simulator(hosts=3, state_dir=str(directory), name="failover")
        self.simulator.start()
        self._share_storage()
        self.bench = self._bench_of(1)
        self.bench.neighbour = self._bench_of(2)
        self.bench.spawn_warm()
        self.first = self.simulator.toolstack.master_ref
        self.master_dies = Accident(self._fail_over, self._bring_back)

    def _bench_of(self, number):
        return HurriedBench(self.simulator, connection_url=self.simulator.urls[number])

    def _share_storage(self):
        bench = HurriedBench(self.simulator)
        sr_ref = bench.api("SR.create", bench.vmops._session.host_ref, {"server": "10.0.0.5", "serverpath": "/srv"},
                           "0", "Shared storage", "", "nfs", "user", True, {})
        bench.api("pool.set_default_SR", bench.api("pool.get_all")[0], sr_ref)
        bench.close()

    def _fail_over(self, simulator):
        simulator.control.kill_host(self.first)
        simulator.control.move_master(self.bench.neighbour.vmops._session.host_ref)

    def _bring_back(self, simulator):
        simulator.control.revive_host(self.first)
        simulator.control.move_master(self.first)

    def close(self):
        self.bench.neighbour.close()
        self.bench.close()
        self.simulator.stop()


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    made = Pool(tmp_path_factory.mktemp("failover"))
    yield made
    made.close()


def places(name, calls):
    """Return (method, which call of it) of when the master dies."""
    if WHICH == "all":
        return calls
    print(f"NOVA_LITE_CHAOS_FAULTS={WHICH}")
    return random.Random(f"{WHICH} {name}").sample(calls, PLACES_A_DAY)


@pytest.mark.parametrize("name", ACTS)
def test_a_master_that_dies_in_the_middle_of_an_act_has_a_successor_that_goes_on(pool, name):
    wrong = []
    for method, nth in places(name, calls_of(pool.bench, ACTS[name])):
        problem = suffer(pool.bench, ACTS[name], pool.master_dies, method, nth)
        if problem:
            wrong.append(f"{method} number {nth}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_a_pool_without_a_master_is_an_error_of_one_line_until_it_has_one(pool):
    pool.simulator.control.kill_host(pool.first)
    with pytest.raises(exception.NovaException) as caught:
        pool.bench.spawn()
    assert "\n" not in str(caught.value)
    pool._bring_back(pool.simulator)
    pool.bench.driver.destroy(pool.bench.spawn(), make_network_info())
