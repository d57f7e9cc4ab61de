"""What nova-manage's commands have in common: the database of the configured cell."""

from typing import Any


class OnDatabase:
    """Gives a command its cell's database and an administrator's context bound to it."""

    app: Any
    _database: Any = None
    _context: Any = None

    @property
    def conf(self) -> Any:
        return self.app.connection.conf

    @property
    def db(self) -> Any:
        if self._database is None:
            from nova_lite.db import api

            self._database = api.Database(self.conf)
        return self._database

    @property
    def context(self) -> Any:
        if self._context is None:
            from nova_lite.context import Services, get_admin_context

            self._context = get_admin_context().bind(Services(conf=self.conf, host=self.conf.host, db=self.db))
        return self._context
