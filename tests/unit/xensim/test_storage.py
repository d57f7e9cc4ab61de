import contextlib
import os
import subprocess
import urllib.error
import urllib.request

import pytest
import XenAPI

MIB = 1024 * 1024


def details(error):
    return error.value.details


class Disks:
    """Streams disks in and out of the simulator as HTTP clients do."""

    def __init__(self, url, client):
        self.url = url
        self.client = client

    def _url(self, path, vdi, kind, **more):
        query = {"vdi": vdi, "format": kind, "session_id": self.client.session._session, **more}
        return f"{self.url}{path}?" + "&".join(f"{key}={value}" for key, value in query.items())

    def put(self, vdi, content, kind="raw"):
        """Import and return the finished task's record."""
        task = self.client.api.task.create("import", "")
        url = self._url("/import_raw_vdi", vdi, kind, task_id=task)
        # An import that fails ends the connection while the client is still sending.
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(urllib.request.Request(url, data=content, method="PUT")).close()
        return self.client.finished(task)

    def get(self, vdi, kind="raw", **more):
        with urllib.request.urlopen(self._url("/export_raw_vdi", vdi, kind, **more)) as reply:
            return reply.read()


@pytest.fixture
def disks(xensim, client):
    return Disks(xensim.url, client)


def test_what_is_imported_raw_comes_back(disks, client):
    vdi, content = client.vdi(size_mib=8), os.urandom(3 * MIB) + bytes(5 * MIB)

    task = disks.put(vdi, content)

    assert (task["status"], task["result"]) == ("success", f"<value>{vdi}</value>")
    assert disks.get(vdi) == content


def test_a_big_import_allocates_what_is_written_and_keeps_what_was_there(disks, client):
    """From 16 MiB on the kernel moves the blocks; a second import meets blocks that are there already."""
    vdi, block = client.vdi(size_mib=19), 2 * MIB
    first = os.urandom(block) + bytes(16 * MIB) + os.urandom(MIB)
    second = bytes(block) + os.urandom(block) + bytes(block - 1) + b"x" + bytes(12 * MIB) + os.urandom(MIB)

    for content in (first, second):
        assert disks.put(vdi, content)["status"] == "success"
        assert disks.get(vdi)[: len(content)] == content

    used = int(client.api.VDI.get_physical_utilisation(vdi))  # blocks 0 and 9 of the first, 1 and 2 of the second
    assert 4 * block < used < 4 * block + MIB


def test_a_disks_operation_shows_on_its_repository_too(xensim, client):
    vdi, sr = client.vdi(), client.default_sr()
    xensim.control.delay("VDI.snapshot", 60)

    task, token = client.api.Async.VDI.snapshot(vdi), ""
    while not client.api.VDI.get_current_operations(vdi):
        token = client.events(["VDI"], token, 10)["token"]
    running = client.api.SR.get_current_operations(sr)
    client.api.task.cancel(task)
    client.finished(task)

    assert running == {task: "vdi_snapshot"}
    assert client.api.SR.get_current_operations(sr) == {}


def test_an_exported_vhd_is_read_by_qemu(disks, client, tmp_path):
    vdi, content = client.vdi(size_mib=6), os.urandom(5 * MIB) + bytes(MIB)
    disks.put(vdi, content)
    (tmp_path / "disk.vhd").write_bytes(disks.get(vdi, "vhd"))

    subprocess.run(
        ["qemu-img", "convert", "-f", "vpc", "-O", "raw", tmp_path / "disk.vhd", tmp_path / "disk.raw"], check=True
    )

    assert (tmp_path / "disk.raw").read_bytes() == content


