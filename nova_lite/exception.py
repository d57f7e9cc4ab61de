"""Every error of the project, as one tree.

An exception carries a text made from ``msg_fmt`` and its keyword arguments, and those arguments in ``kwargs``
(always with ``code``), so that it can be written as JSON in one cell and be raised as the same class in another.
Arguments of a class are the names in its template. Raise and catch the most specific one.
"""

import logging
from typing import Any

LOG = logging.getLogger(__name__)

_LONGEST_SHOWN = 400  # characters of one argument in a text

# Names the reference implementation does not know travel under our own module name (see wire_class).
_registry: dict[str, type["NovaException"]] = {}


class NovaException(Exception):
    """Base of the tree.

    message: the text; made from ``msg_fmt`` and the keyword arguments when absent. ``kwargs['code']`` defaults to
    the class's code (HTTP classes, used by faults). ``safe`` says that the text may be shown to an ordinary user.
    """

    msg_fmt = "An unknown exception occurred."
    code = 500
    headers: dict[str, str] = {}
    safe = False
    own = False  # True: the reference has no class of this name
    fatal_format_errors = False  # True (tests): a template that lacks an argument is an error

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            _registry[cls.__name__] = cls
        template = cls.__dict__.get("message")
        if isinstance(template, str) and "msg_fmt" not in cls.__dict__:
            cls.msg_fmt = template

    def __init__(self, message: str | None = None, **kwargs: Any) -> None:
        self.kwargs = kwargs
        self.kwargs.setdefault("code", self.code)
        if message is None:
            message = self._text()
        self.text = message
        super().__init__(message)

    def _text(self) -> str:
        try:
            return self.msg_fmt % {name: _shown(value) for name, value in self.kwargs.items()}
        except (KeyError, TypeError, ValueError):
            if self.fatal_format_errors:
                raise
            LOG.error("the text of %s needs arguments that were not given (got %s)",
                      type(self).__name__, ", ".join(sorted(self.kwargs)))
            return self.msg_fmt

    def format_message(self) -> str:
        """The text without what a remote traceback may have added to it."""
        return self.text


_registry["NovaException"] = NovaException


def _shown(value: Any) -> Any:
    """A value as a text can hold it: not endless, and without the halves of characters that cannot be printed."""
    if not isinstance(value, str):
        return value
    text = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def find(name: str) -> type[NovaException] | None:
    """The class of this name in the tree, or None. The ``_Remote`` suffix of a rebuilt exception is ignored."""
    return _registry.get(name.removesuffix("_Remote"))


def wire_class(exc_type: type[BaseException]) -> type[BaseException]:
    """The class under which an exception is announced to another cell.

    The first one in the MRO that the reference has; a class that has only own ancestors below NovaException, and one
    that is not ours, is returned as it is.
    """
    ours = [_registry.get(cls.__name__.removesuffix("_Remote")) for cls in exc_type.__mro__]
    for cls in ours:
        if cls is not None and cls is not NovaException and not cls.own:
            return cls
    return next((cls for cls in ours if cls is not None), exc_type)


# --- Families ----------------------------------------------------------------------------------------------------

class Invalid(NovaException):
    msg_fmt = "Unacceptable parameters."
    code = 400

class NotFound(NovaException):
    msg_fmt = "Resource could not be found."
    code = 404

class NotAuthorized(NovaException):
    msg_fmt = "Not authorized."
    code = 403

Forbidden = NotAuthorized

class AdminRequired(NotAuthorized):
    msg_fmt = "User does not have admin privileges"

class PolicyNotAuthorized(NotAuthorized):
    msg_fmt = "Policy doesn't allow %(action)s to be performed."

class ImageNotAuthorized(NotAuthorized):
    msg_fmt = "Not authorized for image %(image_id)s."

class Duplicate(NovaException):
    msg_fmt = "The resource already exists."

class QuotaError(NovaException):
    msg_fmt = "Quota exceeded"
    code = 413
    headers = {"Retry-After": "0"}
    safe = True

