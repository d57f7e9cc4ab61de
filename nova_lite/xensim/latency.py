"""How long calls take on a real host, for those who want to wait as long. Nobody waits unless a profile is chosen."""

import fnmatch

# Pattern: seconds, the first that matches. Orders of magnitude of a host with local disks, not measurements of one.
PROFILES: dict[str, dict[str, float]] = {
    "none": {},
    "host": {
        "session.login_with_password": 0.05,
        "event.*": 0.0,
        "system.*": 0.0,
        "*.get_all_records*": 0.02,
        "*.get_*": 0.003,
        "VM.start*": 2.0,
        "VM.resume*": 3.0,
        "VM.suspend": 4.0,
        "VM.*shutdown": 1.5,
        "VM.*reboot": 3.0,
        "VM.pool_migrate": 10.0,
        "VM.migrate_send": 20.0,
        "VM.snapshot": 1.2,
        "VM.checkpoint": 5.0,
        "VM.clone": 1.0,
        "VM.*pause": 0.1,
        "VBD.*plug*": 0.6,
        "VIF.*plug*": 0.3,
        "VDI.create": 0.4,
        "VDI.destroy": 0.4,
        "VDI.snapshot": 0.8,
        "VDI.clone": 0.8,
        "VDI.resize*": 0.4,
        "SR.create": 3.0,
        "SR.scan": 1.0,
        "SR.*": 0.5,
        "PBD.*plug": 1.5,
        "host.call_plugin": 0.2,
        "pool.join*": 30.0,
        "*": 0.01,
    },
}


class Latency:
    """What a profile adds to each call, multiplied by a scale."""

    def __init__(self, profile: str = "none", scale: float = 1.0):
        if profile not in PROFILES:
            raise ValueError(f"unknown profile {profile}: one of {', '.join(PROFILES)}")
        if scale < 0:
            raise ValueError("the scale is at least 0")
        self.profile = profile
        self.scale = scale
        self._known: dict[str, float] = {}  # of each call met so far

    def of(self, method: str) -> float:
        """Return the seconds that a call of this name takes longer."""
        if method not in self._known:
            patterns = PROFILES[self.profile]
            first = next((seconds for pattern, seconds in patterns.items() if fnmatch.fnmatchcase(method, pattern)), 0)
            self._known[method] = first * self.scale
        return self._known[method]
