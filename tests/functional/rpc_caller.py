"""A process that makes calls on request: `python -m tests.functional.rpc_caller MODE URL`.

It also serves topic `echo`, so that it can call itself. Each line of input is `call SECONDS`, `cast` or `serve`; each
gets one line of JSON: {"outcome": ok or the class of the error, "text": …, "seconds": …}.
"""

import json
import os
import sys
import time

from nova_lite import concurrency


class Echo:
    remote_methods = {"echo"}

    def echo(self, ctxt, word):
        return word


def main(mode, url):
    concurrency.setup(mode)
    from nova_lite import conf, context, rpc

    options = conf.load(prog="test", config_files=[], config_dirs=[],
                        overrides={(None, "transport_url"): url, (None, "host"): "h1"})
    messaging = rpc.Rpc(options)
    services = context.Services(conf=options, host="h1", clock=concurrency.Clock(), rpc=messaging)
    client = messaging.client("echo")
    ctxt = context.RequestContext("u", "p")

    def perform(verb, *words):
        if verb == "serve":
            messaging.server("echo", [Echo()], bind=services).start()
        elif verb == "call":
            assert client.call(ctxt, "echo", timeout=float(words[0]), word="x") == "x"
        elif verb == "cast":
            client.cast(ctxt, "echo", word="x")
        elif verb == "check":
            messaging.check(float(words[0]))

    print(json.dumps({"outcome": "ready"}), flush=True)
    # Reading would stop the greenthreads that serve.
    while line := concurrency.run_blocking(sys.stdin.readline):
        started = time.monotonic()
        outcome, text = "ok", ""
        try:
            perform(*line.split())
        except Exception as error:
            outcome, text = type(error).__name__, str(error)
        print(json.dumps({"outcome": outcome, "text": text, "seconds": time.monotonic() - started}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
