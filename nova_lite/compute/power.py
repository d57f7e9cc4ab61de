"""Starting, stopping, suspending and resuming guests. States and announcements are the action policy's."""

from oslo_log import log as logging

from nova_lite import objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)

SHUTDOWN_RETRY_INTERVAL_S = 10


class Power:
    """What each power action asks of the driver."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices) -> None:
        self._here = here
        self._block_devices = block_devices

    def stop(self, context: RequestContext, instance: objects.Instance, clean_shutdown: bool = True) -> None:
        """Switch the guest off, after giving it the time to shut down by itself when `clean_shutdown`."""
        timeout_s, retry_interval_s = self.shutdown_patience(instance, clean_shutdown)
        self._here.driver.power_off(instance, timeout_s, retry_interval_s)

    def shutdown_patience(self, instance: objects.Instance, clean_shutdown: bool) -> tuple[int, int]:
        """Return how long a guest may take to shut down and how often it is asked again, in seconds; (0, 0): not."""
        if not clean_shutdown:
            return 0, 0
        of_image = instance.system_metadata.get("image_os_shutdown_timeout")
        return int(of_image or self._here.conf.shutdown_timeout), SHUTDOWN_RETRY_INTERVAL_S

    def start(self, context: RequestContext, instance: objects.Instance) -> None:
        """Start the guest with its networks and volumes."""
        here = self._here
        here.driver.power_on(context, instance, here.for_driver(here.network_info(context, instance)),
                             self._block_devices.info(context, instance))

    def suspend(self, context: RequestContext, instance: objects.Instance) -> None:
        """Write the guest's memory to disk; a failure the driver did not undo leaves ERROR."""
        with self._here.error_out(context, instance):
            self._here.driver.suspend(instance)

    def resume(self, context: RequestContext, instance: objects.Instance) -> None:
        """Load the guest's memory from disk; a failure the driver did not undo leaves ERROR."""
        here = self._here
        with here.error_out(context, instance):
            here.driver.resume(instance, here.for_driver(here.network_info(context, instance)),
                               self._block_devices.info(context, instance))
