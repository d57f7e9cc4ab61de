"""Claims of memory, disk and CPUs."""

import pytest

from nova_lite.compute.claims import Claim, NopClaim, ResizeClaim

NODE = {"memory_mb": 8192, "memory_mb_used": 6144, "local_gb": 100, "local_gb_used": 60, "vcpus": 8, "vcpus_used": 7}
INSTANCE = {"uuid": "one", "memory_mb": 2048, "root_gb": 30, "ephemeral_gb": 10, "vcpus": 1}


class Tracker:
    def __init__(self):
        self.aborted = []

    def abort_instance_claim(self, instance):
        self.aborted.append(instance["uuid"])

    def abort_resize_claim(self, uuid, flavor):
        self.aborted.append((uuid, flavor["id"]))


def test_without_limits_everything_fits():
    huge = {**INSTANCE, "memory_mb": 10 ** 9}
    assert Claim(huge, Tracker()).test(NODE)


@pytest.mark.parametrize(("limits", "fits"), [
    ({"memory_mb": 8192}, True),
    ({"memory_mb": 8191}, False),
    ({"disk_gb": 100}, True),
    ({"disk_gb": 99}, False),
    ({"vcpu": 8}, True),
    ({"vcpu": 7}, False),
    ({"memory_mb": 8192, "disk_gb": 100, "vcpu": 8}, True),
    ({"memory_mb": None, "disk_gb": None, "vcpu": None}, True),
    ({"memory_mb": 12000}, True),
])
def test_what_is_asked_must_fit_between_limit_and_use(limits, fits):
    assert Claim(INSTANCE, Tracker()).test(NODE, limits) is fits


def test_the_drivers_overhead_is_claimed_too():
    assert not Claim(INSTANCE, Tracker(), overhead_mb=1).test(NODE, {"memory_mb": 8192})


def test_leaving_the_scope_by_an_exception_gives_the_room_back():
    tracker = Tracker()
    with pytest.raises(ValueError), Claim(INSTANCE, tracker):
        raise ValueError
    assert tracker.aborted == ["one"]


def test_leaving_the_scope_normally_keeps_the_room():
    tracker = Tracker()
    with Claim(INSTANCE, tracker):
        pass
    assert tracker.aborted == []


def test_a_resize_claims_the_sizes_of_the_new_flavor():
    tracker = Tracker()
    flavor = {"id": 7, "memory_mb": 4096, "root_gb": 40, "ephemeral_gb": 0, "vcpus": 4}
    claim = ResizeClaim(INSTANCE, flavor, tracker)
    assert (claim.memory_mb, claim.disk_gb, claim.vcpus) == (4096, 40, 4)
    claim.abort()
    assert tracker.aborted == [("one", 7)]


def test_a_claim_of_nothing_never_fails():
    with pytest.raises(ValueError), NopClaim(migration="m") as claim:
        assert (claim.memory_mb, claim.disk_gb, claim.vcpus, claim.migration) == (0, 0, 0, "m")
        raise ValueError