def test_a_vhd_made_by_qemu_is_imported(disks, client, tmp_path):
    content = os.urandom(MIB) + bytes(6 * MIB) + os.urandom(MIB)
    (tmp_path / "disk.raw").write_bytes(content)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", tmp_path / "disk.raw",
         tmp_path / "disk.vhd"], check=True,
    )  # fmt: skip
    vdi = client.vdi(size_mib=8)

    task = disks.put(vdi, (tmp_path / "disk.vhd").read_bytes(), "vhd")

    assert task["status"] == "success"
    assert disks.get(vdi) == content


def test_more_data_than_the_disk_holds_fails_the_task(disks, client):
    task = disks.put(client.vdi(size_mib=2), bytes(3 * MIB) + b"x")

    assert (task["status"], task["error_info"][0]) == ("failure", "INTERNAL_ERROR")


def test_a_damaged_vhd_fails_the_task(disks, client):
    task = disks.put(client.vdi(size_mib=2), b"conectix" + bytes(4096), "vhd")

    assert task["status"] == "failure"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("vdi={vdi}&format=raw", 401),
        ("vdi={vdi}&format=zip&session_id={session}", 404),
        ("vdi=OpaqueRef:none&session_id={session}", 404),
    ],
)
def test_a_bad_import_request_is_refused(xensim, client, query, status):
    text = query.format(vdi=client.vdi(), session=client.session._session)
    request = urllib.request.Request(f"{xensim.url}/import_raw_vdi?{text}", data=b"x" * 512, method="PUT")

    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)

    assert error.value.code == status


def test_a_snapshot_keeps_what_the_disk_held(disks, client):
    vdi = client.vdi(size_mib=4)
    disks.put(vdi, b"a" * 4 * MIB)
    snapshot = client.api.VDI.snapshot(vdi)

    disks.put(vdi, b"b" * 4 * MIB)

    assert disks.get(snapshot) == b"a" * 4 * MIB
    assert disks.get(vdi) == b"b" * 4 * MIB


def test_a_snapshot_puts_a_hidden_parent_under_both(disks, client):
    vdi = client.vdi(size_mib=4)
    disks.put(vdi, b"a" * 4 * MIB)
    snapshot = client.api.VDI.snapshot(vdi)

    parents = {client.api.VDI.get_sm_config(each)["vhd-parent"] for each in (vdi, snapshot)}

    (parent,) = parents
    record = client.api.VDI.get_record(client.api.VDI.get_by_uuid(parent))
    assert (record["name_label"], record["managed"], record["read_only"]) == ("base copy", False, True)
    assert client.api.VDI.get_snapshot_of(snapshot) == vdi
    assert client.api.VDI.get_is_a_snapshot(snapshot)


def test_snapshots_of_an_unchanged_disk_share_one_parent(disks, client):
    vdi = client.vdi(size_mib=4)
    disks.put(vdi, b"a" * 4 * MIB)

    snapshots = [client.api.VDI.snapshot(vdi) for _ in range(3)]

    assert len({client.api.VDI.get_sm_config(each)["vhd-parent"] for each in snapshots}) == 1


def test_the_collector_folds_a_parent_with_one_child(disks, client):
    vdi, content = client.vdi(size_mib=4), os.urandom(4 * MIB)
    disks.put(vdi, content)
    snapshot = client.api.VDI.snapshot(vdi)
    changed = b"z" * 100 + content[100:]
    disks.put(vdi, changed)

    client.api.VDI.destroy(snapshot)
    client.api.SR.scan(client.default_sr())

    assert disks.get(vdi) == changed
    assert "vhd-parent" not in client.api.VDI.get_sm_config(vdi)
    assert "base copy" not in [record["name_label"] for record in client.api.VDI.get_all_records().values()]


def test_a_paused_collector_leaves_chains_alone(xensim, disks, client):
    xensim.control.collector(is_paused=True)
    vdi = client.vdi(size_mib=4)
    disks.put(vdi, b"a" * MIB)
    client.api.VDI.destroy(client.api.VDI.snapshot(vdi))

    client.api.SR.scan(client.default_sr())

    assert "vhd-parent" in client.api.VDI.get_sm_config(vdi)


