"""Chains of disks below a snapshot: when they are waited for, and when there is nothing to wait for."""

from types import SimpleNamespace

import pytest

from nova_lite.virt.xenapi.snapshot import CoalesceTimeout, has_siblings, parents_of


def disk(uuid, parent=None, **fields):
    return {"uuid": uuid, "sm_config": {"vhd-parent": parent} if parent else {}, "SR": "sr", **fields}


class Host:
    """A repository in which the live disk has the next of these parents after every scan."""

    def __init__(self, *parents):
        self.parents = list(parents)
        self.scans = 0

    def scan(self, sr_ref):
        self.scans += 1

    def call_xenapi(self, method, vdi_ref):
        assert method == "VDI.get_sm_config"
        parent = self.parents[min(self.scans, len(self.parents)) - 1]
        return {"vhd-parent": parent} if parent else {}


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture
def wait(bench, monkeypatch):
    """Wait for a live disk whose chain was leaf < p1 < p2 < base; returns how often the repository was scanned."""
    def wait(*parents):
        host, snapshots, naps = Host(*parents), bench.vmops.snapshots, []
        monkeypatch.setattr(snapshots, "_storage", host)
        monkeypatch.setattr(snapshots, "_session", SimpleNamespace(
            call_xenapi=host.call_xenapi, clock=SimpleNamespace(sleep=naps.append)))
        snapshots.wait_for_coalesce("live", "sr", ["leaf", "p1", "p2", "base"])
        assert naps == [0.05] * (host.scans - 1)
        return host.scans
    return wait


@pytest.mark.parametrize(("parents", "scans"), [
    (["p1"], 1), (["new", "new", "p1"], 3), (["new", "p2"], 2), (["new", "base"], 2), (["new", None], 2), ([None], 1)])
def test_any_ancestor_ends_the_wait_for_a_merge_and_so_does_none(wait, parents, scans):
    assert wait(*parents) == scans


def test_the_leaf_itself_is_no_ancestor_and_the_wait_ends_after_its_attempts(wait):
    with pytest.raises(CoalesceTimeout, match=r"exceeded \(20\), giving up... \(parent leaf, chain leaf < p1 < p2 < b"):
        wait("leaf")


def test_a_chain_is_followed_as_far_as_it_is_known_and_never_round_in_circles():
    disks = {"1": disk("leaf", "p1"), "2": disk("p1", "p2"), "3": disk("p2", "hidden")}
    assert parents_of(disks["1"], disks) == ["leaf", "p1", "p2", "hidden"]
    assert parents_of(disk("alone"), {}) == ["alone"]
    circle = {"1": disk("a", "b"), "2": disk("b", "a")}
    assert parents_of(circle["1"], circle) == ["a", "b"]


def test_clones_of_one_image_are_siblings():
    disks = {"1": disk("a", "base"), "2": disk("b", "base"), "3": disk("c", "other"), "4": disk("base")}
    assert has_siblings(disks["1"], disks) and not has_siblings(disks["3"], disks)


def test_a_guest_of_a_cached_image_is_not_waited_for(bench):
    bench.spawn()
    instance = bench.spawn()
    bench.simulator.control.collector(is_paused=True)
    bench.simulator.control.reset_calls()
    try:
        bench.vmops.snapshot(None, instance, bench.images.add(b"", status="queued")["id"])
    finally:
        bench.simulator.control.collector(is_paused=False)
    assert "SR.scan" not in bench.calls() and bench.calls().count("VDI.snapshot") == 1


def test_a_state_is_told_when_the_disk_is_frozen_and_another_when_it_is_sent(bench):
    told = []
    instance = bench.spawn()

    def report(task_state, expected_state=None):
        frozen = [vdi for vdi in bench.api("VDI.get_all_records").values() if vdi["is_a_snapshot"]]
        told.append((task_state, expected_state, [vdi["name_label"] for vdi in frozen]))

    bench.vmops.snapshot(None, instance, bench.images.add(b"", status="queued")["id"], report)
    label = [f"{instance['name']}-snapshot"]
    assert told == [("image_pending_upload", None, label), ("image_uploading", "image_pending_upload", label)]


@pytest.mark.parametrize("task_state", [None, "image_pending_upload", "image_uploading", "image_backup"])
def test_what_an_interrupted_snapshot_left_is_removed_and_nothing_else(bench, task_state):
    """At the start of the service, or else by the next snapshot."""
    instance = bench.spawn()
    vdi_ref = bench.vmops.disks.root_vdi_of(bench.vmops.finder.require(instance))
    left, others, cached = (bench.api("VDI.snapshot", vdi_ref, {}) for _ in range(3))
    bench.api("VDI.set_name_label", left, f"{instance['name']}-snapshot")
    bench.api("VDI.set_name_label", cached, f"{instance['name']}-snapshot")
    bench.api("VDI.add_to_other_config", cached, "image-id", "i")
    if task_state:
        assert bench.vmops.settling.settle(instance, task_state) is None
    else:
        bench.vmops.snapshot(None, instance, bench.images.add(b"", status="queued")["id"])
    frozen = {ref for ref, vdi in bench.api("VDI.get_all_records").items() if vdi["is_a_snapshot"]}
    assert frozen == {others, cached}
    for ref in frozen:
        bench.api("VDI.destroy", ref)