class RemoteError(NovaException):
    """An exception of a class we may not or cannot rebuild; ``exc_type`` names it, ``value`` is its text."""

    msg_fmt = "Remote error: %(exc_type)s %(value)s\n%(traceback)s."

    def __init__(self, *told: Any, **kwargs: Any) -> None:
        """RemoteError(exc_type, value, traceback); rebuilt from the wire it gets its text and these as keywords."""
        names = ("exc_type", "value", "traceback")
        if "exc_type" not in kwargs:
            kwargs.update(zip(names, told, strict=False))
        self.exc_type, self.value, self.traceback = (kwargs.setdefault(name, None) for name in names)
        super().__init__(self.msg_fmt % kwargs, **kwargs)


# --- The process, its configuration and its neighbours ------------------------------------------------------------

class ConfigurationError(NovaException):
    """An operator's mistake; the text is the one line that he needs."""

    msg_fmt = "%(reason)s"
    own = True

class DatabaseNotReady(NovaException):
    """The database answers, and has to be set up or upgraded by the operator first."""

    msg_fmt = "%(reason)s"
    own = True

class ContextNotBound(NovaException):
    msg_fmt = ("The request context does not belong to a cell here: bind(services) was not called on it "
               "(request %(request_id)s).")
    own = True

class RpcError(NovaException):
    msg_fmt = "%(reason)s"
    own = True

class RpcTimeout(RpcError):
    """The answer did not come before the deadline; the operation may still be carried out."""

    msg_fmt = "No answer from %(method)s on %(topic)s within %(timeout_s).1f s."
    own = True

class RpcUnavailable(RpcError):
    """The broker did not take the message: it is away, or (`is_broker_there`) has nobody to give it to."""

    msg_fmt = "The message broker did not accept %(method)s on %(topic)s: %(reason)s."
    own = True

    @property
    def is_broker_there(self) -> bool:
        return bool(self.kwargs.get("is_broker_there"))

class RpcMethodRefused(RpcError):
    """The receiver has no such remote method, or not in that version, or the arguments do not fit."""

    msg_fmt = "Remote method %(method)s was refused: %(reason)s."
    own = True

class UnsupportedRpcVersion(RpcMethodRefused):
    msg_fmt = "Specified RPC version, %(version)s, of %(method)s is not supported by this endpoint."
    own = True

class RpcVersionCapError(RpcError):
    msg_fmt = "Version %(version)s of %(method)s is above the cap %(version_cap)s."
    own = True

class BadPriorityException(NovaException):
    msg_fmt = "%(priority)s is not a notification priority."

class DBNotAllowed(NovaException):
    msg_fmt = "%(binary)s attempted direct database access which is not allowed by policy"

class ServiceGroupUnavailable(NovaException):
    msg_fmt = "The service from servicegroup driver %(driver)s is temporarily unavailable."

class InvalidPeriodicTaskArg(Invalid):
    msg_fmt = "Unexpected argument for periodic task creation: %(arg)s."

class ConstraintNotMet(NovaException):
    msg_fmt = "Constraint not met."
    code = 412

class MarkerNotFound(NotFound):
    msg_fmt = "Marker %(marker)s could not be found."

class InvalidUUID(Invalid):
    msg_fmt = "Expected a uuid but received %(uuid)s."

class InvalidID(Invalid):
    msg_fmt = "Invalid ID received %(id)s."

class InvalidInput(Invalid):
    msg_fmt = "Invalid input received: %(reason)s"

class InvalidRequest(Invalid):
    msg_fmt = "The request is invalid."

class InvalidParameterValue(Invalid):
    msg_fmt = "%(err)s"

class Base64Exception(NovaException):
    msg_fmt = "Invalid Base 64 data for file %(path)s"

class DecryptionFailure(NovaException):
    msg_fmt = "Failed to decrypt text: %(reason)s"

class TaskAlreadyRunning(NovaException):
    msg_fmt = "Task %(task_name)s is already running on host %(host)s"

class TaskNotRunning(NovaException):
    msg_fmt = "Task %(task_name)s is not running on host %(host)s"


# --- Versioned objects ---------------------------------------------------------------------------------------------

class ObjectActionError(NovaException):
    msg_fmt = "Object action %(action)s failed because: %(reason)s"

class OrphanedObjectError(NovaException):
    msg_fmt = "Cannot call %(method)s on orphaned %(objtype)s object"