def test_a_difference_export_applies_to_the_base(disks, client):
    vdi, content = client.vdi(size_mib=8), os.urandom(8 * MIB)
    disks.put(vdi, content)
    snapshot = client.api.VDI.snapshot(vdi)
    disks.put(vdi, b"new" + content[3:])
    difference = disks.get(vdi, "vhd", base=snapshot)

    copy = client.vdi(size_mib=8)
    disks.put(copy, disks.get(snapshot, "vhd"), "vhd")
    disks.put(copy, difference, "vhd")

    assert disks.get(copy) == disks.get(vdi)


def test_a_difference_export_holds_only_what_changed(disks, client):
    vdi, content = client.vdi(size_mib=8), os.urandom(8 * MIB)
    disks.put(vdi, content)
    snapshot = client.api.VDI.snapshot(vdi)

    assert len(disks.get(vdi, "vhd", base=snapshot)) < 100_000


def test_a_chain_of_thirty_is_the_longest(disks, client):
    vdi = client.vdi(size_mib=2)
    with pytest.raises(XenAPI.Failure) as error:
        for number in range(40):
            disks.put(vdi, bytes([number + 1]) * 512)
            client.api.VDI.snapshot(vdi)

    assert details(error)[0] == "SR_BACKEND_FAILURE_109"


def test_sizes_are_rounded_up_to_whole_blocks(client):
    vdi = client.api.VDI.create(
        {"SR": client.default_sr(), "virtual_size": "1", "type": "user", "sharable": False, "read_only": False,
         "other_config": {}}
    )  # fmt: skip

    assert client.api.VDI.get_virtual_size(vdi) == str(2 * MIB)


def test_a_disk_grows_and_never_shrinks(disks, client):
    vdi = client.vdi(size_mib=4)
    disks.put(vdi, b"a" * 4 * MIB)

    client.api.VDI.resize(vdi, str(8 * MIB))
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VDI.resize(vdi, str(2 * MIB))

    assert details(error)[0] == "SR_BACKEND_FAILURE_79"
    assert disks.get(vdi) == b"a" * 4 * MIB + bytes(4 * MIB)


def test_a_repository_that_is_full_refuses(xensim, disks, client):
    client.api.SR.set_physical_size(client.default_sr(), str(3 * MIB))
    vdi = client.vdi(size_mib=8)

    task = disks.put(vdi, os.urandom(8 * MIB))

    assert task["error_info"][0] == "SR_BACKEND_FAILURE_44"


def test_a_copy_is_independent_and_reports_its_progress(disks, client):
    vdi, content = client.vdi(size_mib=8), os.urandom(8 * MIB)
    disks.put(vdi, content)

    task = client.finished(client.api.Async.VDI.copy(vdi, client.default_sr()))
    copy = task["result"].removeprefix("<value>").removesuffix("</value>")

    assert task["progress"] == 1.0
    assert disks.get(copy) == content
    assert client.api.VDI.get_sm_config(copy) == {}


def test_a_cancelled_copy_leaves_no_disk(xensim, disks, client):
    vdi = client.vdi(size_mib=16)
    disks.put(vdi, os.urandom(16 * MIB))
    before = client.api.VDI.get_all()
    xensim.control.slow_disks(8 * MIB)

    task = client.api.Async.VDI.copy(vdi, client.default_sr())
    client.api.task.cancel(task)

    assert client.finished(task)["error_info"] == ["TASK_CANCELLED", task]
    assert client.api.VDI.get_all() == before


def test_a_disk_in_use_is_not_destroyed(client):
    vm, vdi = client.vm(), client.vdi()
    client.vbd(vm, vdi)
    client.api.VM.start(vm, False, False)

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VDI.destroy(vdi)

    assert details(error) == ["VDI_IN_USE", vdi, "destroy"]


