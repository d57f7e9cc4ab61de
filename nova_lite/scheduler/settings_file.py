"""Scheduler settings in a JSON file that operators change while it is read (`scheduler_json_config_location`)."""

import json
import os
from typing import Any

from oslo_log import log as logging

from nova_lite.context import Services

LOG = logging.getLogger(__name__)

INTERVAL_S = 300


class SettingsFile:
    """The object in the file; looked at every five minutes at most, and read when it was modified since."""

    def __init__(self, services: Services) -> None:
        self._path = services.conf.scheduler_json_config_location
        self._clock = services.clock
        self._looked_at_s: float | None = None
        self._modified_ns: int | None = None
        self._settings: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """Return the settings: those of the last time the file could be read, {} without a file."""
        now_s = self._clock.monotonic()
        if self._path and (self._looked_at_s is None or now_s - self._looked_at_s >= INTERVAL_S):
            self._looked_at_s = now_s
            self._read()
        return self._settings

    def _read(self) -> None:
        try:
            modified_ns = os.stat(self._path).st_mtime_ns
            if modified_ns == self._modified_ns:
                return
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError) as error:
            LOG.error("Keeping the scheduler settings as they are: %s cannot be read: %s", self._path, error)
            return
        if not isinstance(found, dict):
            LOG.error("Keeping the scheduler settings as they are: %s holds no object", self._path)
            return
        self._settings, self._modified_ns = found, modified_ns
