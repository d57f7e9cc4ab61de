"""What is done inside a running guest: password, files, metadata, diagnostics."""

import secrets
import string
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states

LOG = logging.getLogger(__name__)

# Without the characters that look like others.
_PASSWORD_CHARACTERS = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))


def generate_password(length: int) -> str:
    """Return a random password."""
    return "".join(secrets.choice(_PASSWORD_CHARACTERS) for _ in range(length))


class GuestAccess:
    """Reaches into guests through the driver."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def set_admin_password(self, context: RequestContext, instance: objects.Instance, new_pass: str | None) -> None:
        """Set the administrator's password; None: a generated one.

        A guest that does not take it keeps running: InstancePasswordSetFailed says so, without the driver's words,
        which may hold the password.
        """
        here = self._here
        if here.power_state(instance) != power_state.RUNNING:
            self._finish(context, instance)
            raise exception.InstancePasswordSetFailed(instance=instance.uuid, reason="the guest is not running")
        try:
            here.driver.set_admin_password(instance, new_pass or generate_password(here.conf.password_length))
        except NotImplementedError:
            self._finish(context, instance)
            raise NotImplementedError("set_admin_password is not implemented by this driver or guest") from None
        except Exception as error:  # whatever it is, its text must not reach logs or faults
            LOG.error("Setting the password of instance %s failed by %s", instance.uuid, type(error).__name__)
            raise exception.InstancePasswordSetFailed(instance=instance.uuid,
                                                      reason="error setting admin password") from None
        self._finish(context, instance)

    def _finish(self, context: RequestContext, instance: objects.Instance) -> None:
        self._here.update(context, instance, task_state=None, expected_task_state=task_states.UPDATING_PASSWORD)

    def inject_file(self, instance: objects.Instance, path: str, contents: str) -> None:
        """Write a file into the guest."""
        state = self._here.power_state(instance)
        if state != power_state.RUNNING:
            LOG.warning("Injecting a file into instance %s, which does not run: power state %s", instance.uuid, state)
        self._here.driver.inject_file(instance, path, contents)

    def diagnostics(self, instance: objects.Instance) -> dict[str, Any] | None:
        """Return the driver's figures of a running guest, None of one that does not run."""
        if self._here.power_state(instance) != power_state.RUNNING:
            return None
        return self._here.driver.get_diagnostics(instance)
