"""iSCSI targets: LUNs are files, chosen by target address, IQN and LUN number."""

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

DEFAULT_LUN_SIZE = 1024**3


def _digest(portal: str, iqn: str, lun: int) -> str:
    return hashlib.sha256("\0".join([portal, iqn, str(lun)]).encode()).hexdigest()


def scsi_id(portal: str, iqn: str, lun: int) -> str:
    """Return the identifier by which every host knows a LUN."""
    return f"3{_digest(portal, iqn, lun)[:32]}"


@dataclass
class Target:
    """One iSCSI target: its LUNs {number: bytes}, the CHAP credentials it asks for."""

    luns: dict[int, int] = field(default_factory=dict)
    username: str = ""
    password: str = field(default="", repr=False)
    is_away: bool = False


class Iscsi(Noun):
    """What the hosts see behind portals. A target nobody described has one LUN, number 0 or the one asked for."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.targets: dict[tuple[str, str], Target] = {}

    def _target(self, config: dict[str, str]) -> Target:
        missing = [key for key in ("target", "targetIQN") if not config.get(key)]
        if missing:
            raise ApiError(
                "SR_BACKEND_FAILURE_90",
                "",
                f"The request is missing the {missing[0]} parameter [opterr={missing[0]}]",
                "",
            )
        key = (config["target"], config["targetIQN"])
        lun = config.get("LUNid", "0")
        return self.targets.setdefault(key, Target({int(lun) if lun.isdigit() else 0: DEFAULT_LUN_SIZE}))

    def connect(self, config: dict[str, str]) -> Target:
        """Log in to the target. Raises SR_BACKEND_FAILURE_68 on wrong CHAP credentials, _141 when it is away."""
        target = self._target(config)
        if target.is_away:
            raise ApiError("SR_BACKEND_FAILURE_141", "", "Unable to connect to iSCSI service on target", "")
        if target.username and (config.get("chapuser", ""), self._password(config)) != (
            target.username,
            target.password,
        ):
            raise ApiError("SR_BACKEND_FAILURE_68", "", "ISCSI login failed, verify CHAP credentials", "")
        return target

    def _password(self, config: dict[str, str]) -> str:
        secret_uuid = config.get("chappassword_secret") or config.get("chapassword_secret")
        if secret_uuid and secret_uuid in self.db.uuids["secret"]:
            return self.db.get("secret", self.db.uuids["secret"][secret_uuid], "value")
        return config.get("chappassword", "")

    def scan(self, sr: Row) -> None:
        """Show one disk for each LUN. Raises SR_BACKEND_FAILURE_40 when the target is away."""
        config = self.db.get("PBD", sr["PBDs"][0], "device_config")
        target = self._target(config)
        if target.is_away:
            raise ApiError("SR_BACKEND_FAILURE_40", "", "The SR scan failed  [opterr=the target does not answer]", "")
        known = {self.db.get("VDI", ref, "sm_config").get("LUNid") for ref in sr["VDIs"]}
        for number, size in target.luns.items():
            if str(number) not in known:
                self._show(sr, config, number, size)
        total = sum(target.luns.values())
        self.db.set("SR", sr.ref, physical_size=total)

    def _show(self, sr: Row, config: dict[str, str], number: int, size: int) -> None:
        """Add the unmanaged record of a LUN. Its uuid is the same for every repository and host that sees the LUN."""
        digest = _digest(config["target"], config["targetIQN"], number)
        vdi_uuid = f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
        path = os.path.join(self.toolstack.directory, "iscsi", f"{vdi_uuid}.raw")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.truncate(size)
        link = self.toolstack.images.path(sr["uuid"], vdi_uuid, is_raw=True)
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if not os.path.lexists(link):
            os.symlink(path, link)
        self.db.create(
            "VDI",
            uuid=vdi_uuid,
            SR=sr.ref,
            location=vdi_uuid,
            virtual_size=size,
            physical_utilisation=size,
            type="user",
            managed=False,
            sm_config={"LUNid": str(number), "SCSIid": scsi_id(config["target"], config["targetIQN"], number)},
        )
