"""Blobs, vTPMs, PCI devices and GPUs."""

import http.client
import urllib.parse

import pytest
import XenAPI

from nova_lite.xensim import HostPlan, Simulator
from tests.fixtures.xensim import logged_in
from tests.unit.xensim.conftest import Client


def refusal(client, call, *arguments):
    with pytest.raises(XenAPI.Failure) as error:
        client.session.xenapi_request(call, arguments)
    return error.value.details


@pytest.fixture(scope="module")
def equipped():
    """A client of a host that has a GPU."""
    with Simulator(plan=HostPlan(gpus=1)) as simulator, logged_in(simulator) as session:
        yield Client(session)


class TestBlobs:
    def ask(self, xensim, method, body=None, **query):
        """Return (status, content type, body)."""
        address = urllib.parse.urlsplit(xensim.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        connection.request(method, f"/blob?{urllib.parse.urlencode(query)}", body)
        reply = connection.getresponse()
        try:
            return reply.status, reply.headers.get("Content-Type"), reply.read()
        finally:
            connection.close()

    def test_what_is_put_comes_back(self, xensim, client):
        vm, session = client.vm(), client.session._session
        blob = client.api.VM.create_new_blob(vm, "icon", "image/png", False)

        put = self.ask(xensim, "PUT", b"\x89PNG", ref=blob, session_id=session)

        assert put[0] == 200
        assert self.ask(xensim, "GET", ref=blob, session_id=session) == (200, "image/png", b"\x89PNG")
        assert client.api.VM.get_blobs(vm) == {"icon": blob}
        assert client.api.blob.get_size(blob) == "4"

    def test_only_a_public_blob_is_read_without_a_session(self, xensim, client):
        private, public = client.api.blob.create("text/plain", False), client.api.blob.create("text/plain", True)

        assert self.ask(xensim, "GET", ref=private)[0] == 401
        assert self.ask(xensim, "GET", uuid=client.api.blob.get_uuid(public))[0] == 200
        assert self.ask(xensim, "PUT", b"x", ref=public)[0] == 401
        assert self.ask(xensim, "GET", ref="OpaqueRef:x", session_id=client.session._session)[0] == 404

    def test_a_blob_goes_with_its_object(self, client):
        vm = client.vm()
        client.api.VM.create_new_blob(vm, "notes", "", False)
        again = refusal(client, "VM.create_new_blob", vm, "notes", "", False)

        client.api.VM.destroy(vm)

        assert again == ["MAP_DUPLICATE_KEY", "VM", "blobs", vm, "notes"]
        assert client.api.blob.get_all() == []


class TestVtpms:
    def test_a_halted_hvm_guest_has_one(self, client):
        vm, pv = client.hvm(), client.vm()
        vtpm = client.api.VTPM.create(vm, False)

        assert refusal(client, "VTPM.create", vm, False) == ["VTPM_MAX_AMOUNT_REACHED", "1"]
        assert refusal(client, "VTPM.create", pv, False) == ["VM_HVM_REQUIRED", pv]
        client.api.VM.start(vm, False, False)
        assert refusal(client, "VTPM.destroy", vtpm) == ["VM_BAD_POWER_STATE", vm, "halted", "running"]
        client.api.VM.hard_shutdown(vm)
        assert client.api.VTPM.get_allowed_operations(vtpm) == ["destroy"]
        client.api.VTPM.destroy(vtpm)
        assert client.api.VM.get_VTPMs(vm) == []

    def test_a_copy_of_the_vm_has_a_copy_unless_it_is_unique(self, client):
        common, unique = client.hvm("common"), client.hvm("unique")
        client.api.VTPM.create(common, False)
        client.api.VTPM.create(unique, True)

        copies = [client.api.VM.clone(vm, "copy") for vm in (common, unique)]

        assert [len(client.api.VM.get_VTPMs(vm)) for vm in copies] == [1, 0]


class TestGraphics:
    @pytest.fixture
    def client(self, equipped):
        return equipped

    @pytest.fixture
    def group(self, client):
        return next(ref for ref, each in client.api.GPU_group.get_all_records().items() if "A16" in each["name_label"])

    def type_of(self, client, model):
        types = client.api.VGPU_type.get_all_records()
        return next(ref for ref, each in types.items() if each["model_name"] == model)

    def test_virtual_gpus_share_a_physical_one_until_it_is_full(self, client, group):
        kind, other = self.type_of(client, "NVIDIA A16-4Q"), self.type_of(client, "NVIDIA A16-2Q")
        vms = [client.hvm(f"gpu{number}") for number in range(5)]
        vgpus = [client.api.VGPU.create(vm, group, "0", {}, kind) for vm in vms]
        before = client.api.GPU_group.get_remaining_capacity(group, kind)
        for vm in vms[:4]:
            client.api.VM.start(vm, False, False)

        full = refusal(client, "VM.start", vms[4], False, False)
        left = [client.api.GPU_group.get_remaining_capacity(group, each) for each in (kind, other)]
        resident, suspended = client.api.VGPU.get_record(vgpus[0]), refusal(client, "VM.suspend", vms[0])
        for vm in vms[:4]:
            client.api.VM.hard_shutdown(vm)
        after = client.api.GPU_group.get_remaining_capacity(group, kind)
        for vm in vms:
            client.api.VM.destroy(vm)

        assert (before, left, after) == ("4", ["0", "0"], "4")
        assert full == ["VM_REQUIRES_VGPU", vms[4], group, kind]
        assert resident["currently_attached"] and resident["resident_on"] in client.api.GPU_group.get_PGPUs(group)
        assert suspended == ["VM_HAS_VGPU", vms[0]]
        assert client.api.VGPU.get_all() == []

    def test_a_type_that_is_not_enabled_is_not_to_be_had(self, client, group):
        (pgpu,) = client.api.GPU_group.get_PGPUs(group)
        kind, vm = self.type_of(client, "NVIDIA A16-16Q"), client.hvm()
        client.api.PGPU.remove_enabled_VGPU_types(pgpu, kind)

        refused = refusal(client, "VGPU.create", vm, group, "0", {}, kind)
        client.api.PGPU.add_enabled_VGPU_types(pgpu, kind)
        client.api.VGPU.create(vm, group, "0", {}, kind)

        assert refused[:2] == ["VGPU_TYPE_NOT_ENABLED", kind]
        assert refusal(client, "VGPU.create", vm, group, "0", {}, kind) == ["DEVICE_ALREADY_EXISTS", "0"]
        assert refusal(client, "GPU_group.destroy", group)[0] == "GPU_GROUP_CONTAINS_VGPU"
        client.api.VM.destroy(vm)
        assert refusal(client, "GPU_group.destroy", group) == ["GPU_GROUP_CONTAINS_PGPU", pgpu]

    def test_a_gpu_joins_only_groups_of_its_kind(self, client, group):
        (pgpu,) = client.api.GPU_group.get_PGPUs(group)
        display = next(ref for ref in client.api.GPU_group.get_all() if ref != group)
        new = client.api.GPU_group.create("new", "", {})

        refused = refusal(client, "PGPU.set_GPU_group", pgpu, display)
        client.api.PGPU.set_GPU_group(pgpu, new)
        alone = refusal(client, "VGPU.create", client.hvm(), group, "0", {}, self.type_of(client, "NVIDIA A16-2Q"))
        client.api.PGPU.set_GPU_group(pgpu, group)
        client.api.GPU_group.destroy(new)

        assert refused == ["PGPU_NOT_COMPATIBLE_WITH_GPU_GROUP", "10de/25b6", "102b/0536"]
        assert alone == ["GPU_GROUP_CONTAINS_NO_PGPUS", group]

    def test_a_device_passed_through_ties_the_vm_to_its_host(self, client):
        vm = client.vm(other_config={"pci": "0/0000:40:00.0"})
        client.api.VM.start(vm, False, False)
        (pci,) = client.api.VM.get_attached_PCIs(vm)

        assert client.api.PCI.get_pci_id(pci) == "0000:40:00.0"
        assert refusal(client, "VM.suspend", vm) == ["VM_HAS_PCI_ATTACHED", vm]
        client.api.VM.hard_shutdown(vm)
        assert client.api.VM.get_attached_PCIs(vm) == []

    def test_dom0_lets_a_device_go_at_the_next_reboot(self, client):
        host = client.host()
        pci = client.api.host.get_PCIs(host)[0]

        waiting = client.api.PCI.disable_dom0_access(pci), client.api.host.disable_display(host)
        client.api.host.disable(host)
        client.api.host.reboot(host)

        assert waiting == ("disable_on_reboot", "disable_on_reboot")
        assert client.api.PCI.get_dom0_access_status(pci) == "disabled"
        assert client.api.host.get_display(host) == "disabled"
        assert client.api.host.enable_display(host) == "enable_on_reboot"
