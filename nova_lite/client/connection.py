"""A cell that commands work on."""

import functools
from typing import Any, Protocol

from oslo_config import cfg


class OnCell(Protocol):
    """What a command needs of its cell: the configuration, the API library and contexts bound to it."""

    conf: cfg.ConfigOpts

    @property
    def api(self) -> Any: ...

    @property
    def services(self) -> Any: ...

    def context(self) -> Any: ...

    def close(self) -> None: ...


class Connection:
    """The API library of one cell, built when it is first used, and an administrator's context in it."""

    def __init__(self, conf: cfg.ConfigOpts, *, user: str = "admin", project: str = "admin"):
        self.conf = conf
        self.user = user
        self.project = project

    @functools.cached_property
    def api(self) -> Any:
        """What ``service.build_api`` gives: compute_api, host_api, action_api, cells_api, services."""
        from nova_lite import service

        return service.build_api(self.conf)

    def context(self) -> Any:
        """Return a fresh request context, bound to the cell."""
        return self.api.context(user_id=self.user, project_id=self.project, is_admin=True, roles=["admin"])

    @property
    def services(self) -> Any:
        return self.api.services

    def close(self) -> None:
        """Close what was opened; nothing is opened when no command needed the cell."""
        if "api" in self.__dict__:
            self.api.close()
            del self.__dict__["api"]
