"""Who may do what: rules of oslo.policy, with defaults here and an operator's file on top."""

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext

ADMIN_OR_OWNER = "is_admin:True or project_id:%(project_id)s"
DEFAULTS: Mapping[str, str] = {
    "admin_api": "is_admin:True",
    "admin_or_owner": ADMIN_OR_OWNER,
    "default": "rule:admin_or_owner",
    "compute:create:forced_host": "is_admin:True",
    "compute:unlock_override": "is_admin:True",
    "cells_scheduler_filter:TargetCellFilter": "is_admin:True",
    "cells_scheduler_filter:DifferentCellFilter": "is_admin:True",
    "os_compute_api:os-cells": "rule:admin_api",
    "os_compute_api:os-cells:create": "rule:admin_api",
    "os_compute_api:os-cells:delete": "rule:admin_api",
    "os_compute_api:os-cells:update": "rule:admin_api",
    "os_compute_api:os-cells:sync_instances": "rule:admin_api",
}


class Policy:
    """The rules of one configuration. The library is loaded, and the file read, when a rule is first asked for."""

    def __init__(self, conf: cfg.ConfigOpts):
        self._conf = conf
        self._enforcer: Any = None

    @classmethod
    def of(cls, conf: cfg.ConfigOpts) -> "Policy":
        """The rules of a configuration that keeps none yet."""
        return cls(conf)

    def authorize(self, ctxt: RequestContext, action: str, target: Mapping[str, Any] | None = None,
                  do_raise: bool = True) -> bool:
        """Whether the context's user may do ``action`` to ``target`` (default: what is his own).

        An action without a rule follows the rule ``default``. Raises PolicyNotAuthorized unless ``do_raise`` is False.
        """
        target = dict(target) if target is not None else {"project_id": ctxt.project_id, "user_id": ctxt.user_id}
        if self._enforce(action, target, ctxt):
            return True
        if do_raise:
            raise exception.PolicyNotAuthorized(action=action)
        return False

    def _enforce(self, action: str, target: dict[str, Any], ctxt: RequestContext) -> bool:
        enforcer = self._loaded()
        credentials = {"user_id": ctxt.user_id, "project_id": ctxt.project_id, "is_admin": bool(ctxt.is_admin),
                       "roles": ctxt.roles}
        known = action in enforcer.registered_rules or action in enforcer.rules
        return bool(enforcer.enforce(action if known else "default", target, credentials))

    def _loaded(self) -> Any:
        if self._enforcer is None:
            from oslo_policy import policy as library

            enforcer = library.Enforcer(self._conf)
            enforcer.suppress_default_change_warnings = True
            enforcer.register_defaults([library.RuleDefault(name, rule) for name, rule in DEFAULTS.items()])
            enforcer.load_rules()
            self._enforcer = enforcer
        return self._enforcer
