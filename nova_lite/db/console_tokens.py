"""Tokens that open consoles; only their hashes are kept."""

from collections.abc import Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation

TOKENS = models.ConsoleAuthToken.__table__


class ConsoleAuthTokens(Part):
    """Rows of console_auth_tokens; ``expires`` is in seconds since the epoch."""

    @operation
    def console_auth_token_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a token and return it. Raises Duplicate."""
        with self.store.writer(context) as session:
            try:
                return session.insert_row(models.ConsoleAuthToken, values)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.Duplicate from exc

    @operation
    def console_auth_token_get_valid(self, context: Any, token_hash: str, now_s: int | None = None,
                                     instance_uuid: str | None = None) -> dict[str, Any] | None:
        """Return the token of a hash that has not expired, None without one."""
        now_s = int(self.store.clock.time()) if now_s is None else now_s
        criteria = [] if instance_uuid is None else [TOKENS.c.instance_uuid == instance_uuid]
        with self.store.reader(context) as session:
            return session.one(sqlalchemy.select(TOKENS).where(
                TOKENS.c.token_hash == token_hash, TOKENS.c.expires > now_s, *criteria))

    @operation
    def console_auth_token_destroy_all_by_instance(self, context: Any, instance_uuid: str) -> int:
        """Remove the tokens of an instance; returns how many there were."""
        with self.store.writer(context) as session:
            return session.execute(sqlalchemy.delete(TOKENS).where(TOKENS.c.instance_uuid == instance_uuid)).rowcount

    @operation
    def console_auth_token_destroy_expired(self, context: Any, now_s: int | None = None) -> int:
        """Remove the tokens that have expired; returns how many there were."""
        now_s = int(self.store.clock.time()) if now_s is None else now_s
        with self.store.writer(context) as session:
            return session.execute(sqlalchemy.delete(TOKENS).where(TOKENS.c.expires <= now_s)).rowcount
