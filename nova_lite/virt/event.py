"""What a driver tells the compute service without being asked: a guest started, stopped, paused or resumed."""

import time

EVENT_LIFECYCLE_STARTED = 0
EVENT_LIFECYCLE_STOPPED = 1
EVENT_LIFECYCLE_PAUSED = 2
EVENT_LIFECYCLE_RESUMED = 3

NAMES = {
    EVENT_LIFECYCLE_STARTED: "Started",
    EVENT_LIFECYCLE_STOPPED: "Stopped",
    EVENT_LIFECYCLE_PAUSED: "Paused",
    EVENT_LIFECYCLE_RESUMED: "Resumed",
}


class Event:
    """Something that happened at `timestamp` (epoch seconds; now when left out)."""

    def __init__(self, timestamp: float | None = None):
        self.timestamp = time.time() if timestamp is None else timestamp

    def get_timestamp(self) -> float:
        return self.timestamp


class InstanceEvent(Event):
    """Something that happened to the instance `uuid`."""

    def __init__(self, uuid: str, timestamp: float | None = None):
        super().__init__(timestamp)
        self.uuid = uuid

    def get_instance_uuid(self) -> str:
        return self.uuid


class LifecycleEvent(InstanceEvent):
    """The instance `uuid` changed state; `transition` is one of the EVENT_LIFECYCLE_* constants."""

    def __init__(self, uuid: str, transition: int, timestamp: float | None = None):
        super().__init__(uuid, timestamp)
        self.transition = transition

    def get_transition(self) -> int:
        return self.transition

    def get_name(self) -> str:
        return NAMES.get(self.transition, f"Unknown ({self.transition})")

    def __repr__(self):
        return f"<LifecycleEvent {self.uuid}: {self.get_name()}>"
