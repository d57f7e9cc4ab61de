"""What a guest writes into its xenstore reaches the driver as it is: ten thousand answers nobody should send."""

import io
import json
import logging
import random
import types

import pytest
import XenAPI

from nova_lite import conf as nova_conf
from nova_lite import exception
from nova_lite.virt.xenapi.agent import Agents, shown
from nova_lite.virt.xenapi.simple_dh import PRIME
from tests.fixtures.clock import FakeClock
from tests.fixtures.xen_bench import make_instance

REPLIES = 10_000
PASSWORD = "s3cret-pässwörd"
PROPER = (exception.AgentError, exception.AgentTimeout, NotImplementedError, RuntimeError)
TIMEOUT_S = 300


MESSAGES = (
    "0", "1", "-1", str(PRIME), str(PRIME - 1), "5", "9" * 20_000, "", "\\r\\n", "x" * 10, "x" * 100_000,
    "\ud800\udfff", "\x00\x1b[31m\n\r", "D0", "٣٤", "=" * 50, None, [], {}, 1.5, True, ["a"] * 5)
# What a guest may repeat is what it was told.
ECHOES = (PASSWORD, f"cannot set {PASSWORD}")
CODES = ("0", "D0", "500", 0, None, [], "timeout", "reboot", "notimplemented", "\ud800", "9" * 5000)
TEXTS = ("[" * 100_000, "{", "", "null", "NaN", '"' + "a" * 70_000 + '"', '"text"', "[1, 2]")
FAILURES = (("TimeoutFailure", "TIMEOUT: No response"), ("RebootFailure", "REBOOT: dom_id 3 no longer present"),
            ("Exception", f"\x00 {'y' * 1000}"))


def hostile(rng, function):
    """Return what the plugin brings back, or an error for it to raise."""
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        return XenAPI.Failure(["XENAPI_PLUGIN_FAILURE", "password", *rng.choice(FAILURES)])
    messages = MESSAGES + ECHOES if function == "password" else MESSAGES
    reply = {"returncode": rng.choice(CODES), "message": rng.choice(messages)}
    if kind == 2:
        del reply["message"]
    return json.dumps(reply)


class Session:
    """A session whose plugin brings what a hostile guest says; time passes as if every answer took its while."""

    task_timeout_s = 30

    def __init__(self, rng):
        self.clock = FakeClock()
        self.rng = rng
        self.said = 0
        self.ids = []

    def new_request_id(self):
        self.ids.append(str(self.rng.getrandbits(64)))
        return self.ids[-1]

    def call_xenapi(self, method, *args):
        return {"domid": "3"}

    def call_plugin(self, plugin, function, arguments):
        assert PASSWORD not in json.dumps(arguments)
        self.said += 1
        self.clock.advance(self.rng.choice([0, 0.1, 5]))
        answer = hostile(self.rng, function)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(scope="module")
def conf():
    conf = nova_conf.load(prog="nova_lite", config_files=[], config_dirs=[])
    conf.set_override("use_agent_default", True, "xenserver")
    conf.set_override("agent_version_timeout", TIMEOUT_S, "xenserver")
    return conf


@pytest.fixture
def agents(conf):
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    finder = types.SimpleNamespace(require=lambda instance: "OpaqueRef:vm", name=lambda instance: "instance-1")
    guest_data = types.SimpleNamespace(set_hostname=lambda *told: None, forget_hostname=lambda *told: None)
    return Agents(Session(random.Random(seed)), finder, guest_data, None, conf)


@pytest.fixture
def logged():
    """Everything the agent's module logs, kept as text and shown to nobody else: it is much."""
    stream = io.StringIO()
    log, handler = logging.getLogger("nova_lite.virt.xenapi.agent"), logging.StreamHandler(stream)
    log.addHandler(handler)
    log.propagate = False
    yield stream
    log.removeHandler(handler)
    log.propagate = True


def test_whatever_a_guest_answers_ends_in_time_in_an_error_of_ours_and_tells_no_password(agents, logged):
    instance, session, told = make_instance(), agents._session, []
    acts = (lambda: agents.set_admin_password(instance, PASSWORD), lambda: agents.reset_network(instance),
            lambda: agents.inject_file(instance, "/etc/motd", "hello"),
            lambda: agents.agent_update(instance, "https://x", "0" * 32))
    while session.said < REPLIES:
        began = session.clock.monotonic()
        try:
            told.append(session.rng.choice(acts)() or "")
        except PROPER as error:
            told.append(str(error))
        # Two requests, each repeated once in a new domain, for which agent_timeout is waited.
        assert session.clock.monotonic() - began <= 4 * 5 + 2 * 31
    assert all(PASSWORD not in text and len(text) < 1000 for text in told)
    assert all(text.isprintable() for text in told if text)
    assert PASSWORD not in logged.getvalue()
    assert len(set(session.ids)) == len(session.ids)


def test_the_wait_for_an_agent_keeps_its_deadline_whatever_is_answered(agents):
    for _ in range(20):
        began = agents._session.clock.monotonic()
        version = agents.get_agent_version(make_instance())
        assert version is None or len(version) < 300
        assert agents._session.clock.monotonic() - began <= TIMEOUT_S + 2 * 31 + 10


def test_what_a_guest_says_is_shown_in_one_short_line():
    assert shown("a\nb\x1b[1m\ud800") == "a?b?[1m?"
    assert len(shown("x" * 10_000)) < 210
    assert shown("no: hunter2", secret="hunter2") == "no: ***"
