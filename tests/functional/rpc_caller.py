"""A process that makes calls on request: `python -m tests.functional.rpc_caller MODE URL`.

It also serves topic `echo`, so that it can call itself. Each line of input is `call SECONDS`, `cast`, `serve`,
`crowd THREADS SECONDS SLOWNESS` (as many calls at once to a method that takes SLOWNESS seconds) or `served` (how many
of those began here), or, for texts without oslo.messaging, `receive`, `send QUEUE TEXT SECONDS`, `taken`, `returned`
and `stop`; each gets one line of JSON: {"outcome": ok or the class of the error, "text": …, "seconds": …,
"result": …}, the result of `crowd` being {outcome: how many}.
"""

import collections
import json
import os
import sys
import time

from nova_lite import concurrency


class Echo:
    remote_methods = {"echo", "echo_slowly"}

    def __init__(self):
        self.served = 0

    def echo_slowly(self, ctxt, word, seconds):
        self.served += 1
        concurrency.sleep(seconds)
        return word

    def echo(self, ctxt, word):
        return word


def outcome_of(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__
    return "ok"


def main(mode, url, callers=""):
    concurrency.setup(mode)
    from nova_lite import conf, context, rpc

    options = conf.load(prog="test", config_files=[], config_dirs=[],
                        overrides={(None, "transport_url"): url, (None, "host"): "h1",
                                           (None, "rpc_conn_pool_size"): callers or None})
    messaging = rpc.Rpc(options)
    services = context.Services(conf=options, host="h1", clock=concurrency.Clock(), rpc=messaging)
    client = messaging.client("echo")
    ctxt = context.RequestContext("u", "p")
    echo = Echo()
    taken, returned = [], []
    receiver = messaging.receiver("texts", "texts.h1", taken.append)
    sender = messaging.sender(url, lambda queue, text: returned.append([queue, text]))

    def crowd(size, timeout_s, slowness_s):
        def call():
            client.call(ctxt, "echo_slowly", timeout=timeout_s, word="x", seconds=slowness_s)

        tasks = [concurrency.spawn(outcome_of, call) for _ in range(size)]
        return collections.Counter(task.wait(60) for task in tasks)

    def perform(verb, *words):
        if verb == "serve":
            messaging.server("echo", [echo], bind=services).start()
        elif verb == "crowd":
            return crowd(int(words[0]), float(words[1]), float(words[2]))
        elif verb == "receive":
            receiver.start()
        elif verb == "send":
            return sender.send(words[0], words[1], float(words[2]))
        elif verb == "taken":
            return taken
        elif verb == "returned":
            return returned
        elif verb == "stop":
            receiver.stop()
        elif verb == "served":
            return echo.served
        elif verb == "call":
            assert client.call(ctxt, "echo", timeout=float(words[0]), word="x") == "x"
        elif verb == "cast":
            client.cast(ctxt, "echo", word="x")
        elif verb == "check":
            messaging.check(float(words[0]))
        return None

    print(json.dumps({"outcome": "ready"}), flush=True)
    # Reading would stop the greenthreads that serve.
    while line := concurrency.run_blocking(sys.stdin.readline):
        started = time.monotonic()
        outcome, text, result = "ok", "", None
        try:
            result = perform(*line.split())
        except Exception as error:
            outcome, text = type(error).__name__, str(error)
        print(json.dumps({"outcome": outcome, "text": text, "seconds": time.monotonic() - started, "result": result}),
              flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
