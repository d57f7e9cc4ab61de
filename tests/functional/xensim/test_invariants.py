"""Random VM, disk and device operations: what must hold of every pool holds after each, and what it allows it does.

`NOVA_LITE_FUZZ=500` tries as many histories; a failure prints the calls that led to it.
"""

import os

import pytest
import XenAPI
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.fixtures.xen_client import Client
from tests.fixtures.xen_invariants import Snapshot
from tests.fixtures.xensim import logged_in, simulator_process

HISTORIES = int(os.environ.get("NOVA_LITE_FUZZ", "4"))
STEPS = 40
MIB = 1024 * 1024
NULL = "OpaqueRef:NULL"
# Moves of power states that XenServer knows: state, call, next state.
MOVES = {
    ("Halted", "start"): "Running",
    ("Running", "pause"): "Paused",
    ("Running", "suspend"): "Suspended",
    ("Running", "clean_shutdown"): "Halted",
    ("Running", "clean_reboot"): "Running",
    ("Running", "hard_reboot"): "Running",
    ("Running", "hard_shutdown"): "Halted",
    ("Paused", "unpause"): "Running",
    ("Paused", "hard_reboot"): "Running",
    ("Paused", "hard_shutdown"): "Halted",
    ("Suspended", "resume"): "Running",
    ("Suspended", "hard_shutdown"): "Halted",
}
ARGUMENTS = {
    "start": (False, False), "resume": (False, False), "snapshot": ("snapshot",), "clone": ("clone",),
    "copy": ("copy", NULL), "checkpoint": ("checkpoint",),
}  # fmt: skip
OPERATIONS = sorted({call for _, call in MOVES} | set(ARGUMENTS) | {"destroy", "revert"})
# allowed_operations know nothing of the disks' use, the storage's abilities and the length of chains.
BEYOND_THE_VM = {
    "VDI_IN_USE",
    "SR_OPERATION_NOT_SUPPORTED",
    "SR_BACKEND_FAILURE_109",
    "DISK_VBD_MUST_BE_READWRITE_FOR_HVM",
}
BEYOND_THE_DISK = {"SR_OPERATION_NOT_SUPPORTED", "SR_BACKEND_FAILURE_109", "VDI_NOT_MANAGED", "SR_BACKEND_FAILURE_79"}
ADVISORY = {"clean_shutdown", "clean_reboot", "suspend"}  # of a guest without drivers: not listed, but tried
ANY = st.integers(0, 99)


