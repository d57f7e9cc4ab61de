"""Who may do what: the rules here, or those of an operator's policy file on top of them (oslo.policy).

Without a policy file the rules are decided here: the library's parser loads an HTTP client for rules that nobody
has, which costs each daemon 10 MB.
"""

from collections.abc import Callable, Mapping
from typing import Any

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext

ADMIN = "is_admin:True"
ADMIN_OR_OWNER = "is_admin:True or project_id:%(project_id)s"
DEFAULT = "default"

# Actions that are not named follow the rule "default". A rule is one of the texts in _DECISIONS.
DEFAULTS: Mapping[str, str] = {
    DEFAULT: ADMIN_OR_OWNER,
    "admin_api": ADMIN,
    "admin_or_owner": ADMIN_OR_OWNER,
    "cells_scheduler_filter:DifferentCellFilter": ADMIN,
    "cells_scheduler_filter:TargetCellFilter": ADMIN,
    "compute:create:forced_host": ADMIN,
    "compute:create:image_address": ADMIN,
    "compute:unlock_override": ADMIN,
    "os_compute_api:os-cells": ADMIN,
    "os_compute_api:os-cells:create": ADMIN,
    "os_compute_api:os-cells:delete": ADMIN,
    "os_compute_api:os-cells:sync_instances": ADMIN,
    "os_compute_api:os-cells:update": ADMIN,
}

_Credentials = Mapping[str, Any]
_DECISIONS: Mapping[str, Callable[[_Credentials, Mapping[str, Any]], bool]] = {
    ADMIN: lambda credentials, target: credentials["is_admin"],
    ADMIN_OR_OWNER: lambda credentials, target: credentials["is_admin"] or (
        "project_id" in target and str(target["project_id"]) == str(credentials["project_id"])),
}


class Policy:
    """The rules of one configuration; whether there is a file is found out when a rule is first asked for."""

    def __init__(self, conf: cfg.ConfigOpts):
        self._conf = conf
        self._decide: Callable[[str, Mapping[str, Any], _Credentials], bool] | None = None

    @classmethod
    def of(cls, conf: cfg.ConfigOpts) -> "Policy":
        """The rules of a configuration."""
        return cls(conf)

    def authorize(self, ctxt: RequestContext, action: str, target: Mapping[str, Any] | None = None,
                  do_raise: bool = True) -> bool:
        """Whether the context's user may do ``action`` to ``target`` (default: what is his own).

        An action without a rule follows the rule ``default``. Raises PolicyNotAuthorized unless ``do_raise`` is False.
        """
        if self._decide is None:
            self._decide = _decide_by_library(self._conf) if _has_file(self._conf) else _decide_here
        target = dict(target) if target is not None else {"project_id": ctxt.project_id, "user_id": ctxt.user_id}
        credentials = {"user_id": ctxt.user_id, "project_id": ctxt.project_id, "is_admin": bool(ctxt.is_admin),
                       "roles": ctxt.roles}
        if self._decide(action, target, credentials):
            return True
        if do_raise:
            raise exception.PolicyNotAuthorized(action=action)
        return False


def _has_file(conf: cfg.ConfigOpts) -> bool:
    names = [conf.oslo_policy.policy_file, *conf.oslo_policy.policy_dirs]
    return any(name and conf.find_file(name) for name in names)


def _decide_here(action: str, target: Mapping[str, Any], credentials: _Credentials) -> bool:
    return _DECISIONS[DEFAULTS.get(action, DEFAULTS[DEFAULT])](credentials, target)


def _decide_by_library(conf: cfg.ConfigOpts) -> Callable[[str, Mapping[str, Any], _Credentials], bool]:
    from oslo_policy import policy as library

    enforcer = library.Enforcer(conf)
    enforcer.suppress_default_change_warnings = True
    enforcer.register_defaults([library.RuleDefault(name, rule) for name, rule in DEFAULTS.items()])
    enforcer.load_rules()

    def decide(action: str, target: Mapping[str, Any], credentials: _Credentials) -> bool:
        known = action in enforcer.registered_rules or action in enforcer.rules
        return bool(enforcer.enforce(action if known else DEFAULT, dict(target), dict(credentials)))

    return decide
