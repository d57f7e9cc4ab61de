"""What a compute manager of an older 2.x understands: how a message of today looks to it (compute specification §10.2).

While `[upgrade_levels] compute` caps what is sent, a message goes out in the newest form below the cap: arguments that
came later are left out, those that replaced others are sent as the ones they replaced. What an older manager would
carry out differently, or does not have, is refused.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from nova_lite import exception
from nova_lite.rpc import is_compatible

Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Change:
    """A version that changed a method, and the arguments as a manager before it takes them."""

    version: str
    before: Callable[[Arguments], Arguments]


def _without(*names: str) -> Callable[[Arguments], Arguments]:
    return lambda arguments: {name: value for name, value in arguments.items() if name not in names}


def _as_id(name: str) -> Callable[[Arguments], Arguments]:
    """Before the whole record travelled, its id did."""

    def before(arguments: Arguments) -> Arguments:
        record = arguments[name]
        return {**_without(name)(arguments), f"{name}_id": record["id"] if record else None}

    return before


def _with_network_info(arguments: Arguments) -> Arguments:
    return {**arguments, "network_info": None}  # asked anew by who gets it


def _not_elsewhere(arguments: Arguments) -> Arguments:
    if arguments.get("recreate"):  # it would be rebuilt where it was
        raise exception.RpcVersionCapError(method="evacuation", version="2.22", version_cap="of older managers")
    return _without("recreate", "on_shared_storage")(arguments)


# Newest first.
CHANGES: dict[str, tuple[Change, ...]] = {
    "add_aggregate_host": (Change("2.14", _as_id("aggregate")), Change("2.2", _without("slave_info"))),
    "remove_aggregate_host": (Change("2.15", _as_id("aggregate")), Change("2.2", _without("slave_info"))),
    "confirm_resize": (Change("2.7", _as_id("migration")),),
    "finish_resize": (Change("2.8", _as_id("migration")),),
    "finish_revert_resize": (Change("2.13", _as_id("migration")),),
    "revert_resize": (Change("2.12", _as_id("migration")),),
    "resize_instance": (Change("2.16", _without("instance_type")), Change("2.6", _as_id("migration"))),
    "pre_live_migration": (Change("2.21", _without("migrate_data")),),
    "prep_resize": (Change("2.20", _without("node")), Change("2.10", _without("request_spec", "filter_properties"))),
    "reboot_instance": (Change("2.23", _with_network_info),
                        Change("2.5", _without("block_device_info", "network_info"))),
    "rebuild_instance": (Change("2.22", _not_elsewhere), Change("2.18", _without("bdms")),
                         Change("2.1", _without("orig_sys_metadata"))),
    "reserve_block_device_name": (Change("2.3", _without("volume_id")),),
    "run_instance": (Change("2.19", _without("node")),),
    "soft_delete_instance": (Change("2.27", _without("reservations")),),
    "terminate_instance": (Change("2.27", _without("reservations")), Change("2.4", _without("bdms"))),
}

# Methods that older managers do not have.
SINCE = {
    "publish_service_capabilities": "2.9", "soft_delete_instance": "2.11", "restore_instance": "2.11",
    "get_backdoor_port": "2.17", "get_spice_console": "2.24", "attach_interface": "2.25", "detach_interface": "2.25",
    "validate_console_port": "2.26",
}


def exists(method: str, cap: str | None) -> bool:
    """Whether managers of the version `cap` have the method."""
    return cap is None or is_compatible(cap, SINCE.get(method, "2.0"))


def fitted(method: str, version: str, arguments: Arguments, cap: str | None) -> tuple[str, Arguments]:
    """Return (version, arguments) of a message of today's form in its newest form not above `cap` (None: no cap).

    Raises RpcVersionCapError for a method that came later, and for what cannot be said in the older form.
    """
    if not exists(method, cap):
        raise exception.RpcVersionCapError(method=method, version=SINCE[method], version_cap=cap)
    if cap is None or is_compatible(cap, version):
        return version, arguments
    for change in CHANGES.get(method, ()):
        if is_compatible(cap, change.version):
            return change.version, arguments
        arguments = change.before(arguments)
    return SINCE.get(method, "2.0"), arguments