class Pool(RuleBasedStateMachine):
    """Talks to a running simulator as any client; each history begins and ends with an empty pool."""

    simulator = None
    client = None
    directory = None

    @property
    def api(self):
        return self.client.api

    @initialize()
    def furnish(self):
        for make in (self.client.vm, self.client.hvm):
            vm = make()
            self.client.vbd(vm, self.client.vdi(size_mib=3))
            self.client.vif(vm)
        self.look()

    def look(self):
        self.seen = Snapshot(self.client.session)
        self.seen.check(self.directory)

    def pick(self, class_name, number):
        """Return one of the objects that histories made, in the order of their making."""
        rows = self.seen.records[class_name].items()
        if class_name == "VM":
            rows = [(ref, vm) for ref, vm in rows if not vm["is_default_template"] and not vm["is_control_domain"]]
        elif class_name == "VDI":
            rows = [(ref, vdi) for ref, vdi in rows if vdi["SR"] == self.client.default_sr()]
        refs = [ref for ref, _ in rows]
        return refs[number % len(refs)] if refs else NULL

    def attempt(self, call, *arguments):
        """Return the error's details, or None."""
        try:
            call(*arguments)
        except XenAPI.Failure as failure:
            assert failure.details[0] not in ("INTERNAL_ERROR", "NOT_IMPLEMENTED"), failure.details
            return failure.details
        return None

    # VMs

    @rule(is_hvm=st.booleans())
    def create_vm(self, is_hvm):
        (self.client.hvm if is_hvm else self.client.vm)()

    @rule(number=ANY, operation=st.sampled_from(OPERATIONS))
    def operate(self, number, operation):
        self._operate(self.pick("VM", number), operation)

    @rule(number=ANY, which=ANY)
    def operate_as_listed(self, number, which):
        vm = self.pick("VM", number)
        if vm != NULL:
            listed = sorted(set(self.seen.records["VM"][vm]["allowed_operations"]) & set(OPERATIONS))
            self._operate(vm, listed[which % len(listed)])

    def _operate(self, vm, operation):
        """What is listed works and nothing else does; the power state moves as it should, or not at all."""
        if vm == NULL:
            return
        before = self.api.VM.get_record(vm)
        error = self.attempt(getattr(self.api.VM, operation), vm, *ARGUMENTS.get(operation, ()))
        if operation in before["allowed_operations"]:
            assert error is None or error[0] in BEYOND_THE_VM, (operation, error)
        else:
            assert error is not None or operation in ADVISORY, f"{operation} is not listed, but works"
        if operation != "destroy" or error:
            state = before["power_state"]
            wanted = state if error else MOVES.get((state, operation), state)
            assert self.api.VM.get_power_state(vm) == wanted, (state, operation, error)

    @rule(number=ANY, value=st.booleans())
    def make_template(self, number, value):
        self.attempt(self.api.VM.set_is_a_template, self.pick("VM", number), value)

    # devices

    @rule(vm=ANY, disk=ANY, mode=st.sampled_from(["RW", "RW", "RO"]), device=st.sampled_from(["autodetect", "1"]))
    def create_vbd(self, vm, disk, mode, device):
        self.attempt(lambda: self.client.vbd(self.pick("VM", vm), self.pick("VDI", disk), device, mode=mode))

    @rule(vm=ANY)
    def create_cd_drive(self, vm):
        self.attempt(lambda: self.client.vbd(self.pick("VM", vm), NULL, type="CD", mode="RO", empty=True))

    @rule(vm=ANY, device=st.sampled_from("012"))
    def create_vif(self, vm, device):
        self.attempt(lambda: self.client.vif(self.pick("VM", vm), device))

    @rule(number=ANY, disk=ANY, call=st.sampled_from(["plug", "unplug", "unplug_force", "insert", "eject"]))
    def use_vbd(self, number, disk, call):
        vbd = self.pick("VBD", number)
        arguments = (self.pick("VDI", disk),) if call == "insert" else ()
        self._use("VBD", vbd, call, *arguments)

    @rule(number=ANY, call=st.sampled_from(["plug", "unplug"]))
    def use_vif(self, number, call):
        self._use("VIF", self.pick("VIF", number), call)

    def _use(self, class_name, ref, call, *arguments):
        """As for VMs: but whether a disk is in use, or can be a CD, is not told by what is listed."""
        if ref == NULL:
            return
        listed = self.seen.records[class_name][ref]["allowed_operations"]
        error = self.attempt(getattr(getattr(self.api, class_name), call), ref, *arguments)
        if call in listed:
            assert error is None or error[0] in BEYOND_THE_VM | {"VDI_NOT_MANAGED", "HANDLE_INVALID"}, (call, error)
        else:
            assert error is not None, f"{call} is not listed, but works"

    @rule(number=ANY)
    def destroy_vbd(self, number):
        self.attempt(self.api.VBD.destroy, self.pick("VBD", number))

    @rule(number=ANY)
    def destroy_vif(self, number):
        self.attempt(self.api.VIF.destroy, self.pick("VIF", number))

    # disks

    @rule(size_mib=st.sampled_from([1, 2, 5]), is_raw=st.booleans())
    def create_disk(self, size_mib, is_raw):
        self.client.vdi(size_mib=size_mib, **({"sm_config": {"type": "raw"}} if is_raw else {}))

    @rule(number=ANY, call=st.sampled_from(["snapshot", "clone", "destroy", "destroy", "copy", "resize"]))
    def use_disk(self, number, call):
        """What is listed works, unless the disk is no VHD, its chain too long, or it would shrink."""
        vdi = self.pick("VDI", number)
        if vdi == NULL:
            return
        arguments = {"copy": (self.client.default_sr(),), "resize": (str(8 * MIB),)}.get(call, ())
        listed = self.seen.records["VDI"][vdi]["allowed_operations"]
        error = self.attempt(getattr(self.api.VDI, call), vdi, *arguments)
        if call in listed:
            assert error is None or error[0] in BEYOND_THE_DISK, (call, error)
        else:
            assert error is not None, f"{call} is not listed, but works"

    @rule()
    def scan(self):
        """The collector runs now and at no other time, so that nothing changes while records and files are read."""
        self.simulator.control.collector(is_paused=False)
        self.api.SR.scan(self.client.default_sr())
        self.simulator.control.collector(is_paused=True)

    @invariant()
    def the_pool_is_sound(self):
        self.look()

    def teardown(self):
        """Take everything away: what was made can always be removed."""
        for ref, vm in self.api.VM.get_all_records().items():
            if vm["is_default_template"] or vm["is_control_domain"]:
                continue
            if vm["power_state"] != "Halted":
                self.api.VM.hard_shutdown(ref)
            self.api.VM.destroy(ref)
        sr = self.client.default_sr()
        for ref in self.api.SR.get_VDIs(sr):
            if ref in self.api.VDI.get_all() and self.api.VDI.get_managed(ref):
                self.api.VDI.destroy(ref)
        self.scan()
        self.look()
        assert self.api.SR.get_VDIs(sr) == []


@pytest.mark.timeout(120 + 10 * HISTORIES)
def test_random_histories_leave_a_sound_pool(tmp_path):
    with simulator_process(tmp_path) as simulator, logged_in(simulator) as session:
        simulator.control.collector(is_paused=True)
        Pool.simulator, Pool.client, Pool.directory = simulator, Client(session), tmp_path / "xensim"

        run_state_machine_as_test(
            Pool,
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize="NOVA_LITE_FUZZ" not in os.environ,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            ),
        )
