"""What backup and recovery software uses: changed blocks, disks reset at boot, probes, copies of the database."""

import base64
import struct
import urllib.request
import xml.etree.ElementTree

import pytest
import XenAPI

KIB = 1024
MIB = 1024 * KIB
IQN = "iqn.2026-01.example:disk"


def refusal(client, call, *arguments):
    with pytest.raises(XenAPI.Failure) as error:
        client.session.xenapi_request(call, arguments)
    return error.value.details


@pytest.fixture
def write(xensim, client):
    """Return a function that writes into a disk at an offset."""

    def put(vdi, offset, content):
        task = client.api.task.create("write", "")
        body = struct.pack("<QI", offset, len(content)) + content + bytes(12)
        query = f"vdi={vdi}&format=raw&chunked=true&task_id={task}&session_id={client.session._session}"
        request = urllib.request.Request(f"{xensim.url}/import_raw_vdi?{query}", body, method="PUT")
        urllib.request.urlopen(request).close()
        assert client.finished(task)["status"] == "success"

    return put


def read(xensim, client, vdi):
    query = f"vdi={vdi}&format=raw&session_id={client.session._session}"
    with urllib.request.urlopen(f"{xensim.url}/export_raw_vdi?{query}") as reply:
        return reply.read()


class TestChangedBlocks:
    def changed(self, client, start, end):
        """Return the numbers of the 64 KiB blocks that changed."""
        bitmap = base64.b64decode(client.api.VDI.list_changed_blocks(start, end))
        return [number for number in range(len(bitmap) * 8) if bitmap[number // 8] & 0x80 >> number % 8]

    def test_blocks_written_between_two_snapshots_are_listed(self, client, write):
        vdi = client.vdi(size_mib=4)
        client.api.VDI.enable_cbt(vdi)
        write(vdi, 0, b"before")
        first = client.api.VDI.snapshot(vdi)
        write(vdi, 3 * 64 * KIB - 1, b"ab")
        second = client.api.VDI.snapshot(vdi)
        write(vdi, 4 * MIB - 1, b"z")

        assert self.changed(client, first, second) == [2, 3]
        assert self.changed(client, first, vdi) == [2, 3, 63]
        assert self.changed(client, second, second) == []
        assert client.api.VDI.get_cbt_enabled(first) is True

    def test_a_snapshot_without_its_data_still_says_what_changed(self, client, write):
        vdi = client.vdi(size_mib=4)
        client.api.VDI.enable_cbt(vdi)
        first = client.api.VDI.snapshot(vdi)
        write(vdi, 64 * KIB, b"x")

        client.api.VDI.data_destroy(first)

        assert client.api.VDI.get_type(first) == "cbt_metadata"
        assert self.changed(client, first, vdi) == [1]
        assert refusal(client, "VDI.copy", first, client.default_sr(), "OpaqueRef:NULL", "OpaqueRef:NULL") == [
            "VDI_INCOMPATIBLE_TYPE", first, "cbt_metadata",
        ]  # fmt: skip

    def test_a_snapshot_that_goes_leaves_its_changes_to_the_next(self, client, write):
        vdi = client.vdi(size_mib=4)
        client.api.VDI.enable_cbt(vdi)
        first = client.api.VDI.snapshot(vdi)
        write(vdi, 0, b"x")
        second = client.api.VDI.snapshot(vdi)
        write(vdi, 64 * KIB, b"y")

        client.api.VDI.destroy(second)

        assert self.changed(client, first, vdi) == [0, 1]

    def test_what_cannot_be_compared_is_refused(self, client):
        vdi, other = client.vdi(), client.vdi()
        client.api.VDI.enable_cbt(vdi)
        snapshot, untracked = client.api.VDI.snapshot(vdi), client.api.VDI.snapshot(other)

        assert refusal(client, "VDI.list_changed_blocks", vdi, snapshot)[0] == "SR_BACKEND_FAILURE_460"
        assert refusal(client, "VDI.list_changed_blocks", untracked, vdi) == ["VDI_NO_CBT_METADATA", untracked]
        assert refusal(client, "VDI.data_destroy", untracked) == ["VDI_NO_CBT_METADATA", untracked]
        assert refusal(client, "VDI.data_destroy", vdi)[0] == "OPERATION_NOT_ALLOWED"
        assert refusal(client, "VDI.enable_cbt", snapshot)[0] == "OPERATION_NOT_ALLOWED"
        assert refusal(client, "VDI.set_on_boot", vdi, "reset") == ["VDI_CBT_ENABLED", vdi]


def test_a_disk_that_is_reset_forgets_what_was_written_since_its_vm_booted(xensim, client, write):
    vm, vdi = client.vm(), client.vdi()
    client.vbd(vm, vdi)
    write(vdi, 0, b"kept")
    client.api.VDI.set_on_boot(vdi, "reset")
    write(vdi, 0, b"lost")

    client.api.VM.start(vm, False, False)

    assert read(xensim, client, vdi)[:4] == b"kept"
    assert refusal(client, "VM.checkpoint", vm, "x") == ["VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"]


class TestProbes:
    def choices(self, client, type_, config, *path):
        """Return (error code, texts at a path of the XML that lists the choices)."""
        code, _, _, listed = refusal(client, "SR.probe", client.host(), config, type_, {})
        return code, [each.text for each in xml.etree.ElementTree.fromstring(listed).iterfind("/".join(path))]

    def test_an_iscsi_target_is_found_from_its_portal(self, xensim, client):
        xensim.control.iscsi_target("10.0.0.9", IQN, {"4": 64 * MIB})
        config = {"target": "10.0.0.9"}

        code, iqns = self.choices(client, "lvmoiscsi", config, "TGT", "TargetIQN")
        next_code, (scsi,) = self.choices(client, "lvmoiscsi", {**config, "targetIQN": IQN}, "LUN", "SCSIid")
        whole = {**config, "targetIQN": IQN, "SCSIid": scsi}
        before = client.api.SR.probe(client.host(), whole, "lvmoiscsi", {})
        sr = client.api.SR.create(client.host(), whole, "0", "san", "", "lvmoiscsi", "user", True, {})
        after = client.api.SR.probe(client.host(), whole, "lvmoiscsi", {})
        (found,) = client.api.SR.probe_ext(client.host(), whole, "lvmoiscsi", {})

        assert (code, iqns, next_code) == ("SR_BACKEND_FAILURE_96", [IQN], "SR_BACKEND_FAILURE_107")
        assert client.api.SR.get_uuid(sr) in after and "UUID" not in before
        assert found["complete"] and found["sr"]["uuid"] == client.api.SR.get_uuid(sr)

    def test_a_file_server_lists_its_exports(self, client):
        code, paths = self.choices(client, "nfs", {"server": "nas"}, "Export", "Path")

        assert (code, paths) == ("SR_BACKEND_FAILURE_101", ["/export"])

    @pytest.mark.parametrize(
        ("type_", "config", "code"),
        [
            ("nfs", {}, "SR_BACKEND_FAILURE_100"),
            ("lvmoiscsi", {"target": "10.9.9.9"}, "SR_BACKEND_FAILURE_141"),
            ("ext", {}, "SR_BACKEND_FAILURE_90"),
            ("carousel", {}, "SR_UNKNOWN_DRIVER"),
        ],
    )
    def test_an_address_that_is_not_whole_makes_no_repository(self, client, type_, config, code):
        before = client.api.SR.get_all()
        created = refusal(client, "SR.create", client.host(), config, "0", "x", "", type_, "user", False, {})

        assert created[0] == code == refusal(client, "SR.probe", client.host(), config, type_, {})[0]
        assert client.api.SR.get_all() == before

    def test_an_old_call_says_that_it_is_one(self, client):
        assert refusal(client, "SR.make", client.host(), {}, "0", "", "", "ext", "", {}) == ["MESSAGE_DEPRECATED"]
        assert refusal(client, "VDI.force_unlock", client.vdi()) == ["MESSAGE_DEPRECATED"]


class TestDatabaseReplicas:
    @pytest.fixture
    def shared(self, client):
        config = {"server": "nas", "serverpath": "/x"}
        return client.api.SR.create(client.host(), config, "0", "shared", "", "nfs", "user", True, {})

    def test_a_replica_says_whose_database_it_is_and_is_not_opened_at_home(self, client, shared):
        pool = client.api.pool.get_all()[0]
        client.api.SR.enable_database_replication(shared)
        (vdi,) = client.api.SR.get_VDIs(shared)

        assert client.api.VDI.read_database_pool_uuid(vdi) == client.api.pool.get_uuid(pool)
        assert client.api.pool.get_metadata_VDIs(pool) == [vdi]
        assert refusal(client, "VDI.open_database", vdi) == ["VDI_CONTAINS_METADATA_OF_THIS_POOL", vdi, pool]
        client.api.SR.disable_database_replication(shared)
        assert client.api.SR.get_VDIs(shared) == []

    def test_the_redo_log_is_on_a_repository_for_metadata(self, client, shared):
        pool, local = client.api.pool.get_all()[0], client.default_sr()

        refused = refusal(client, "pool.enable_redo_log", local)
        client.api.pool.enable_redo_log(shared)

        assert refused == ["SR_OPERATION_NOT_SUPPORTED", local]
        assert client.api.VDI.get_type(client.api.pool.get_redo_log_vdi(pool)) == "redo_log"
        assert refusal(client, "pool.enable_redo_log", shared) == ["REDO_LOG_IS_ENABLED"]
        client.api.pool.disable_redo_log()
        assert client.api.pool.get_redo_log_enabled(pool) is False

    def test_a_vm_that_is_here_is_not_recovered(self, client):
        vm, session = client.vm(), client.session._session
        client.vbd(vm, client.vdi())

        assert client.api.VM.get_SRs_required_for_recovery(vm, session) == [client.default_sr()]
        assert refusal(client, "VM.recover", vm, session, False) == ["VM_TO_IMPORT_IS_NOT_NEWER_VERSION", vm, "0", "0"]