def test_a_disk_written_by_one_vm_is_refused_to_another(client):
    first, second, vdi = client.vm("one"), client.vm("two"), client.vdi()
    client.vbd(first, vdi)
    client.vbd(second, vdi)
    client.api.VM.start(first, False, False)

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.start(second, False, False)

    assert details(error) == ["VDI_IN_USE", vdi]
    assert client.api.VM.get_power_state(second) == "Halted"


def test_a_repository_in_use_is_not_unplugged(client):
    vm, vdi = client.vm(), client.vdi()
    client.vbd(vm, vdi)
    client.api.VM.start(vm, False, False)
    (pbd,) = client.api.SR.get_PBDs(client.default_sr())

    with pytest.raises(XenAPI.Failure) as error:
        client.api.PBD.unplug(pbd)

    assert details(error) == ["VDI_IN_USE", vdi]


def test_an_unplugged_repository_makes_no_disks_and_starts_no_vms(client):
    vm = client.vm()
    client.vbd(vm, client.vdi())
    (pbd,) = client.api.SR.get_PBDs(client.default_sr())
    client.api.PBD.unplug(pbd)

    with pytest.raises(XenAPI.Failure) as making:
        client.vdi()
    with pytest.raises(XenAPI.Failure) as starting:
        client.api.VM.start(vm, False, False)

    assert details(making) == ["SR_HAS_NO_PBDS", client.default_sr()]
    assert details(starting) == ["VM_REQUIRES_SR", vm, client.default_sr()]


def test_the_iso_repository_takes_no_snapshots(client):
    iso = client.api.SR.get_by_name_label("Local storage ISO")[0]
    vdi = client.vdi(sr=iso)

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VDI.snapshot(vdi)

    assert details(error) == ["SR_OPERATION_NOT_SUPPORTED", iso]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"type": "CD"}, ["VBD_CDS_MUST_BE_READONLY"]),
        ({"empty": True}, ["VBD_NOT_REMOVABLE_MEDIA", "in constructor"]),
        ({"userdevice": "elephant"}, ["INVALID_DEVICE", "elephant"]),
        ({"userdevice": "xvda"}, ["DEVICE_ALREADY_EXISTS", "xvda"]),
    ],
)
def test_a_wrong_attachment_is_refused(client, change, expected):
    vm, vdi = client.vm(), client.vdi()
    client.vbd(vm, client.vdi(), "0")

    with pytest.raises(XenAPI.Failure) as error:
        client.vbd(vm, vdi, **change)

    assert details(error) == expected


def test_devices_are_named_after_their_numbers(client):
    vm = client.vm()
    vbds = [client.vbd(vm, client.vdi(), number) for number in ("0", "1", "26")]
    client.api.VM.start(vm, False, False)

    assert [client.api.VBD.get_device(vbd) for vbd in vbds] == ["xvda", "xvdb", "xvdaa"]


def test_a_disk_is_plugged_and_unplugged_while_the_vm_runs(client):
    vm = client.started()
    vbd = client.vbd(vm, client.vdi())

    client.api.VBD.plug(vbd)
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VBD.plug(vbd)
    client.api.VBD.unplug(vbd)
    client.api.VBD.destroy(vbd)

    assert details(error) == ["DEVICE_ALREADY_ATTACHED", vbd]
    assert client.api.VM.get_VBDs(vm) == []


def test_plugging_into_a_halted_vm_names_the_states(client):
    vm = client.vm()
    vbd = client.vbd(vm, client.vdi())

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VBD.plug(vbd)

    assert details(error) == ["VM_BAD_POWER_STATE", vm, "running", "halted"]


def test_a_guest_may_refuse_to_let_a_disk_go(xensim, client):
    vm = client.started()
    vbd = client.vbd(vm, client.vdi())
    client.api.VBD.plug(vbd)
    xensim.control.guest(vm, ["holds-devices"])

    with pytest.raises(XenAPI.Failure) as error:
        client.api.VBD.unplug(vbd)
    client.api.VBD.unplug_force(vbd)

    assert details(error)[:3] == ["DEVICE_DETACH_REJECTED", "VBD", vbd]
    assert not client.api.VBD.get_currently_attached(vbd)


