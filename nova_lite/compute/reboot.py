"""Rebooting guests, and what is done about volumes that turn out bad meanwhile."""

from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.policy import record_fault
from nova_lite.context import RequestContext
from nova_lite.objects import block_device, power_state, task_states, vm_states

LOG = logging.getLogger(__name__)

# task states of a reboot by type: asked for, taken up here, handed to the driver
_STEPS = {
    "SOFT": (task_states.REBOOTING, task_states.REBOOT_PENDING, task_states.REBOOT_STARTED),
    "HARD": (task_states.REBOOTING_HARD, task_states.REBOOT_PENDING_HARD, task_states.REBOOT_STARTED_HARD),
}
EXPECTED = _STEPS["SOFT"] + _STEPS["HARD"]


class Rebooter:
    """Takes a guest through a reboot; ends ACTIVE when it runs, in ERROR when it does not."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, volumes: Any = None) -> None:
        self._here = here
        self._block_devices = block_devices
        self._volumes = volumes

    def reboot(self, context: RequestContext, instance: objects.Instance, reboot_type: str,
               block_device_info: dict[str, Any] | None) -> None:
        """Reboot ('SOFT' or 'HARD'). A failure that leaves the guest running is only a fault; else it is raised."""
        if reboot_type not in _STEPS:
            raise exception.Invalid(f"reboot_type must be SOFT or HARD, not {reboot_type!r}")
        here = self._here
        _, pending, started = _STEPS[reboot_type]
        network_info = here.for_driver(here.network_info(context, instance))
        state = here.power_state(instance)
        if state != power_state.RUNNING:
            LOG.warning("Rebooting instance %s, which does not run: power state %s", instance.uuid, state)
        here.update(context, instance, power_state=state, task_state=pending,
                    expected_task_state=_STEPS[reboot_type])
        if block_device_info is None:
            block_device_info = self._block_devices.info(context, instance)
        here.update(context, instance, task_state=started, expected_task_state=pending)
        try:
            here.driver.reboot(context, instance, network_info, reboot_type, block_device_info=block_device_info,
                               bad_volumes_callback=self._detacher(context, instance, block_device_info))
        except Exception as error:  # the guest decides what it means
            self._judge(context, instance, started, error)
        here.update(context, instance, power_state=here.power_state(instance), vm_state=vm_states.ACTIVE,
                    task_state=None, expected_task_state=started)

    def _judge(self, context: RequestContext, instance: objects.Instance, started: str, error: Exception) -> None:
        state = self._here.power_state(instance)
        if state == power_state.RUNNING:
            LOG.warning("Reboot of instance %s failed, but the guest runs: %s", instance.uuid, error)
            record_fault(self._here.conductor, context, instance, error)
            return
        self._here.update(context, instance, power_state=state, vm_state=vm_states.ERROR, task_state=None,
                          expected_task_state=started)
        raise error

    def _detacher(self, context: RequestContext, instance: objects.Instance, block_device_info: dict[str, Any]) -> Any:
        def detach_bad_volumes(bad_devices: Iterable[str]) -> None:
            bad = set(bad_devices)
            for mapping in block_device.mapping(block_device_info):
                volume_id = mapping["connection_info"].get("data", {}).get("volume_id")
                if mapping["mount_device"] in bad and volume_id:
                    self._detach_bad(context, instance, volume_id)

        return detach_bad_volumes

    def _detach_bad(self, context: RequestContext, instance: objects.Instance, volume_id: str) -> None:
        volume_api = self._here.volume_api
        LOG.warning("Detaching volume %s, which instance %s cannot use", volume_id, instance.uuid)
        volume_api.check_detach(context, volume_api.get(context, volume_id))
        volume_api.begin_detaching(context, volume_id)
        self._volumes.detach(context, volume_id, instance)
