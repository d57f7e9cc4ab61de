"""What the hypervisor says about a guest (compute specification §2.3). 2, 5 and 8 are not used."""

NOSTATE = 0x00
RUNNING = 0x01
PAUSED = 0x03
SHUTDOWN = 0x04
CRASHED = 0x06
SUSPENDED = 0x07
BUILDING = 0x09  # bare metal only

_LABELS = {
    NOSTATE: "pending",
    RUNNING: "running",
    PAUSED: "paused",
    SHUTDOWN: "shutdown",
    CRASHED: "crashed",
    SUSPENDED: "suspended",
    BUILDING: "building",
}


def name(code: int) -> str:
    """Return the label of a power state. Raises KeyError for an unknown code."""
    return _LABELS[code]


def valid_states() -> list[int]:
    """Return every power state."""
    return list(_LABELS)
