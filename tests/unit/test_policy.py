import pytest

from nova_lite import conf as configuration
from nova_lite import context, exception, policy
from tests.fixtures.services import load_conf

OWNER = context.RequestContext("u", "p")
STRANGER = context.RequestContext("v", "q")
ADMIN = context.RequestContext(is_admin=True)
TARGET = {"project_id": "p", "user_id": "u"}


def rules_here():
    return policy.Policy.of(load_conf({}))


def test_an_administrators_rule_holds_for_administrators_alone():
    checked = rules_here()

    assert checked.authorize(ADMIN, "os_compute_api:os-cells:create")
    assert not checked.authorize(OWNER, "os_compute_api:os-cells:create", do_raise=False)


def test_an_action_without_a_rule_is_the_owners():
    checked = rules_here()

    assert checked.authorize(OWNER, "compute:pause", TARGET)
    assert checked.authorize(ADMIN, "compute:pause", TARGET)
    with pytest.raises(exception.PolicyNotAuthorized):
        checked.authorize(STRANGER, "compute:pause", TARGET)


def test_an_operators_file_wins(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text('"cells_scheduler_filter:TargetCellFilter": "role:router"\n"compute:pause": "!"\n')
    checked = policy.Policy(configuration.load(
        prog="test", config_files=[], config_dirs=[], overrides={("oslo_policy", "policy_file"): str(path)}))

    router = context.RequestContext("u", "p", roles=["router"])
    assert checked.authorize(router, "cells_scheduler_filter:TargetCellFilter", do_raise=False)
    assert not checked.authorize(ADMIN, "cells_scheduler_filter:TargetCellFilter", do_raise=False)
    assert not checked.authorize(ADMIN, "compute:pause", TARGET, do_raise=False)


@pytest.mark.parametrize("action", ["compute:pause", "os_compute_api:os-cells:create", "admin_or_owner"])
@pytest.mark.parametrize("ctxt", [OWNER, STRANGER, ADMIN, context.RequestContext()],
                         ids=["owner", "stranger", "administrator", "nobody"])
@pytest.mark.parametrize("target", [TARGET, {}, {"project_id": None}, None])
def test_the_rules_mean_the_same_with_and_without_a_file(tmp_path, action, ctxt, target):
    path = tmp_path / "policy.yaml"
    path.write_text('"compute:rarely": "!"\n')
    with_file = policy.Policy(configuration.load(
        prog="test", config_files=[], config_dirs=[], overrides={("oslo_policy", "policy_file"): str(path)}))

    decisions = {rules.authorize(ctxt, action, target, do_raise=False) for rules in (rules_here(), with_file)}

    assert len(decisions) == 1
