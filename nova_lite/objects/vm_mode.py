"""How a guest is virtualised (compute specification §2.4)."""

from typing import Any

from nova_lite import exception

HVM = "hvm"
XEN = "xen"
UML = "uml"
EXE = "exe"

ALL = [HVM, XEN, UML, EXE]

_OTHER_NAMES = {"pv": XEN, "hv": HVM}


def get_from_instance(instance: Any) -> str | None:
    """Return the canonical vm_mode of an instance, None when it has none. Raises Invalid."""
    return canonical(instance["vm_mode"])


def canonical(mode: str | None) -> str | None:
    """Return the canonical spelling of ``mode``; None stays None. Raises Invalid for an unknown one."""
    if mode is None:
        return None
    lower = mode.lower()
    found = _OTHER_NAMES.get(lower, lower)
    if found not in ALL:
        raise exception.Invalid(f"Unknown vm mode {mode!r}: expected one of {', '.join(ALL)}")
    return found
