"""Hosts that change their instances, as a process of its own: what it costs is told apart from what cells cost.

    python -m benchmarks.cells_load --config-file FILE … --instances FILE --rate 1000

Saves instances (their uuids are the lines of a file) through the objects, as hosts do, until its input ends. Then it
prints JSON: {"saves", "seconds", "cpu_s"}.
"""

import argparse
import json
import pathlib
import random
import sys
import threading
import time

from nova_lite import conf as nova_conf
from nova_lite import objects, service

_LEAD_S = 0.005  # shorter pauses would cost more than they are


def change(api, uuids: list[str], rate: float, stop: threading.Event) -> tuple[int, float]:
    """Change instances, at most so many a second; return how many changes, in how many seconds."""
    ctxt = api.context()
    instances = [objects.Instance.get_by_uuid(ctxt, one) for one in uuids]
    saves, begun_s = 0, time.monotonic()
    while not stop.is_set():
        instance = random.choice(instances)
        instance.progress = (instance.progress or 0) % 100 + 1
        instance.save()
        saves += 1
        ahead_s = saves / rate - (time.monotonic() - begun_s)
        if ahead_s > _LEAD_S:
            stop.wait(ahead_s)
    return saves, time.monotonic() - begun_s


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", action="append", required=True)
    parser.add_argument("--instances", type=pathlib.Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    options = parser.parse_args()
    api = service.build_api(nova_conf.load([], prog="benchmark", config_files=options.config_file))
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    cpu_s = time.process_time()
    saves, seconds = change(api, options.instances.read_text().split(), options.rate, stop)
    print(json.dumps({"saves": saves, "seconds": seconds, "cpu_s": time.process_time() - cpu_s}), flush=True)
    api.close()


if __name__ == "__main__":
    main()