class ReadOnlyFieldError(NovaException):
    msg_fmt = "Cannot modify readonly field %(field)s"

class OperationNotSupported(NovaException, NotImplementedError):
    """The driver or guest of a host cannot do it; hosts say so by NotImplementedError."""

    msg_fmt = "%(reason)s"
    code = 501
    own = True

class UnsupportedObjectError(NovaException):
    msg_fmt = "Unsupported object type %(objtype)s"

class IncompatibleObjectVersion(NovaException):
    msg_fmt = "Version %(objver)s of %(objname)s is not supported"


# --- Cells -----------------------------------------------------------------------------------------------------------

class CellNotFound(NotFound):
    msg_fmt = "Cell %(cell_name)s doesn't exist."

class CellExists(NovaException):
    msg_fmt = "Cell with name %(name)s already exists."

class CellRoutingInconsistency(NovaException):
    msg_fmt = "Inconsistency in cell routing: %(reason)s"

class CellServiceAPIMethodNotFound(NotFound):
    msg_fmt = "Service API method not found: %(detail)s"

class CellTimeout(NotFound):
    """A cell did not answer. Not found only by descent, as in the reference: nobody knows whether it is there."""

    code = 504
    msg_fmt = "Timeout waiting for response from cell"

class CellMaxHopCountReached(NovaException):
    msg_fmt = "Cell message has reached maximum hop count: %(hop_count)s"

class NoCellsAvailable(NovaException):
    msg_fmt = "No cells available matching scheduling criteria."

class CellsUpdateUnsupported(NovaException):
    msg_fmt = "Cannot update cells configuration file."

class CellsOperationUnsupported(NovaException):
    msg_fmt = "%(operation)s is not supported in a cells deployment."
    code = 501
    own = True

class InstanceUnknownCell(NotFound):
    msg_fmt = "Cell is not known for instance %(instance_uuid)s"


# --- Instances -------------------------------------------------------------------------------------------------------

class InstanceNotFound(NotFound):
    msg_fmt = "Instance %(instance_id)s could not be found."

class InstanceExists(Duplicate):
    msg_fmt = "Instance %(name)s already exists."

class InstanceInfoCacheNotFound(NotFound):
    msg_fmt = "Info cache for instance %(instance_uuid)s could not be found."

class InstanceMetadataNotFound(NotFound):
    msg_fmt = "Instance %(instance_uuid)s has no metadata with key %(metadata_key)s."

class InstanceInvalidState(Invalid):
    msg_fmt = "Instance %(instance_uuid)s in %(attr)s %(state)s. Cannot %(method)s while the instance is in this state."

class InstanceIsLocked(InstanceInvalidState):
    msg_fmt = "Instance %(instance_uuid)s is locked"

class InstanceNotReady(Invalid):
    msg_fmt = "Instance %(instance_id)s is not ready"

class InstanceNotRunning(Invalid):
    msg_fmt = "Instance %(instance_id)s is not running."

class InstanceNotInRescueMode(Invalid):
    msg_fmt = "Instance %(instance_id)s is not in rescue mode"

class InstanceNotRescuable(Invalid):
    msg_fmt = "Instance %(instance_id)s cannot be rescued: %(reason)s"

class InstanceUnacceptable(Invalid):
    msg_fmt = "Instance %(instance_id)s is unacceptable: %(reason)s"

class InstanceSuspendFailure(Invalid):
    msg_fmt = "Failed to suspend instance: %(reason)s"

class InstanceResumeFailure(Invalid):
    msg_fmt = "Failed to resume instance: %(reason)s."

class InstancePowerOnFailure(Invalid):
    msg_fmt = "Failed to power on instance: %(reason)s."

class InstancePowerOffFailure(Invalid):
    msg_fmt = "Failed to power off instance: %(reason)s."

class InstanceRebootFailure(Invalid):
    msg_fmt = "Failed to reboot instance: %(reason)s"

class InstanceTerminationFailure(Invalid):
    msg_fmt = "Failed to terminate instance: %(reason)s"

class InstanceDeployFailure(Invalid):
    msg_fmt = "Failed to deploy instance: %(reason)s"

