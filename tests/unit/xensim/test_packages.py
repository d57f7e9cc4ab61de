"""VMs as files, and VMs on their way to another repository, host or pool."""

import contextlib
import io
import os
import tarfile
import urllib.error
import urllib.request

import pytest
import XenAPI

from nova_lite.xensim import Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xensim import logged_in
from tests.unit.xensim.conftest import Client
from tests.unit.xensim.test_storage import Disks

MIB = 1024 * 1024


@pytest.fixture
def disks(xensim, client):
    return Disks(xensim.url, client)


@pytest.fixture
def content():
    return os.urandom(MIB) + bytes(4 * MIB) + os.urandom(MIB)


@pytest.fixture
def vm(client, disks, content):
    """A halted VM with one disk of known content and an interface."""
    vm, vdi = client.vm("packed", other_config={"nova_uuid": "u"}), client.vdi(size_mib=6)
    disks.put(vdi, content)
    client.vbd(vm, vdi, "0", bootable=True)
    client.vif(vm, mac="00:16:3e:aa:bb:cc")
    return vm


def export(xensim, client, path="/export", **query):
    query = "&".join(f"{key}={value}" for key, value in {**query, "session_id": client.session._session}.items())
    with urllib.request.urlopen(f"{xensim.url}{path}?{query}") as reply:
        return reply.read()


def import_package(xensim, client, package, path="/import", **query):
    """Import and return (task record, references of the VMs made)."""
    task = client.api.task.create("import", "")
    query = {**query, "session_id": client.session._session, "task_id": task}
    url = f"{xensim.url}{path}?" + "&".join(f"{key}={value}" for key, value in query.items())
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        urllib.request.urlopen(urllib.request.Request(url, package, method="PUT")).close()
    record = client.finished(task)
    return record, [part.partition("<")[0] for part in record["result"].split("<value>") if part.startswith("Opaque")]


def disk_of(client, vm):
    return client.api.VBD.get_VDI(client.api.VM.get_VBDs(vm)[0])


@pytest.mark.parametrize("compression", ["false", "gzip"])
def test_an_exported_vm_comes_back_with_its_disk(xensim, client, disks, vm, content, compression):
    package = export(xensim, client, ref=vm, use_compression=compression)

    record, (copy,) = import_package(xensim, client, package)

    assert record["status"] == "success"
    assert copy != vm
    assert client.api.VM.get_other_config(copy)["nova_uuid"] == "u"
    assert disks.get(disk_of(client, copy)) == content
    client.api.VM.start(copy, False, False)


def test_blocks_of_zeros_are_left_out_and_every_block_has_its_checksum(xensim, client, vm):
    with tarfile.open(fileobj=io.BytesIO(export(xensim, client, ref=vm))) as package:
        names = package.getnames()

    blocks = [name.rpartition("/")[2] for name in names if "/" in name]
    assert names[0] == "ova.xml"
    assert blocks == ["00000000", "00000000.checksum", "00000005", "00000005.checksum"]


def test_a_restored_vm_keeps_its_uuid_and_address(xensim, client, vm):
    uuid, package = client.api.VM.get_uuid(vm), export(xensim, client, ref=vm)
    client.api.VM.destroy(vm)

    _, (restored,) = import_package(xensim, client, package, restore="true")

    assert client.api.VM.get_uuid(restored) == uuid
    assert client.api.VIF.get_MAC(client.api.VM.get_VIFs(restored)[0]) == "00:16:3e:aa:bb:cc"


@pytest.mark.parametrize("damage", [lambda package: package[:-3_000_000], lambda package: b"x" * 5000])
def test_a_damaged_package_leaves_nothing_behind(xensim, client, vm, damage):
    package = export(xensim, client, ref=vm)
    before = client.api.VDI.get_all()

    record, _ = import_package(xensim, client, damage(package))

    assert (record["status"], record["error_info"][0]) == ("failure", "IMPORT_ERROR")
    assert client.api.VDI.get_all() == before


def test_a_running_vm_is_not_exported(xensim, client):
    vm = client.started()

    with pytest.raises(urllib.error.HTTPError) as error:
        export(xensim, client, ref=vm)

    assert error.value.code == 404


class TestMigration:
    @pytest.fixture
    def away(self):
        with Simulator(name="away") as simulator:
            yield simulator

    @pytest.fixture
    def there(self, away):
        with logged_in(away) as session:
            yield Client(session)

    def maps(self, client, there, vm):
        vdi_map = {disk_of(client, vm): there.default_sr()}
        return vdi_map, {vif: there.network() for vif in client.api.VM.get_VIFs(vm)}

    def destination(self, there):
        return there.api.host.migrate_receive(there.host(), there.network(), {})

    def test_a_running_vm_moves_to_another_pool_with_its_disk(self, client, away, there, vm, content):
        client.api.VM.start(vm, False, False)
        uuid, old_disk = client.api.VM.get_uuid(vm), disk_of(client, vm)
        vdi_map, vif_map = self.maps(client, there, vm)
        destination = self.destination(there)
        client.api.VM.assert_can_migrate(vm, destination, True, vdi_map, vif_map, {})

        client.api.VM.migrate_send(vm, destination, True, vdi_map, vif_map, {})

        moved = there.api.VM.get_by_uuid(uuid)
        assert there.api.VM.get_power_state(moved) == "Running"
        assert Disks(away.url, there).get(disk_of(there, moved)) == content
        assert there.api.VIF.get_MAC(there.api.VM.get_VIFs(moved)[0]) == "00:16:3e:aa:bb:cc"
        assert vm not in client.api.VM.get_all()
        assert old_disk not in client.api.VDI.get_all()

    def test_a_disk_without_a_destination_is_named(self, client, there, vm):
        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.assert_can_migrate(vm, self.destination(there), True, {}, {}, {})

        assert error.value.details == ["VDI_NOT_IN_MAP", disk_of(client, vm)]

    def test_a_failure_over_there_leaves_the_vm_here(self, client, away, there, vm):
        client.api.VM.start(vm, False, False)
        vdi_map, vif_map = self.maps(client, there, vm)
        destination = self.destination(there)
        before = there.api.VDI.get_all()
        away.control.fail("VDI.create", error=["SR_BACKEND_FAILURE_44", "", "no space", ""])

        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.migrate_send(vm, destination, True, vdi_map, vif_map, {})

        assert error.value.details[0] == "SR_BACKEND_FAILURE_44"
        assert client.api.VM.get_power_state(vm) == "Running"
        assert there.api.VDI.get_all() == before

    def test_a_disk_moves_to_another_repository_while_its_vm_runs(self, client, disks, vm, content):
        client.api.VM.start(vm, False, False)
        sr = client.api.SR.create(client.host(), {"device": "/dev/sdb"}, "0", "second", "", "ext", "user", False, {})

        moved = client.api.VDI.pool_migrate(disk_of(client, vm), sr, {})

        assert disk_of(client, vm) == moved
        assert client.api.VDI.get_SR(moved) == sr
        assert disks.get(moved) == content


def test_a_description_that_is_sent_meets_faults_and_is_in_the_log_when_it_has_ended(xensim, client, vm):
    description = export(xensim, client, "/export_metadata", ref=vm)
    xensim.control.fail("PUT /import_metadata", error=["INTERNAL_ERROR", "planted"])

    record, copies = import_package(xensim, client, description, "/import_metadata")

    assert (record["error_info"], copies) == (["INTERNAL_ERROR", "planted"], [])
    assert wait_until(lambda: xensim.control.call_log("PUT /import_metadata", "500"), "the request did not end")
