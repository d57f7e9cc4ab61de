import pytest

from nova_lite import context, exception

WIRE_KEYS = [
    "user", "tenant", "domain", "user_domain", "project_domain", "is_admin", "read_only", "show_deleted", "auth_token",
    "request_id", "resource_uuid", "user_identity", "user_id", "project_id", "read_deleted", "roles",
    "remote_address", "timestamp", "quota_class", "user_name", "service_catalog", "project_name",
    "instance_lock_checked",
]


def test_between_cells_a_context_has_exactly_the_keys_of_the_reference():
    ctxt = context.RequestContext("u", "p", deadline=1.0, operation_id="op")

    assert list(ctxt.to_dict()) == WIRE_KEYS
    assert set(ctxt.to_local_dict()) - set(WIRE_KEYS) == {"deadline", "operation_id"}


def test_a_context_is_rebuilt_from_what_it_was_written_as():
    ctxt = context.RequestContext("u", "p", roles=["Admin"], remote_address="192.0.2.1", quota_class="q", deadline=5.0)

    again = context.RequestContext.from_dict(ctxt.to_local_dict())

    assert again.to_local_dict() == ctxt.to_local_dict()
    assert again.is_admin


def test_a_sparse_context_and_unknown_keys_are_accepted():
    ctxt = context.RequestContext.from_dict(
        {"is_admin": True, "system_scope": None, "global_request_id": "g", "is_admin_project": True,
         "user": "u", "tenant": "p", "user_identity": "- - - - -", "service_catalog": [
             {"type": "volume"}, {"type": "compute"}]})

    assert (ctxt.user_id, ctxt.project_id, ctxt.is_admin) == ("u", "p", True)
    assert ctxt.service_catalog == [{"type": "volume"}]


def test_a_context_outside_a_cell_says_so():
    ctxt = context.RequestContext("u")

    with pytest.raises(exception.ContextNotBound):
        _ = ctxt.services

    services = context.Services(host="h")
    assert ctxt.bind(services).services is services


def test_elevation_gives_rights_to_a_copy_in_the_same_cell():
    ctxt = context.RequestContext("u", roles=["member"]).bind(context.Services(host="h"))

    admin = ctxt.elevated(read_deleted="yes")

    assert admin.is_admin and admin.roles == ["member", "admin"] and admin.read_deleted == "yes"
    assert admin.services is ctxt.services
    assert not ctxt.is_admin and ctxt.roles == ["member"] and ctxt.read_deleted == "no"


def test_read_deleted_has_three_values():
    with pytest.raises(ValueError, match="read_deleted"):
        context.RequestContext(read_deleted="maybe")


def test_services_show_no_secrets():
    assert "secret" not in repr(context.Services(host="h", conf={"transport_url": "rabbit://u:secret@h"}))