class InstanceRecreateNotSupported(Invalid):
    msg_fmt = "Instance recreate is not implemented by this virt driver."

class InstancePasswordSetFailed(NovaException):
    msg_fmt = "Failed to set admin password on %(instance)s because %(reason)s"
    safe = True

class InstanceUserDataTooLarge(NovaException):
    msg_fmt = "User data too large. User data must be no larger than %(maxsize)s bytes once base64 encoded."

class InstanceUserDataMalformed(NovaException):
    msg_fmt = "User data needs to be valid base 64."

class InstanceFaultRollback(NovaException):
    """A driver failed and has undone what it did; the manager restores the state from before the operation."""

    def __init__(self, inner_exception: BaseException | None = None, **kwargs: Any) -> None:
        self.inner_exception = inner_exception
        super().__init__(f"Instance rollback performed due to: {inner_exception}", **kwargs)

class UnexpectedTaskStateError(NovaException):
    msg_fmt = "Unexpected task state: expecting %(expected)s but the actual state is %(actual)s"

class UnexpectedDeletingTaskStateError(UnexpectedTaskStateError):
    pass

class UnexpectedVMStateError(NovaException):
    msg_fmt = "Unexpected VM state: expecting %(expected)s but the actual state is %(actual)s"

class InstanceActionNotFound(NovaException):
    msg_fmt = "Action for request_id %(request_id)s on instance %(instance_uuid)s not found"

class InstanceActionEventNotFound(NovaException):
    msg_fmt = "Event %(event)s not found for action id %(action_id)s"

class InvalidMetadata(Invalid):
    msg_fmt = "Invalid metadata: %(reason)s"

class InvalidMetadataSize(Invalid):
    msg_fmt = "Invalid metadata size: %(reason)s"

class BuildAbortException(NovaException):
    msg_fmt = "Build of instance %(instance_uuid)s aborted: %(reason)s"

class RescheduledException(NovaException):
    msg_fmt = "Build of instance %(instance_uuid)s was re-scheduled: %(reason)s"


# --- Flavors, images ---------------------------------------------------------------------------------------------

class InstanceTypeNotFound(NotFound):
    msg_fmt = "Instance type %(instance_type_id)s could not be found."

class InstanceTypeNotFoundByName(InstanceTypeNotFound):
    msg_fmt = "Instance type with name %(instance_type_name)s could not be found."

class FlavorNotFound(NotFound):
    msg_fmt = "Flavor %(flavor_id)s could not be found."

class FlavorExists(Duplicate):
    msg_fmt = "Flavor with name %(name)s already exists."

class FlavorIdExists(Duplicate):
    msg_fmt = "Flavor with ID %(flavor_id)s already exists."

class FlavorExtraSpecsNotFound(NotFound):
    msg_fmt = "Flavor %(flavor_id)s has no extra specs with key %(extra_specs_key)s."

class InstanceTypeMemoryTooSmall(NovaException):
    msg_fmt = "Instance type's memory is too small for requested image."

class InstanceTypeDiskTooSmall(NovaException):
    msg_fmt = "Instance type's disk is too small for requested image."

class FlavorDiskSmallerThanImage(InstanceTypeDiskTooSmall):
    msg_fmt = ("Flavor's disk is too small for requested image. Flavor disk is %(flavor_size)s bytes, "
               "image is %(image_size)s bytes.")

class ImageTooLarge(NovaException):
    msg_fmt = "Image is larger than instance type allows"

class CannotResizeToSameFlavor(NovaException):
    msg_fmt = "When resizing, instances must change flavor!"

class CannotResizeDisk(NovaException):
    msg_fmt = "Server disk was unable to be resized because: %(reason)s"

class ImageNotFound(NotFound):
    msg_fmt = "Image %(image_id)s could not be found."

class ImageNotActive(NovaException):
    msg_fmt = "Image %(image_id)s is not active."

class InvalidImageRef(Invalid):
    msg_fmt = "Invalid image href %(image_href)s."

class ImageUnacceptable(Invalid):
    msg_fmt = "Image %(image_id)s is unacceptable: %(reason)s"

class InvalidDiskFormat(Invalid):
    msg_fmt = "Disk format %(disk_format)s is not acceptable"

