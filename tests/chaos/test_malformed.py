"""Whatever arrives between cells is processed or refused, counted, and leaves nothing behind.

`NOVA_LITE_FUZZ=100000` sends as many, some of a hundred megabytes among them, and prints (-s) the processor time of
a message and the memory of all; `NOVA_LITE_CHAOS_SEED` replays.
"""

import gc
import json
import logging
import os
import random
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

_COUNT = int(os.environ.get("NOVA_LITE_FUZZ", "3000"))
_SEED = int(os.environ.get("NOVA_LITE_CHAOS_SEED", "1"))
_FLAT = 2000
_HUGE_B = 100 * 2**20 if "NOVA_LITE_FUZZ" in os.environ else 17 * 2**20  # the bound is 16 MB
_HUGE_EVERY = 2000
_REST_EVERY = 250

_JUNK = (None, True, False, 0, -1, 2**70, 1.5, float("nan"), "", "x", "!", "top!a!a1", "a!top", "a" * 5000,
         "\x00\ud800", "a!!b", "a@b", "a.b", "!".join("ab" * 50), float("inf"), [[[[[[]]]]]] * 50,
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
    if dice.random() < 0.05:  # a loop: it has been everywhere, here too
        message.update(routing_path="a!top!a!top!a", hop_count=dice.choice((5, 9, 10, 11)))
    text = json.dumps(message)
    if dice.random() < 0.1:
        return text[:dice.randrange(len(text))]
    if dice.random() < 0.05:
        return dice.choice((None, 5, b"bytes", [], "null", "[]", "[" * 100_000, '"text"', "{" * 2000))
    return text


@pytest.fixture
def top(make_tree):
    return make_tree(_SEED, instances=0).top


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.timeout(max(300, _COUNT // 20))
def test_malformed_messages_are_refused_and_counted_and_nothing_stays(top):
    dice = random.Random(_SEED)
    runner = top.runner
    times_s = []
    huge = "x" * _HUGE_B

    def receive(count):
        for number in range(count):
            text = huge if number % _HUGE_EVERY == 0 else malformed(dice)
            start_s = time.process_time()
            top.world.spawn("top", runner.receive, text)
            top.world.run(0)  # what receive raises is raised here
            times_s.append(time.process_time() - start_s)
            if number % _REST_EVERY == 0:
                top.world.run(2)

    def held():
        top.world.run(120)  # what waits for answers gives up
        gc.collect()
        return len(gc.get_objects()), resident_mb()

    half = _COUNT // 2
    receive(half)
    before, before_mb = held()
    receive(half)
    after, after_mb = held()

    times_s.sort()
    print(f"{_COUNT} messages: median {times_s[len(times_s) // 2] * 1000:.3f} ms, "
          f"99.9 % within {times_s[int(len(times_s) * 0.999)] * 1000:.1f} ms, slowest {times_s[-1] * 1000:.1f} ms; "
          f"second half: {after - before:+d} objects, {after_mb - before_mb:+.1f} MB; {dict(runner.counts)}")
    assert runner.counts["malformed"] > _COUNT // 10
    assert len(runner.response_queues) == 0
    assert after - before < _FLAT, f"{after - before} objects more after {half} messages more"
    assert top.instances() == {}


def test_the_log_tells_of_a_refusal_and_nothing_of_the_body(top, caplog):
    logging.disable(logging.NOTSET)

    for text in ('{"password": "s3cret"}', "s3cret", "[" * 100_000 + "s3cret", "s3cret" * 2**22, b"s3cret",
                 '{"message_type": "s3cret"}', "lean\n{}\ns3cret"):
        top.world.spawn("top", top.runner.receive, text)
        top.world.run(0)
    logging.disable(logging.CRITICAL)

    assert caplog.text.count("Refused") == 7
    assert "s3cret" not in caplog.text


_SCALARS = (strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
            | strategies.text(max_size=20))
_JSON = strategies.recursive(_SCALARS, lambda inner: strategies.lists(inner, max_size=4)
                             | strategies.dictionaries(strategies.text(max_size=10), inner, max_size=4))
_FIELDS = strategies.dictionaries(
    strategies.sampled_from(sorted({*genuine(random.Random(1)), "deadline", "sent_at", "reply_server", "parts",
                                    "body"})), _JSON, max_size=6)


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(fields=_FIELDS, dice_seed=strategies.integers(0, 1000), is_lean=strategies.booleans())
def test_whatever_a_field_holds_nothing_is_raised(top, fields, dice_seed, is_lean):
    text = json.dumps({**genuine(random.Random(dice_seed)), **fields})

    top.world.spawn("top", top.runner.receive, f"lean\n{text}\n{text}" if is_lean else text)
    top.world.run(0)

    assert top.is_up


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
