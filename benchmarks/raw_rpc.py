"""The raw references beside which cells calls are measured: plain oslo.messaging, nothing of ours.

Run as processes of their own:

    python -m benchmarks.raw_rpc echo  --url URL                    one server; `ask` returns its argument
    python -m benchmarks.raw_rpc relay --url URL --down URL --up URL   passes a message on: down, and the answer up

A relay without --down answers; a relay without --up waits for the answer and replies to its caller. Both run on
eventlet, as the daemons do by default.
"""

import os

os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")

import eventlet

eventlet.monkey_patch()

import argparse  # noqa: E402
import json  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
import uuid  # noqa: E402

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

from benchmarks.measure import private_conf  # noqa: E402


class Echo:
    def ask(self, ctxt, message):
        return message


class Relay:
    """Pass a message down and its answer up, and do nothing else."""

    def __init__(self, down, up):
        self.down, self.up = down, up
        self.waiting = {}

    def ask(self, ctxt, message):
        return self._pass_down({"id": uuid.uuid4().hex, "body": message}, wait=True)

    def request(self, ctxt, message):
        self._pass_down(json.loads(message), wait=False)

    def answer(self, ctxt, message):
        envelope = json.loads(message)
        if self.up is None:
            self.waiting[envelope["id"]].put(envelope["body"])
        else:
            self.up.cast({}, "answer", message=json.dumps(envelope))

    def _pass_down(self, envelope, wait):
        if self.down is None:
            self.up.cast({}, "answer", message=json.dumps(envelope))
            return None
        if not wait:
            self.down.cast({}, "request", message=json.dumps(envelope))
            return None
        queue = self.waiting[envelope["id"]] = eventlet.queue.Queue()
        try:
            self.down.cast({}, "request", message=json.dumps(envelope))
            return queue.get(timeout=60)
        finally:
            del self.waiting[envelope["id"]]


def rpc_client(url, topic):
    conf = private_conf()
    transport = oslo_messaging.get_rpc_transport(conf, url=url)
    return oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=topic))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("echo", "relay"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--down")
    parser.add_argument("--up")
    options = parser.parse_args()
    if options.kind == "echo":
        endpoint, topics = Echo(), ["raw"]
    else:
        down = rpc_client(options.down, "relay_request") if options.down else None
        up = rpc_client(options.up, "relay_answer") if options.up else None
        endpoint, topics = Relay(down, up), ["raw", "relay_request", "relay_answer"]
    conf: cfg.ConfigOpts = private_conf()
    transport = oslo_messaging.get_rpc_transport(conf, url=options.url)
    for topic in topics:
        target = oslo_messaging.Target(topic=topic, server="raw")
        oslo_messaging.get_rpc_server(transport, target, [endpoint], executor="eventlet").start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    stopped.wait()


if __name__ == "__main__":
    main()
