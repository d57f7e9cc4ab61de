"""What comes before a running VM moves to another host of its pool: the hosts themselves are asked whether it can."""

from nova_lite import exception


def management_network(session, host_ref: str) -> str:
    """Return the network that guests of other hosts come by. Raises MigrationPreCheckError without an address on it."""
    pifs = session.records_where("PIF", management="true", host=host_ref)
    if len(pifs) != 1:
        raise exception.MigrationPreCheckError(reason=f"a host has {len(pifs)} management interfaces, expected one")
    pif = next(iter(pifs.values()))
    if not pif["IP"] and not pif.get("IPv6"):
        raise exception.MigrationPreCheckError(reason="the management interface of a host has no address")
    return pif["network"]


class PoolMoves:
    """Checks for moves to hosts of the pool; the way to each host is asked for once."""

    def __init__(self, session):
        self._session = session
        self._ways: dict[str, dict[str, str]] = {}

    def check(self, vm_ref: str, host_ref: str) -> None:
        """Raise XenAPI.Failure with the reason why the VM cannot move there, MigrationPreCheckError without a way.

        The arguments of the failure may repeat the way, which holds a session: name its code alone.
        """
        way = self._ways.get(host_ref)
        if way is None:
            network_ref = management_network(self._session, host_ref)
            way = self._ways[host_ref] = self._session.call_xenapi("host.migrate_receive", host_ref, network_ref, {})
        self._session.call_long("VM.assert_can_migrate", vm_ref, way, True, {}, {}, {})
