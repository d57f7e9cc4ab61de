"""Console tokens, in the database of the top cell (seams §10)."""

import hashlib
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.context import RequestContext, Services

LOG = logging.getLogger(__name__)

_FORGET_INTERVAL_S = 600


class ConsoleTokens:
    """Remembers which token opens which console, for `console_token_ttl` seconds.

    Of a token only its hash is kept. Also the endpoint of the `consoleauth` RPC API 2.1, for proxies elsewhere.
    """

    RPC_API_VERSION = "2.1"
    remote_methods = frozenset({"authorize_console", "check_token", "delete_tokens_for_instance", "get_backdoor_port"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def authorize_console(self, context: RequestContext, token: str, console_type: str, host: str, port: int | str,
                          internal_access_path: str | None, instance_uuid: str | None = None,
                          access_url: str | None = None) -> None:
        """Let the token open a console: `port` on `host`, as its proxy reaches it."""
        expires = self._now_s() + self._services.conf.console_token_ttl
        self._services.db.console_auth_token_destroy_expired(context.elevated(), int(self._now_s()))
        self._services.db.console_auth_token_create(context.elevated(), {
            "token_hash": hash_of(token), "console_type": console_type, "host": host, "port": int(port),
            "internal_access_path": internal_access_path, "instance_uuid": instance_uuid,
            "access_url": _without_token(access_url), "expires": int(expires)})

    def check_token(self, context: RequestContext, token: str) -> dict[str, Any] | None:
        """Return what the token opens, None for one that is unknown, has expired, or whose console is gone.

        `{token, instance_uuid, console_type, host, port, internal_access_path, access_url, expires}`. The host of the
        instance is asked whether the port still is that console.
        """
        row = self._services.db.console_auth_token_get_valid(context.elevated(), hash_of(token), int(self._now_s()))
        if row is None:
            LOG.info("A console token was refused: it is unknown or has expired")
            return None
        if not self._is_still_its_console(context, row):
            LOG.info("A console token of instance %s was refused: its console is gone", row["instance_uuid"])
            return None
        opened = {key: row[key] for key in ("instance_uuid", "console_type", "host", "port", "internal_access_path",
                                            "access_url", "expires")}
        return {"token": token, **opened}

    def _is_still_its_console(self, context: RequestContext, row: dict[str, Any]) -> bool:
        try:
            return bool(self._ask(context.elevated(), row["instance_uuid"], row["port"], row["console_type"]))
        except (exception.NotFound, exception.Invalid, exception.CellRoutingInconsistency) as error:
            LOG.debug("No console of instance %s: %s", row["instance_uuid"], error)
            return False

    def _ask(self, context: RequestContext, instance_uuid: str, port: int, console_type: str) -> Any:
        services = self._services
        if services.conf.cells.enable:
            client = services.rpc.client(services.conf.cells.topic, version="1.6")
            return client.call(context, "validate_console_port", version="1.6", instance_uuid=instance_uuid,
                               console_port=port, console_type=console_type)
        from nova_lite.objects import Instance

        instance = Instance.get_by_uuid(context, instance_uuid)
        if not instance.host:
            raise exception.InstanceNotReady(instance_id=instance_uuid)
        client = services.rpc.client(services.conf.compute_topic, version="2.0", server=instance.host)
        return client.call(context, "validate_console_port", version="2.26", instance=instance.to_legacy_dict(),
                           port=port, console_type=console_type)

    def delete_tokens_for_instance(self, context: RequestContext, instance_uuid: str) -> None:
        """Take every token of the instance back."""
        self._services.db.console_auth_token_destroy_all_by_instance(context.elevated(), instance_uuid)

    def periodic_tasks(self, context: RequestContext) -> float:
        """Forget the tokens that have expired; returns the seconds until that is due again."""
        self._services.db.console_auth_token_destroy_expired(context, int(self._now_s()))
        return _FORGET_INTERVAL_S

    def get_backdoor_port(self, context: RequestContext) -> None:
        """There is no debugging console."""

    def _now_s(self) -> float:
        return self._services.clock.time()


def hash_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _without_token(access_url: str | None) -> str | None:
    """The address without its query, where the token stands."""
    return access_url.partition("?")[0] if access_url else access_url
