import threading

import pytest
import XenAPI

from tests.fixtures.xensim import logged_in


def kinds(batch):
    return [(event["operation"], event["class"], event["ref"]) for event in batch["events"]]


def test_an_empty_token_brings_everything_as_added(client):
    batch = client.events(["VM", "host"])

    assert {ref for _, name, ref in kinds(batch) if name == "vm"} == set(client.api.VM.get_all())
    assert {operation for operation, _, _ in kinds(batch)} == {"add"}
    assert batch["valid_ref_counts"]["vm"] == len(client.api.VM.get_all())


def test_only_the_net_change_since_the_token_is_told(client):
    old, doomed = client.vm("old"), client.vm("doomed")
    token = client.events(["VM"])["token"]

    client.api.VM.set_name_label(old, "older")
    client.api.VM.set_name_label(old, "oldest")
    new = client.vm("new")
    client.api.VM.set_name_label(new, "newer")
    client.api.VM.destroy(doomed)
    client.api.VM.destroy(client.vm("brief"))

    assert kinds(client.events(["VM"], token)) == [("add", "vm", new), ("mod", "vm", old), ("del", "vm", doomed)]


def test_a_snapshot_is_the_record(client):
    vm = client.vm()
    (event,) = [each for each in client.events(["VM"])["events"] if each["ref"] == vm]

    assert event["snapshot"] == client.api.VM.get_record(vm)
    assert event["timestamp"] == "0.0"


def test_a_deleted_object_has_no_snapshot(client):
    vm = client.vm()
    token = client.events(["VM"])["token"]
    client.api.VM.destroy(vm)

    (event,) = client.events(["VM"], token)["events"]

    assert "snapshot" not in event


def test_one_object_may_be_watched(client):
    watched, other = client.vm("watched"), client.vm("other")
    token = client.events([f"vm/{watched}"])["token"]
    client.api.VM.set_name_label(other, "x")

    quiet = client.events([f"vm/{watched}"], token)
    client.api.VM.set_name_label(watched, "y")

    assert quiet["events"] == []
    assert kinds(client.events([f"VM/{watched}"], token)) == [("mod", "vm", watched)]


def test_a_change_of_a_device_is_a_change_of_its_vm(client):
    vm = client.vm()
    token = client.events(["VM"])["token"]

    client.vif(vm)

    assert kinds(client.events(["VM"], token)) == [("mod", "vm", vm)]


def test_a_waiting_call_is_woken_by_a_change(xensim, client):
    vm = client.vm()
    token = client.events(["VM"])["token"]
    with logged_in(xensim) as session:
        batches = []
        waiting = threading.Thread(
            target=lambda: batches.append(session.xenapi_request("event.from", (["VM"], token, 30.0)))
        )
        waiting.start()
        client.api.VM.set_name_label(vm, "changed")
        waiting.join(10)

    assert kinds(batches[0]) == [("mod", "vm", vm)]


def test_a_call_with_nothing_to_tell_ends_with_its_time(client):
    token = client.events(["VM"])["token"]

    batch = client.events(["VM"], token, 0.01)

    assert batch["events"] == []
    assert batch["token"] >= token


def test_logging_out_ends_a_waiting_call(xensim, client):
    session = XenAPI.Session(xensim.url)
    session.login_with_password("root", "xensim")
    other = XenAPI.Session(xensim.url)
    other._session = session._session
    token = client.events(["VM"])["token"]
    results = []
    waiting = threading.Thread(target=lambda: results.append(ask(other, token)))
    waiting.start()
    session.xenapi.session.logout()
    waiting.join(10)

    assert results == ["SESSION_INVALID"]


def ask(session, token):
    """Return the first error of a long poll made without the client's own retries."""
    answer = getattr(session, "event.from")(session._session, ["VM"], token, 30.0)
    return answer["ErrorDescription"][0]


@pytest.mark.parametrize(
    ("classes", "token", "code"),
    [(["VM"], "yesterday", "EVENT_FROM_TOKEN_PARSE_FAILURE"), (["VM/"], "", "EVENT_SUBSCRIPTION_PARSE_FAILURE")],
)
def test_a_malformed_question_is_refused(client, classes, token, code):
    with pytest.raises(XenAPI.Failure) as error:
        client.events(classes, token)

    assert error.value.details[0] == code


def test_an_injected_event_is_seen_from_its_token(client):
    pool = client.api.pool.get_all()[0]

    token = client.api.event.inject("pool", pool)

    assert ("mod", "pool", pool) in kinds(client.events(["pool"], token))


def test_the_old_interface_tells_every_single_change(client):
    client.api.event.register(["vm"])
    vm = client.vm()
    client.api.VM.set_name_label(vm, "a")
    client.api.VM.destroy(vm)

    seen = []
    while not seen or seen[-1] != "del":
        seen += [event["operation"] for event in client.api.event.next()]

    assert seen[0] == "add"
    assert seen[-1] == "del"
    assert seen.count("mod") >= 1


def test_next_without_register_is_refused(client):
    with pytest.raises(XenAPI.Failure) as error:
        client.api.event.next()

    assert error.value.details == ["SESSION_NOT_REGISTERED", client.session._session]


def test_falling_far_behind_loses_events(client):
    client.api.event.register(["vm"])
    vm = client.vm()
    for number in range(60):
        client.api.VM.set_name_description(vm, f"{number}" + "x" * 250_000)

    with pytest.raises(XenAPI.Failure) as error:
        client.api.event.next()

    assert error.value.details == ["EVENTS_LOST"]


def test_messages_appear_as_events_and_go_again(client):
    vm = client.vm()
    token = client.events(["message"])["token"]
    message = client.api.message.create("NOTE", "5", "VM", client.api.VM.get_uuid(vm), "hello")
    added = client.events(["message"], token)
    client.api.message.destroy(message)

    assert kinds(added) == [("add", "message", message)]
    assert added["events"][0]["snapshot"]["body"] == "hello"
    assert kinds(client.events(["message"], added["token"])) == [("del", "message", message)]
