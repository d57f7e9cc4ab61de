"""The guest this service itself runs in, where it runs in one of the host it manages."""

import re
import subprocess

HYPERVISOR_UUID = "/sys/hypervisor/uuid"


def own_vm_uuid(path: str | None = None) -> str | None:
    """Return the uuid of the guest we are, as the kernel or else xenstore tells it; None outside of Xen guests."""
    try:
        with open(path or HYPERVISOR_UUID) as own:
            return own.read().strip()
    except OSError:
        pass
    domid = _read_xenstore("domid")
    where = _read_xenstore(f"/local/domain/{domid}/vm") if domid and domid.isdigit() else None
    return re.sub("^/vm/", "", where) if where else None


def _read_xenstore(path: str) -> str | None:
    try:
        done = subprocess.run(["xenstore-read", path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
