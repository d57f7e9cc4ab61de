"""What a XenServer itself says of its VMs, asked through XenAPI like any other client would."""

import dataclasses
import urllib.parse
import urllib.request
from typing import Any

from nova_lite.demo import disk

READ_TIMEOUT_S = 30


@dataclasses.dataclass(frozen=True)
class MachineView:
    """One VM: its label, the uuid of the instance it belongs to, its power state."""

    name: str
    instance_uuid: str
    power_state: str


@dataclasses.dataclass(frozen=True)
class DiskView:
    """Where a VM's root disk lies, and the digest of the image's length of it."""

    sr_name: str
    vdi_uuid: str
    size_b: int
    digest: str


class XenServer:
    """A session with one XenServer."""

    def __init__(self, url: str, username: str, password: str):
        import XenAPI

        self.url = url
        self._session = XenAPI.Session(url)
        self._session.xenapi.login_with_password(username, password, "2.0", "nova_lite demo")

    def machines(self) -> list[MachineView]:
        """Return the VMs that are instances."""
        records = self._session.xenapi.VM.get_all_records()
        return [
            MachineView(record["name_label"], record["other_config"]["nova_uuid"], record["power_state"])
            for record in records.values()
            if "nova_uuid" in record["other_config"]
        ]

    def root_disk(self, instance_uuid: str, size_b: int) -> DiskView:
        """Read an instance's root disk back over HTTP, as far as its image reaches. Raises LookupError."""
        api = self._session.xenapi
        vdi_ref = self._root_vdi(instance_uuid)
        record = api.VDI.get_record(vdi_ref)
        with self._export(vdi_ref) as stream:
            digest = disk.digest_of(disk.chunks_of(stream), size_b)
        return DiskView(api.SR.get_name_label(record["SR"]), record["uuid"], int(record["virtual_size"]), digest)

    def _root_vdi(self, instance_uuid: str) -> str:
        api = self._session.xenapi
        for record in api.VM.get_all_records().values():
            if record["other_config"].get("nova_uuid") == instance_uuid:
                for vbd_ref in record["VBDs"]:
                    if api.VBD.get_userdevice(vbd_ref) == "0":
                        return api.VBD.get_VDI(vbd_ref)
        raise LookupError(f"{self.url} has no root disk of instance {instance_uuid}")

    def _export(self, vdi_ref: str) -> Any:
        query = urllib.parse.urlencode({"session_id": self._session.handle, "vdi": vdi_ref, "format": "raw"})
        return urllib.request.urlopen(f"{self.url}/export_raw_vdi?{query}", timeout=READ_TIMEOUT_S)

    def close(self) -> None:
        self._session.xenapi.session.logout()
