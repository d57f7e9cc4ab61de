"""Waiting for a host that is busy with what a call is about."""

from collections.abc import Callable
from typing import Any

import XenAPI

from nova_lite.virt.xenapi import errors

# What says that the same call may succeed in a moment.
WITH_VM = ("OTHER_OPERATION_IN_PROGRESS", "OPERATION_NOT_ALLOWED")
WITH_VDI = (*WITH_VM, "VDI_IN_USE", "VDI_NOT_AVAILABLE", "VDI_MISSING")
PAUSES_S = (0.2, 0.5, 1, 2)
LONG_PAUSES_S = (*PAUSES_S, 4, 8, 15)


def when_free(clock: Any, codes: tuple[str, ...], call: Callable[..., Any], *args,
              pauses_s: tuple[float, ...] = PAUSES_S) -> Any:
    """Return call(*args); while it fails with one of `codes`, call again after each of the pauses.

    Raises XenAPI.Failure, the last one when the host stays busy.
    """
    for pause_s in pauses_s:
        try:
            return call(*args)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, *codes):
                raise
        clock.sleep(pause_s)
    return call(*args)
