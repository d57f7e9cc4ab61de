"""The PCI devices of simulated hosts: a display of their own, a network controller, and GPUs by the host's plan."""

import uuid as uuid_module
from typing import TYPE_CHECKING

from nova_lite.xensim.graphics import WHOLE

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

DISPLAY = (
    "0300",
    "VGA compatible controller",
    "102b",
    "Matrox Electronics Systems Ltd.",
    "0536",
    "Integrated Matrox G200eW3",
)
NETWORK = ("0200", "Ethernet controller", "8086", "Intel Corporation", "1572", "Ethernet Controller X710")
GPU = ("0302", "3D controller", "10de", "NVIDIA Corporation", "25b6", "GA107GL [A2 / A16]")
MIB = 1024 * 1024
# Types of virtual GPU: model, framebuffer in MiB, how many fit on one physical GPU, implementation.
VGPU_TYPES = (
    ("passthrough", 0, 1, "passthrough"),
    ("NVIDIA A16-2Q", 2048, 8, "nvidia"),
    ("NVIDIA A16-4Q", 4096, 4, "nvidia"),
    ("NVIDIA A16-16Q", 16384, 1, "nvidia"),
)


class Hardware:
    """Fills the tables of PCI devices and GPUs. Expects the tables' lock."""

    def __init__(self, toolstack: "Toolstack"):
        self._toolstack = toolstack
        self._db = toolstack.db

    def add(self, host_ref: str, gpus: int) -> None:
        """Give a host its devices."""
        display_ref = self._device(host_ref, "0000:03:00.0", DISPLAY)
        self._gpu(host_ref, display_ref, [], is_display=True)
        network_ref = self._device(host_ref, "0000:18:00.0", NETWORK)
        for pif in list(self._db.select("PIF", host=host_ref, physical=True)):
            self._db.set("PIF", pif.ref, PCI=network_ref)
        for number in range(gpus):
            pci_ref = self._device(host_ref, f"0000:{0x40 + number:02x}:00.0", GPU)
            self._gpu(host_ref, pci_ref, self._types())

    def _device(self, host_ref: str, address: str, description: tuple[str, ...]) -> str:
        fields = self._db.schema.classes["PCI"].fields
        names = ("class_id", "class_name", "vendor_id", "vendor_name", "device_id", "device_name")
        values = {name: field.initial() for name, field in fields.items()} | dict(zip(names, description, strict=True))
        uuid = str(uuid_module.uuid4())
        return self._db.insert(
            "PCI", f"OpaqueRef:{uuid}", {**values, "uuid": uuid, "host": host_ref, "pci_id": address}
        )

    def _gpu(self, host_ref: str, pci_ref: str, types: list[str], *, is_display: bool = False) -> None:
        group_ref = self._group(pci_ref)
        self._db.create(
            "PGPU",
            PCI=pci_ref,
            host=host_ref,
            GPU_group=group_ref,
            size=WHOLE,
            supported_VGPU_types=types,
            enabled_VGPU_types=types,
            supported_VGPU_max_capacities={ref: WHOLE // self._db.get("VGPU_type", ref, "size") for ref in types},
            is_system_display_device=is_display,
        )
        self._toolstack.graphics.refresh_group(group_ref)

    def _group(self, pci_ref: str) -> str:
        pci = self._db.row("PCI", pci_ref)
        label = f"Group of {pci['vendor_name']} {pci['device_name']} GPUs"
        found = next(self._db.select("GPU_group", name_label=label), None)
        return found.ref if found else self._db.create("GPU_group", name_label=label)

    def _types(self) -> list[str]:
        known = [row.ref for row in self._db.rows("VGPU_type")]
        return known or [self._type(*described) for described in VGPU_TYPES]

    def _type(self, model: str, framebuffer_mib: int, count: int, implementation: str) -> str:
        return self._db.create(
            "VGPU_type",
            vendor_name="NVIDIA Corporation" if framebuffer_mib else "",
            model_name=model,
            framebuffer_size=framebuffer_mib * MIB,
            max_heads=4 if framebuffer_mib else 0,
            max_resolution_x=4096 if framebuffer_mib else 0,
            max_resolution_y=2160 if framebuffer_mib else 0,
            size=WHOLE // count,
            implementation=implementation,
            identifier=f"{implementation}:{model}",
        )
