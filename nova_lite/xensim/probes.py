"""SR.probe and probe_ext: what is found behind an address before a repository is made on it.

A driver that lacks a part of the address fails with a list of the choices, as XML in the error's third text; clients
walk down so from a server to its exports, or from a portal to an IQN and a LUN.
"""

from typing import Any
from xml.sax.saxutils import escape

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.iscsi import scsi_id
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.storage_rules import DRIVERS

HEAD = '<?xml version="1.0" ?>'
# The parts of an address that tell repositories of a type apart.
ADDRESS_KEYS = {
    "nfs": ("server", "serverpath"),
    "lvmoiscsi": ("target", "targetIQN", "SCSIid"),
    "iscsi": ("target", "targetIQN"),
    "ext": ("device",),
    "lvm": ("device",),
}


def element(name: str, *children: str) -> str:
    return f"<{name}>{''.join(children)}</{name}>"


def missing(number: int, part: str, choices: str = "") -> ApiError:
    """Return the error of a driver that lacks a part of the address."""
    return ApiError(f"SR_BACKEND_FAILURE_{number}", "", f"The request is missing {part} parameter", choices)


class Probes(Noun):
    @call("SR.probe")
    def probe(self, _caller, host_ref, device_config, type_, _sm_config):
        return HEAD + element("SRlist", *map(self._listed, self._search(host_ref, device_config, type_)))

    @call("SR.probe_ext")
    def probe_ext(self, _caller, host_ref, device_config, type_, _sm_config):
        found = self._search(host_ref, device_config, type_)
        return [
            {"configuration": device_config, "complete": True, "sr": self._stat(sr), "extra_info": {}} for sr in found
        ]

    @call("SR.make")
    def make(self, _caller, _host, _device_config, _size, _label, _description, _type, _content_type, _sm_config):
        raise ApiError("MESSAGE_DEPRECATED")

    def _search(self, host_ref: str, device_config: dict[str, str], type_: str) -> list[Row]:
        """Return the repositories that lie at an address."""
        self.db.row("host", host_ref)
        if type_ not in DRIVERS:
            raise ApiError("SR_UNKNOWN_DRIVER", type_)
        if "SR_PROBE" not in DRIVERS[type_][1].split():
            raise ApiError("SR_OPERATION_NOT_SUPPORTED", NULL)
        self.check_address(type_, device_config)
        keys = ADDRESS_KEYS.get(type_, ())
        return [sr for sr in self.db.select("SR", type=type_) if self._lies_at(sr, device_config, keys)]

    def _lies_at(self, sr: Row, device_config: dict[str, str], keys: tuple[str, ...]) -> bool:
        configs = [self.db.get("PBD", ref, "device_config") for ref in sr["PBDs"]]
        return any(all(config.get(key) == device_config.get(key) for key in keys) for config in configs)

    def check_address(self, type_: str, device_config: dict[str, str]) -> None:
        """Raise what a driver says of an address that is not whole: SR_BACKEND_FAILURE_n with the choices."""
        if type_ in ("ext", "lvm") and not device_config.get("device"):
            raise missing(90, "the device")
        if type_ == "nfs":
            self._check_export(device_config)
        elif type_ in ("lvmoiscsi", "iscsi"):
            self._check_target(device_config, needs_lun=type_ == "lvmoiscsi")

    def _check_export(self, device_config: dict[str, str]) -> None:
        if not device_config.get("server"):
            raise missing(100, "the server")
        if not device_config.get("serverpath"):
            raise missing(101, "the serverpath", HEAD + element("nfs-exports", *self._exports(device_config["server"])))

    def _exports(self, server: str) -> list[str]:
        """Return what a server exports: the paths that repositories of this pool use, and one for the asking."""
        configs = [pbd["device_config"] for pbd in self.db.rows("PBD")]
        paths = [
            config["serverpath"] for config in configs if config.get("server") == server and "serverpath" in config
        ]
        return [
            element(
                "Export", element("Target", escape(server)), element("Path", escape(path)), element("Accesslist", "*")
            )
            for path in dict.fromkeys([*paths, "/export"])
        ]

    def _check_target(self, device_config: dict[str, str], *, needs_lun: bool) -> None:
        portal = device_config.get("target")
        if not portal:
            raise missing(90, "the target")
        if not device_config.get("targetIQN"):
            iqns = [iqn for address, iqn in self.toolstack.iscsi.targets if address == portal]
            if not iqns:
                raise ApiError("SR_BACKEND_FAILURE_141", "", "Unable to connect to iSCSI service on target", "")
            listed = (
                element("TGT", element("Index", str(index)), element("IPAddress", escape(portal)),
                        element("TargetIQN", escape(iqn)))
                for index, iqn in enumerate(iqns)
            )  # fmt: skip
            raise missing(96, "or has an incorrect target IQN", HEAD + element("iscsi-target-iqns", *listed))
        target = self.toolstack.iscsi.connect(device_config)
        ids = {scsi_id(portal, device_config["targetIQN"], lun): lun for lun in target.luns}
        if needs_lun and device_config.get("SCSIid") not in ids:
            listed = (
                element("LUN", element("vendor", "XENSIM"), element("serial", scsi[1:9]), element("LUNid", str(lun)),
                        element("size", str(target.luns[lun])), element("SCSIid", scsi))
                for scsi, lun in ids.items()
            )  # fmt: skip
            raise missing(107, "or has an incorrect SCSIid", HEAD + element("iscsi-target", *listed))

    @staticmethod
    def _listed(sr: Row) -> str:
        return element("SR", element("UUID", sr["uuid"]))

    @staticmethod
    def _stat(sr: Row) -> dict[str, Any]:
        free = sr["physical_size"] - sr["physical_utilisation"]
        return {
            "uuid": sr["uuid"],
            "name_label": sr["name_label"],
            "name_description": sr["name_description"],
            "free_space": free,
            "total_space": sr["physical_size"],
            "clustered": sr["clustered"],
            "health": "healthy",
        }
