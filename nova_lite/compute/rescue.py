"""Rescuing guests: booting a helper image with the broken root disk beside it."""

from typing import Any

from oslo_log import log as logging

from nova_lite import objects
from nova_lite.compute.guest import generate_password
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.power import Power
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states

LOG = logging.getLogger(__name__)


class Rescuer:
    """Takes guests into rescue mode and back. A failure that the driver did not undo leaves ERROR."""

    def __init__(self, here: ComputeHost, power: Power) -> None:
        self._here = here
        self._power = power

    def rescue(self, context: RequestContext, instance: objects.Instance, rescue_password: str | None,
               rescue_image_ref: str | None, clean_shutdown: bool) -> None:
        """Boot the rescue image: the one given, else the image the instance's own was made from, else its own."""
        here = self._here
        image_meta = self._image(context, instance, rescue_image_ref)
        extra = {"rescue_image_name": image_meta.get("name", "")}
        with here.announced(context, instance, "rescue", extra):
            network_info = here.for_driver(here.network_info(context, instance))
            here.conductor.notify_usage_exists(context, instance, current_period=True)
            with here.error_out(context, instance):
                if clean_shutdown and here.power_state(instance) == power_state.RUNNING:
                    self._power.stop(context, instance)
                here.driver.rescue(context, instance, network_info, image_meta,
                                   rescue_password or generate_password(here.conf.password_length))
            here.update(context, instance, vm_state=vm_states.RESCUED, task_state=None,
                        power_state=here.power_state(instance), launched_at=here.clock.utcnow(),
                        expected_task_state=task_states.RESCUING)

    def _image(self, context: RequestContext, instance: objects.Instance,
               rescue_image_ref: str | None) -> dict[str, Any]:
        image_ref = rescue_image_ref or instance.system_metadata.get("image_base_image_ref")
        if not image_ref:
            LOG.warning("Instance %s has no base image; rescuing it with its own, %s",
                        instance.uuid, instance.image_ref)
            image_ref = instance.image_ref
        return self._here.image_api.show(context, image_ref) if image_ref else {}

    def unrescue(self, context: RequestContext, instance: objects.Instance) -> None:
        """Boot the guest from its own disk again."""
        here = self._here
        network_info = here.for_driver(here.network_info(context, instance))
        with here.error_out(context, instance):
            here.driver.unrescue(instance, network_info)
