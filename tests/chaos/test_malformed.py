"""Whatever arrives between cells is processed or refused, counted, and leaves nothing behind.

`NOVA_LITE_FUZZ=100000` sends as many; `NOVA_LITE_CHAOS_SEED` replays.
"""

import gc
import json
import os
import random

import pytest

_COUNT = int(os.environ.get("NOVA_LITE_FUZZ", "4000"))
_SEED = int(os.environ.get("NOVA_LITE_CHAOS_SEED", "1"))
_FLAT = 2000

_JUNK = (None, True, False, 0, -1, 2**70, 1.5, float("nan"), "", "x", "!", "top!a!a1", "a!top", "a" * 5000,
         "\x00\ud800",
         [], [[]], {}, {"nova_object.name": "Instance"}, {"nova_object.name": "Nothing", "nova_object.data": {}},
         {"nova_object.name": "Instance", "nova_object.namespace": "nova", "nova_object.version": "99.9",
          "nova_object.data": {"uuid": 7}}, "__init__", "_process", "parse_responses", "build_instances",
         "instance_update_at_top", "run_compute_api_method", "targeted", "broadcast", "response", "up", "down")


def genuine(dice):
    """Return a message as a neighbour sends it."""
    return {"message_type": dice.choice(("targeted", "broadcast", "response")),
            "ctxt": {"user_id": "u", "project_id": "p", "is_admin": True, "roles": [], "read_deleted": "no"},
            "method_name": dice.choice(("update_capacities", "instance_update_at_top", "ping", "compare_digests",
                                        "parse_responses", "outbox_batch", "greet", "build_failed", "tree_info")),
            "method_kwargs": {"cell_name": "a", "capacities": {}}, "direction": dice.choice(("up", "down")),
            "need_response": dice.random() < 0.3, "fanout": False, "uuid": f"{dice.getrandbits(128):032x}",
            "routing_path": "a", "hop_count": 1, "max_hop_count": 10, "target_cell": dice.choice(("a!top", "a!b", "b")),
            "response_uuid": "none", "msg_version": 1}


def malformed(dice):
    """Return the text of a message with something wrong: a field, the JSON, all of it."""
    message = genuine(dice)
    for _ in range(dice.randint(1, 3)):
        kind = dice.randrange(6)
        key = dice.choice(sorted(message)) if message else "uuid"
        if kind == 0:
            message.pop(key, None)
        elif kind == 1:
            message["method_kwargs"] = {dice.choice(("instance", "entries", "digests", "message", "self", "cell")):
                                        dice.choice(_JUNK)}
        elif kind == 2:
            message[dice.choice(("msg_runner", "received", "run_locally", "strict", "deadline", "zzz"))] = (
                dice.choice(_JUNK))
        else:
            message[key] = dice.choice(_JUNK)
    text = json.dumps(message)
    if dice.random() < 0.1:
        return text[:dice.randrange(len(text))]
    if dice.random() < 0.05:
        return dice.choice((None, 5, b"bytes", [], "null", "[]", "[" * 100_000, '"text"', "{" * 2000))
    return text


@pytest.fixture
def top(make_tree):
    return make_tree(_SEED, instances=0).top


def test_malformed_messages_are_refused_and_counted_and_nothing_stays(top):
    dice = random.Random(_SEED)
    runner = top.runner
    half = _COUNT // 2

    def receive(count):
        for _ in range(count):
            text = malformed(dice)
            top.world.spawn("top", runner.receive, text)
            top.world.run(0.01)  # what receive raises is raised here

    def held():
        gc.collect()
        return len(gc.get_objects())

    receive(half)
    before = held()
    receive(half)
    grown = held() - before

    assert runner.counts["malformed"] > _COUNT // 10
    assert len(runner.response_queues) == 0
    assert grown < _FLAT, f"{grown} objects more after {half} messages more"
    assert top.instances() == {}


def test_genuine_messages_still_work_after_the_malformed_ones(top):
    dice = random.Random(_SEED)
    for _ in range(300):
        top.world.spawn("top", top.runner.receive, malformed(dice))
        top.world.run(0.01)
    answers = []

    top.world.spawn("top", lambda: answers.append(
        top.runner.ping(top.runner.admin_context(), "top!a!a1").value_or_raise()))
    top.world.run(5)

    assert answers[0]["cell"] == "top!a!a1"