class ImageRotationNotAllowed(NovaException):
    msg_fmt = "Rotation is not allowed for snapshots"

class RotationRequiredForBackup(NovaException):
    msg_fmt = "Rotation param is required for backup image_type"

class CouldNotFetchImage(NovaException):
    msg_fmt = "Could not fetch image %(image)s"

class CouldNotUploadImage(NovaException):
    msg_fmt = "Could not upload image %(image)s"

class GlanceConnectionFailed(NovaException):
    msg_fmt = "Connection to the image service failed: %(reason)s"


# --- Services, hosts, scheduling, migration ----------------------------------------------------------------------

class ServiceUnavailable(Invalid):
    msg_fmt = "Service is unavailable at this time."

class ComputeResourcesUnavailable(ServiceUnavailable):
    msg_fmt = "Insufficient compute resources."

    def __init__(self, message: str | None = None, **kwargs: Any) -> None:
        if message is None and kwargs.get("reason"):
            message = f"Insufficient compute resources: {kwargs['reason']}."
        super().__init__(message, **kwargs)

class ComputeServiceUnavailable(ServiceUnavailable):
    msg_fmt = "Compute service of %(host)s is unavailable at this time."

class ServiceNotFound(NotFound):
    msg_fmt = "Service %(service_id)s could not be found."

class ServiceBinaryExists(NovaException):
    msg_fmt = "Service with host %(host)s binary %(binary)s exists."

class HostNotFound(NotFound):
    msg_fmt = "Host %(host)s could not be found."

class ComputeHostNotFound(HostNotFound):
    msg_fmt = "Compute host %(host)s could not be found."

class HostBinaryNotFound(NotFound):
    msg_fmt = "Could not find binary %(binary)s on host %(host)s."

class NoValidHost(NovaException):
    msg_fmt = "No valid host was found. %(reason)s"

class MaxRetriesExceeded(NoValidHost):
    msg_fmt = "Exceeded maximum number of retries. %(reason)s"

class SchedulerHostFilterNotFound(NotFound):
    msg_fmt = "Scheduler Host Filter %(filter_name)s could not be found."

class InsufficientFreeMemory(NovaException):
    msg_fmt = "Insufficient free memory on compute node to start %(uuid)s."

class MigrationError(NovaException):
    msg_fmt = "Migration error: %(reason)s"

class MigrationPreCheckError(MigrationError):
    msg_fmt = "Migration pre-check error: %(reason)s"

class MigrationNotFound(NotFound):
    msg_fmt = "Migration %(migration_id)s could not be found."

class MigrationNotFoundByStatus(MigrationNotFound):
    msg_fmt = "Migration not found for instance %(instance_id)s with status %(status)s."

class ResizeError(NovaException):
    msg_fmt = "Resize error: %(reason)s"

class UnableToMigrateToSelf(Invalid):
    msg_fmt = "Unable to migrate instance (%(instance_id)s) to current host (%(host)s)."

class InvalidHypervisorType(Invalid):
    msg_fmt = "The supplied hypervisor type is invalid."

class DestinationHypervisorTooOld(Invalid):
    msg_fmt = "The instance requires a newer hypervisor version than has been provided."

class InvalidSharedStorage(NovaException):
    msg_fmt = "%(path)s is not on shared storage: %(reason)s"

class InvalidLocalStorage(NovaException):
    msg_fmt = "%(path)s is not on local storage: %(reason)s"

class InvalidCPUInfo(Invalid):
    msg_fmt = "Unacceptable CPU info: %(reason)s"

class AggregateError(NovaException):
    msg_fmt = "Aggregate %(aggregate_id)s: action '%(action)s' caused an error: %(reason)s."

class InvalidAggregateAction(Invalid):
    msg_fmt = "Cannot perform action '%(action)s' on aggregate %(aggregate_id)s. Reason: %(reason)s."

class AggregateNotFound(NotFound):
    msg_fmt = "Aggregate %(aggregate_id)s could not be found."

class AggregateHostNotFound(NotFound):
    msg_fmt = "Aggregate %(aggregate_id)s has no host %(host)s."