def test_a_cd_is_ejected_and_inserted(client):
    vm, iso = client.hvm(), client.api.SR.get_by_name_label("XenServer Tools")[0]
    (tools,) = client.api.SR.get_VDIs(iso)
    vbd = client.vbd(vm, "OpaqueRef:NULL", "3", type="CD", mode="RO", empty=True)

    client.api.VBD.insert(vbd, tools)
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VBD.insert(vbd, tools)
    client.api.VBD.eject(vbd)

    assert details(error) == ["VBD_NOT_EMPTY", vbd]
    assert client.api.VBD.get_empty(vbd)


class TestIscsi:
    CONFIG = {"target": "10.0.0.9", "port": "3260", "targetIQN": "iqn.2026-01.org.example:disk"}

    def introduce(self, client, **config):
        sr = client.api.SR.introduce("fa15ed15-0000-4000-8000-000000000001", "tempSR", "", "iscsi", "", False, {})
        pbd = client.api.PBD.create({"host": client.host(), "SR": sr, "device_config": {**self.CONFIG, **config}})
        client.api.PBD.plug(pbd)
        return sr

    def test_each_lun_is_an_unmanaged_disk_until_it_is_introduced(self, xensim, client):
        xensim.control.iscsi_target(self.CONFIG["target"], self.CONFIG["targetIQN"], {"0": 4 * MIB, "3": 6 * MIB})
        sr = self.introduce(client)
        client.api.SR.scan(sr)

        records = {client.api.VDI.get_sm_config(ref)["LUNid"]: ref for ref in client.api.SR.get_VDIs(sr)}
        ref = records["3"]
        record = client.api.VDI.get_record(ref)
        introduced = client.api.VDI.introduce(
            record["uuid"], "volume", "", sr, "User", False, False, {}, record["location"], {}, record["sm_config"]
        )

        assert set(records) == {"0", "3"}
        assert (record["managed"], record["virtual_size"]) == (False, str(6 * MIB))
        assert introduced == ref
        assert client.api.VDI.get_managed(ref)

    def test_a_lun_keeps_its_content_over_another_introduction(self, xensim, disks, client):
        xensim.control.iscsi_target(self.CONFIG["target"], self.CONFIG["targetIQN"], {"0": 4 * MIB})
        sr = self.introduce(client)
        client.api.SR.scan(sr)
        (vdi,) = client.api.SR.get_VDIs(sr)
        disks.put(vdi, b"kept")
        for pbd in client.api.SR.get_PBDs(sr):
            client.api.PBD.unplug(pbd)
        client.api.SR.forget(sr)

        sr = self.introduce(client)
        client.api.SR.scan(sr)

        (vdi,) = client.api.SR.get_VDIs(sr)
        assert disks.get(vdi)[:4] == b"kept"

    def test_wrong_chap_credentials_are_refused(self, xensim, client):
        xensim.control.iscsi_target(self.CONFIG["target"], self.CONFIG["targetIQN"], {"0": MIB}, "user", "secret")

        with pytest.raises(XenAPI.Failure) as error:
            self.introduce(client, chapuser="user", chappassword="guess")

        assert details(error)[0] == "SR_BACKEND_FAILURE_68"

    def test_a_target_that_went_away_fails_the_scan(self, xensim, client):
        sr = self.introduce(client)
        xensim.control.iscsi_target(self.CONFIG["target"], self.CONFIG["targetIQN"], {}, is_away=True)

        with pytest.raises(XenAPI.Failure) as error:
            client.api.SR.scan(sr)

        assert details(error)[0] == "SR_BACKEND_FAILURE_40"
