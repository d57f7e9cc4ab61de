"""Building an instance on this host, and sending it back to the scheduler when that fails."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.delete import Deleter
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.policy import record_fault
from nova_lite.compute.reschedule import Rescheduler
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

GIB = 1024 ** 3
_STEPS_OF_A_BUILD = (task_states.NETWORKING, task_states.BLOCK_DEVICE_MAPPING, task_states.SPAWNING)


@dataclass
class BuildRequest:
    """What run_instance was asked, in the form it can be asked of another host. Holds secrets: has no repr."""

    request_spec: dict[str, Any] | None
    filter_properties: dict[str, Any]
    requested_networks: list[Any] | None
    injected_files: list[Any] | None = field(repr=False)
    admin_password: str | None = field(repr=False)
    is_first_time: bool
    node: str | None

    def as_arguments(self) -> dict[str, Any]:
        """Return the arguments of the scheduler's run_instance."""
        return {
            "request_spec": self.request_spec,
            "admin_password": self.admin_password,
            "injected_files": self.injected_files,
            "requested_networks": self.requested_networks,
            "is_first_time": self.is_first_time,
            "filter_properties": self.filter_properties,
        }


class Builder:
    """Takes an instance from scheduled to running: claim, networks, block devices, guest."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, deleter: Deleter,
                 rescheduler: Rescheduler) -> None:
        self._here = here
        self._block_devices = block_devices
        self._deleter = deleter
        self._rescheduler = rescheduler

    def run(self, context: RequestContext, instance: objects.Instance, request: BuildRequest) -> None:
        """Build the instance; a message delivered again, and an instance being deleted, are dropped.

        A failure goes to the scheduler if the request can be retried; else the instance is in ERROR, create.error is
        sent and the failure is raised.
        """
        if self._is_repeated(instance):
            return
        try:
            self._start(context, instance)
        except exception.UnexpectedTaskStateError as error:
            LOG.info("Dropping the build of instance %s, which is not waiting for one: %s", instance.uuid, error)
            return
        try:
            self._build(context, instance, request)
        except exception.InstanceNotFound:
            raise
        except exception.UnexpectedTaskStateError as error:
            if error.kwargs["actual"] != task_states.DELETING:
                self._fail(context, instance, error)
                raise
            LOG.info("Build of instance %s ends here: it is being deleted", instance.uuid)
        except Exception as error:  # whatever failed, the instance is not built
            self._fail(context, instance, error)
            raise

    def _is_repeated(self, instance: objects.Instance) -> bool:
        """Tell whether an earlier delivery was (or is being) taken up: here, or by the host it went to since."""
        if not (instance.launched_on and instance.host):
            return False
        taken_up = instance.vm_state != vm_states.BUILDING or instance.task_state in _STEPS_OF_A_BUILD
        if taken_up or instance.host != self._here.name:
            LOG.info("Dropping a repeated build of instance %s: it is %s on host %s",
                     instance.uuid, instance.vm_state, instance.host)
            return True
        return False

    def _start(self, context: RequestContext, instance: objects.Instance) -> None:
        self._here.update(context, instance, vm_state=vm_states.BUILDING, task_state=None,
                          expected_task_state=(task_states.SCHEDULING, None))

    def _fail(self, context: RequestContext, instance: objects.Instance, error: Exception) -> None:
        self._here.set_error(context, instance)
        self._here.notify_error(context, instance, "create", error)

    def _build(self, context: RequestContext, instance: objects.Instance, request: BuildRequest) -> None:
        here = self._here
        if here.driver.instance_exists(instance.name):
            raise exception.InstanceExists(name=instance.name)
        image_meta = self._image_that_fits(context, instance)
        node = request.node or here.driver.get_available_nodes()[0]
        extra = {"image_name": image_meta["name"]} if image_meta else {}
        here.notify(context, instance, "create.start", extra=extra)
        files = decode_files(request.injected_files)
        bdms = self._block_devices.of(context, instance)
        try:
            tracker = here.trackers.of(node)
            with tracker.instance_claim(context, instance, request.filter_properties.get("limits", {})):
                network_info = self._bring_up(context, instance, request, image_meta, files, bdms)
        except exception.InstanceNotFound:
            self._clear_away(context, instance, bdms)
            raise
        except exception.UnexpectedTaskStateError as error:
            if error.kwargs["actual"] != task_states.DELETING:
                self._clear_away(context, instance, bdms)
            raise
        except Exception as error:  # any other failure may be this host's, and another host may do better
            self._reschedule_or_raise(context, instance, request, bdms, error)
        else:
            here.notify(context, instance, "create.end", network_info=network_info, extra=extra)

    def _image_that_fits(self, context: RequestContext, instance: objects.Instance) -> dict[str, Any]:
        """Return the image's metadata, {} for a boot from volume. Raises ImageTooLarge, ImageNotFound."""
        if not instance.image_ref:
            return {}
        image_meta = self._here.image_api.show(context, instance.image_ref)
        limit_gb = instance.get_flavor().root_gb
        if limit_gb and (image_meta.get("size") or 0) > limit_gb * GIB:
            LOG.error("Image %s has %s bytes, more than the %s GB of instance %s",
                      instance.image_ref, image_meta["size"], limit_gb, instance.uuid)
            raise exception.ImageTooLarge()
        return image_meta

    def _bring_up(self, context: RequestContext, instance: objects.Instance, request: BuildRequest,
                  image_meta: dict[str, Any], files: list[tuple[str, bytes]],
                  bdms: list[objects.BlockDeviceMapping]) -> NetworkInfo:
        here = self._here
        network_info = self._allocate_network(context, instance, request)
        here.update(context, instance, task_state=task_states.BLOCK_DEVICE_MAPPING,
                    expected_task_state=task_states.NETWORKING)
        block_device_info = self._block_devices.prepare(context, instance, bdms)
        here.update(context, instance, task_state=task_states.SPAWNING,
                    expected_task_state=task_states.BLOCK_DEVICE_MAPPING)
        with here.in_hand(instance):
            here.driver.spawn(context, instance, image_meta, files, request.admin_password,
                              here.for_driver(network_info), block_device_info)
        access_ips = self._access_ips(instance, network_info) if request.is_first_time else {}
        here.update(context, instance, power_state=here.power_state(instance), vm_state=vm_states.ACTIVE,
                    task_state=None, launched_at=here.clock.utcnow(), expected_task_state=task_states.SPAWNING,
                    **access_ips)
        return network_info

    def _allocate_network(self, context: RequestContext, instance: objects.Instance,
                          request: BuildRequest) -> NetworkInfo:
        here = self._here
        here.update(context, instance, vm_state=vm_states.BUILDING, task_state=task_states.NETWORKING,
                    expected_task_state=None)
        return here.network_api.allocate_for_instance(
            context, instance, vpn=instance.image_ref == here.conf.vpn_image_id,
            requested_networks=request.requested_networks, macs=here.driver.macs_for_instance(instance),
            conductor_api=here.conductor, security_groups=self._network_security_groups(request.request_spec))

    def _network_security_groups(self, request_spec: dict[str, Any] | None) -> list[Any]:
        """Return the groups the network service is told: those of the request when it owns security groups."""
        if self._here.conf.security_group_api == "nova" or not request_spec:
            return []
        return request_spec.get("security_group", [])

    def _access_ips(self, instance: objects.Instance, network_info: NetworkInfo) -> dict[str, str]:
        """Return the last address of each family of the first interface in the network whose addresses are used."""
        label = self._here.conf.default_access_ip_network_name
        if not label or instance.access_ip_v4 or instance.access_ip_v6:
            return {}
        vif = next((vif for vif in network_info if vif["network"]["label"] == label), None)
        return {f"access_ip_v{ip['version']}": ip["address"] for ip in vif.fixed_ips()} if vif else {}

    def _clear_away(self, context: RequestContext, instance: objects.Instance, bdms: Iterable[Any]) -> None:
        """Remove what an overtaken build has left: nobody else knows that it was here. Failures are logged."""
        block_device_info = self._block_devices.info(context, instance, bdms)
        steps = (
            lambda: self._here.driver.destroy(instance, NetworkInfo(), block_device_info),
            lambda: self._deleter.release_network(context, instance),
            lambda: self._block_devices.detach_all(context, instance, bdms),
        )
        for step in steps:
            try:
                step()
            except Exception:  # clean-up must neither stop half way nor hide why it is needed
                LOG.exception("Could not clear away all of the overtaken build of instance %s", instance.uuid)

    def _reschedule_or_raise(self, context: RequestContext, instance: objects.Instance, request: BuildRequest,
                             bdms: list[objects.BlockDeviceMapping], error: Exception) -> None:
        try:
            # Volumes are only detached: those that go with the instance serve it on the next host.
            self._deleter.shut_down(context, instance, bdms)
        except Exception:  # a host that cannot clean up is no ground for a second guest elsewhere
            record_fault(self._here.conductor, context, instance, error)
            raise
        if not self._rescheduler.send(context, instance, "run_instance", request.as_arguments(),
                                      task_states.SCHEDULING, error):
            raise error
        record_fault(self._here.conductor, context, instance, error)
        LOG.error("Build of instance %s failed here and goes back to the scheduler: %s", instance.uuid, error)


def decode_files(injected_files: Iterable[Any] | None) -> list[tuple[str, bytes]]:
    """Return [(path, bytes)] of [(path, base64 text)]. Raises Base64Exception, without the contents."""
    return [(path, _decoded(path, contents)) for path, contents in injected_files or ()]


def _decoded(path: str, contents: str) -> bytes:
    try:
        return base64.b64decode(contents, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise exception.Base64Exception(path=path) from None