class AggregateMetadataNotFound(NotFound):
    msg_fmt = "Aggregate %(aggregate_id)s has no metadata with key %(metadata_key)s."

class AggregateHostExists(Duplicate):
    msg_fmt = "Aggregate %(aggregate_id)s already has host %(host)s."

class AggregateNameExists(Duplicate):
    msg_fmt = "Aggregate %(aggregate_name)s already exists."


# --- Volumes, block devices, storage -------------------------------------------------------------------------------

class VolumeNotFound(NotFound):
    msg_fmt = "Volume %(volume_id)s could not be found."

class SnapshotNotFound(NotFound):
    msg_fmt = "Snapshot %(snapshot_id)s could not be found."

class VolumeUnattached(Invalid):
    msg_fmt = "Volume %(volume_id)s is not attached to anything"

class InvalidVolume(Invalid):
    msg_fmt = "Invalid volume: %(reason)s"

class VolumeDriverNotFound(NotFound):
    msg_fmt = "Could not find a handler for %(driver_type)s volume."

class DiskNotFound(NotFound):
    msg_fmt = "No disk at %(location)s"

class InvalidBDM(Invalid):
    msg_fmt = "Block Device Mapping is Invalid."

class InvalidBDMVolume(InvalidBDM):
    msg_fmt = "Block Device Mapping is Invalid: failed to get volume %(id)s."

class InvalidBDMSnapshot(InvalidBDM):
    msg_fmt = "Block Device Mapping is Invalid: failed to get snapshot %(id)s."

class BlockDeviceMappingNotFound(NotFound):
    msg_fmt = "Block device mapping %(bdm)s could not be found."

class InvalidDevicePath(Invalid):
    msg_fmt = "The supplied device path (%(path)s) is invalid."

class DevicePathInUse(Invalid):
    msg_fmt = "The supplied device path (%(path)s) is in use."
    code = 409

class StorageError(NovaException):
    msg_fmt = "A storage operation failed."

class StorageRepositoryNotFound(NotFound):
    msg_fmt = "Cannot find SR to read/write VDI."


# --- Network, security groups, consoles, keys ---------------------------------------------------------------------

class NetworkNotFound(NotFound):
    msg_fmt = "Network %(network_id)s could not be found."

class NetworkInUse(NovaException):
    msg_fmt = "Network %(network_id)s is still in use."

class NoMoreNetworks(NovaException):
    msg_fmt = "No more available networks."

class NoMoreFixedIps(NovaException):
    msg_fmt = "No fixed IP addresses available for network: %(net)s"

class PortNotFound(NotFound):
    msg_fmt = "Port id %(port_id)s could not be found."

class PortInUse(NovaException):
    msg_fmt = "Port %(port_id)s is still in use."

class FixedIpNotFound(NotFound):
    msg_fmt = "No fixed IP associated with id %(id)s."

class FixedIpNotFoundForAddress(FixedIpNotFound):
    msg_fmt = "Fixed ip not found for address %(address)s."

class FixedIpNotFoundForInstance(FixedIpNotFound):
    msg_fmt = "Instance %(instance_uuid)s has zero fixed ips."

class FixedIpNotFoundForSpecificInstance(FixedIpNotFound):
    msg_fmt = "Instance %(instance_uuid)s doesn't have fixed ip '%(ip)s'."

class FixedIpAlreadyInUse(NovaException):
    msg_fmt = "Fixed IP address %(address)s is already in use on instance %(instance_uuid)s."

class FixedIpInvalid(Invalid):
    msg_fmt = "Fixed IP address %(address)s is invalid."

class VirtualInterfaceCreateException(NovaException):
    msg_fmt = "Virtual Interface creation failed"

class VirtualInterfaceMacAddressException(NovaException):
    msg_fmt = "Creation of virtual interface with unique mac address failed"

class VirtualInterfacePlugException(NovaException):
    msg_fmt = "Virtual interface plugin failed"

class InterfaceAttachFailed(Invalid):
    msg_fmt = "Failed to attach network adapter device to %(instance)s"

class InterfaceDetachFailed(Invalid):
    msg_fmt = "Failed to detach network adapter device from %(instance)s"

class ConsoleTypeInvalid(Invalid):
    msg_fmt = "Invalid console type %(console_type)s"

