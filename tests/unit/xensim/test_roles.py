"""Directory users, subjects, roles, and what a session may do."""

import pytest
import XenAPI

from tests.unit.xensim.conftest import Client

DOMAIN = "corp.example"
PEOPLE = [
    {"name": "admin", "sid": "S-1", "password": "secret"},
    {"name": "eve", "sid": "S-2", "password": "evil", "groups": ["S-10"]},
    {"name": "operators", "sid": "S-10"},
]


def details(error):
    return error.value.details


def role(client, name):
    (ref,) = client.api.role.get_by_name_label(name)
    return ref


@pytest.fixture
def domain(xensim, client):
    """The pool, in a domain with a user eve who is in the group operators."""
    xensim.control.directory(DOMAIN, PEOPLE)
    pool = client.api.pool.get_all()[0]
    client.api.pool.enable_external_auth(pool, {"user": "admin", "pass": "secret"}, DOMAIN, "AD")
    return pool


def subject(client, name, *roles):
    """Make a subject with these roles and no others."""
    sid = client.api.auth.get_subject_identifier(name)
    ref = client.api.subject.create({"subject_identifier": sid, "other_config": {}})
    for each in client.api.subject.get_roles(ref):
        client.api.subject.remove_from_roles(ref, each)
    for each in roles:
        client.api.subject.add_to_roles(ref, role(client, each))
    return ref


@pytest.fixture
def eve(xensim, client, domain):
    """Return a function that logs eve in, with these roles given to her group."""

    def login(*roles):
        subject(client, "operators", *roles)
        session = XenAPI.Session(xensim.url)
        session.login_with_password(f"{DOMAIN}\\eve", "evil")
        return Client(session)

    return login


def test_a_user_may_do_what_a_groups_role_allows_and_nothing_else(client, eve):
    vm = client.vm()
    session = eve("vm-operator")

    session.api.VM.start(vm, False, False)
    with pytest.raises(XenAPI.Failure) as error:
        session.api.VM.destroy(vm)

    code, call, reason = details(error)
    assert (code, call) == ("RBAC_PERMISSION_DENIED", "VM.destroy")
    assert "[vm-admin, vm-power-admin, pool-operator, pool-admin]" in reason


def test_a_task_fails_for_want_of_a_role_and_not_the_call_that_starts_it(client, eve):
    session = eve("read-only")

    record = session.finished(session.api.Async.VM.start(client.vm(), False, False))

    assert record["error_info"][:2] == ["RBAC_PERMISSION_DENIED", "VM.start"]


def test_a_session_shows_whose_it_is(client, eve):
    session = eve("read-only")

    record = session.api.session.get_record(session.session._session)

    assert (record["auth_user_sid"], record["is_local_superuser"]) == ("S-2", False)
    assert record["subject"] == client.api.subject.get_all()[0]
    assert "vm.get_record" in record["rbac_permissions"]
    assert client.api.session.get_all_subject_identifiers() == ["S-2"]


def test_a_role_that_is_taken_away_is_gone_in_open_sessions(client, eve):
    session = eve("vm-operator")
    (group,) = client.api.subject.get_all()

    client.api.subject.remove_from_roles(group, role(client, "vm-operator"))

    with pytest.raises(XenAPI.Failure) as error:
        session.api.VM.pause(client.vm())
    assert details(error)[0] == "RBAC_PERMISSION_DENIED"


def test_a_user_without_a_subject_is_known_but_not_let_in(xensim, domain):
    with pytest.raises(XenAPI.Failure) as stranger:
        XenAPI.Session(xensim.url).login_with_password("eve", "evil")
    with pytest.raises(XenAPI.Failure) as wrong:
        XenAPI.Session(xensim.url).login_with_password("eve", "good")

    assert details(stranger)[:2] == ["SESSION_AUTHORIZATION_FAILED", "eve"]
    assert details(wrong)[:2] == ["SESSION_AUTHENTICATION_FAILED", "eve"]


def test_leaving_the_domain_ends_its_sessions(client, domain, eve):
    session = eve("pool-admin")

    client.api.pool.disable_external_auth(domain, {})

    with pytest.raises(XenAPI.Failure) as error:
        session.api.host.get_all()
    assert details(error)[0] == "SESSION_AUTHENTICATION_FAILED"  # of the stock client's attempt to log in again


@pytest.mark.parametrize(
    ("config", "service", "kind", "expected"),
    [
        ({"user": "admin", "pass": "wrong"}, DOMAIN, "AD", "POOL_AUTH_ENABLE_FAILED_WRONG_CREDENTIALS"),
        ({"user": "admin", "pass": "secret"}, "nowhere", "AD", "POOL_AUTH_ENABLE_FAILED_DOMAIN_LOOKUP_FAILED"),
        ({"user": "admin", "pass": "secret"}, DOMAIN, "NIS", "AUTH_UNKNOWN_TYPE"),
    ],
)
def test_a_domain_that_cannot_be_joined_is_not_joined(xensim, client, config, service, kind, expected):
    xensim.control.directory(DOMAIN, PEOPLE)
    pool = client.api.pool.get_all()[0]

    with pytest.raises(XenAPI.Failure) as error:
        client.api.pool.enable_external_auth(pool, config, service, kind)

    assert details(error)[0] == expected
    assert client.api.host.get_external_auth_type(client.host()) == ""


def test_subjects_and_roles_exist_once(client, domain):
    ref = subject(client, "eve", "vm-admin")

    def refusal(call, *arguments):
        with pytest.raises(XenAPI.Failure) as error:
            client.session.xenapi_request(call, arguments)
        return details(error)

    assert refusal("subject.create", {"subject_identifier": "S-2", "other_config": {}}) == ["SUBJECT_ALREADY_EXISTS"]
    assert refusal("subject.add_to_roles", ref, role(client, "vm-admin")) == ["ROLE_ALREADY_EXISTS"]
    assert refusal("subject.add_to_roles", ref, "OpaqueRef:x") == ["ROLE_NOT_FOUND"]
    assert refusal("auth.get_subject_identifier", "nobody") == ["SUBJECT_CANNOT_BE_RESOLVED"]


def test_roles_are_six_and_hold_permissions_that_are_roles_too(client):
    records = client.api.role.get_all_records()
    permissions = client.api.role.get_permissions_name_label(role(client, "read-only"))
    (start,) = client.api.role.get_by_name_label("vm.start")

    assert len(records) == 6
    assert "vm.get_record" in permissions
    assert "vm.start" not in permissions
    assert client.api.role.get_record(start)["is_internal"] is True
    assert role(client, "vm-operator") in client.api.role.get_by_permission(start)
    assert role(client, "read-only") not in client.api.role.get_by_permission_name_label("vm.start")


def test_a_data_handler_asks_for_a_role_too(xensim, client, eve):
    import http.client
    import urllib.parse

    session = eve("read-only")
    address = urllib.parse.urlsplit(xensim.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)

    connection.request("GET", f"/export_raw_vdi?vdi={client.vdi()}&session_id={session.session._session}")

    assert connection.getresponse().status == 403
    connection.close()


def test_a_call_among_hosts_is_refused_to_clients(client):
    with pytest.raises(XenAPI.Failure) as error:
        client.api.VM.atomic_set_resident_on(client.vm(), client.host())

    assert details(error)[0] == "INTERNAL_ERROR"