class ConsoleNotAvailable(NotFound):
    msg_fmt = "Guest does not have a console available."

class ConsolePoolNotFound(NotFound):
    msg_fmt = "Console pool %(pool_id)s could not be found."

class InvalidToken(NotFound):
    msg_fmt = "The console token is invalid or has expired."
    own = True

class KeyPairExists(Duplicate):
    msg_fmt = "Key pair '%(key_name)s' already exists."

class KeypairNotFound(NotFound):
    msg_fmt = "Keypair %(name)s not found for user %(user_id)s"

class InvalidKeypair(Invalid):
    msg_fmt = "Keypair data is invalid: %(explanation)s"

class SecurityGroupNotFound(NotFound):
    msg_fmt = "Security group %(security_group_id)s not found."

class SecurityGroupNotFoundForProject(SecurityGroupNotFound):
    msg_fmt = "Security group %(security_group_id)s not found for project %(project_id)s."

class SecurityGroupExists(Duplicate):
    msg_fmt = "Security group %(security_group_name)s already exists for project %(project_id)s."


# --- Quotas ----------------------------------------------------------------------------------------------------------

class OverQuota(NovaException):
    msg_fmt = "Quota exceeded for resources: %(overs)s"

class TooManyInstances(QuotaError):
    msg_fmt = ("Quota exceeded for %(overs)s: Requested %(req)s, but already used %(used)s of %(allowed)s "
               "%(resource)s")

class MetadataLimitExceeded(QuotaError):
    msg_fmt = "Maximum number of metadata items exceeds %(allowed)s"

class OnsetFileLimitExceeded(QuotaError):
    msg_fmt = "Personality file limit exceeded"

class OnsetFilePathLimitExceeded(QuotaError):
    msg_fmt = "Personality file path too long"

class OnsetFileContentLimitExceeded(QuotaError):
    msg_fmt = "Personality file content too long"

class KeypairLimitExceeded(QuotaError):
    msg_fmt = "Maximum number of key pairs exceeded"

class SecurityGroupLimitExceeded(QuotaError):
    msg_fmt = "Maximum number of security groups or rules exceeded"

class InvalidQuotaValue(Invalid):
    msg_fmt = "Change would make usage less than 0 for the following resources: %(unders)s"

class QuotaNotFound(NotFound):
    msg_fmt = "Quota could not be found"

class ProjectQuotaNotFound(QuotaNotFound):
    msg_fmt = "Quota for project %(project_id)s could not be found."

class QuotaResourceUnknown(QuotaNotFound):
    msg_fmt = "Unknown quota resources %(unknown)s."

class QuotaExists(Duplicate):
    msg_fmt = "Quota exists for project %(project_id)s, resource %(resource)s"

class QuotaUsageNotFound(QuotaNotFound):
    msg_fmt = "Quota usage for project %(project_id)s could not be found."

class ReservationNotFound(QuotaNotFound):
    msg_fmt = "Quota reservation %(uuid)s could not be found."

class InvalidReservationExpiration(Invalid):
    msg_fmt = "Invalid reservation expiration %(expire)s."


# --- XenServer -------------------------------------------------------------------------------------------------------

class AgentError(NovaException):
    msg_fmt = "Error during following call to agent: %(method)s"

class AgentTimeout(AgentError):
    msg_fmt = "Unable to contact guest agent. The following call timed out: %(method)s"

class AgentNotImplemented(AgentError):
    msg_fmt = "Agent does not support the call: %(method)s"

class CouldNotFetchMetrics(NovaException):
    msg_fmt = "Could not fetch bandwidth/cpu/disk metrics for this host."

class NotSupportedWithOption(Invalid):
    msg_fmt = "%(operation)s is not supported in conjunction with the current %(option)s setting."

class PluginError(NovaException):
    msg_fmt = "A dom0 plugin reported a failure: %(reason)s"
    own = True

class AgentBuildNotFound(NotFound):
    msg_fmt = "No agent build associated with id %(id)s."

class AgentBuildExists(Duplicate):
    msg_fmt = "Agent-build with hypervisor %(hypervisor)s os %(os)s architecture %(architecture)s exists."
