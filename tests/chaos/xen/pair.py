"""Two simulated pools, the forking server beside them, and what is left on the hosts."""

import json
import shutil
import subprocess
import sys
import xmlrpc.client
from pathlib import Path

from nova_lite.virt.xenapi import dom0
from nova_lite.virt.xenapi.dom0.nova_lite_dom0 import VERSION
from nova_lite.xensim import Simulator
from tests.fixtures.xen_probe import XenProbe

REPOSITORY = Path(__file__).resolve().parents[3]
COUNTED = ("VM", "VBD", "VIF", "SR", "PBD")


class Hosts:
    """Two hosts, `a` and `b`, each a pool of its own."""

    def __init__(self, directory):
        plugins = str(_plugins(directory / "plugins"))
        self.simulators = {
            host: Simulator(state_dir=str(directory / host), name=f"chaos-{host}", plugins=plugins)
            for host in ("a", "b")}
        for simulator in self.simulators.values():
            simulator.start()
        self.urls = {host: simulator.url for host, simulator in self.simulators.items()}
        self._probes = {host: XenProbe(url) for host, url in self.urls.items()}

    def close(self):
        for simulator in self.simulators.values():
            simulator.stop()

    def left(self):
        """Return {host: {class: number}}; disks that are there to stay (cached images, hidden parents) do not count."""
        return {host: _left_on(probe.api) for host, probe in self._probes.items()}

    def offer(self, volume):
        """Have both hosts see a volume."""
        for simulator in self.simulators.values():
            simulator.control.iscsi_target("10.0.0.9", f"iqn.chaos:{volume}", {"0": 1 << 30})


class Pair(Hosts):
    """Two hosts, and a server that forks compute services for both."""

    def __init__(self, directory):
        super().__init__(directory)
        self.offer("volume-0")
        command = [sys.executable, "-m", "tests.chaos.xen.server", str(directory), json.dumps(self.urls)]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        cwd=REPOSITORY)
        self._seed = 100
        self.kills = 0
        self.cached = json.loads(self._server.stdout.readline())["cached"]
        self.empty = self.left()

    def close(self):
        self._server.stdin.close()
        self._server.wait(60)
        super().close()

    def ask(self, **job):
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def end(self):
        """Kill the process that serves, if there is one."""
        self.ask(do="end")

    def run(self, operation, counting, **kill):
        """Run an operation; `counting` says what, `nth` and `after` where the process that does it is killed."""
        self._seed += 1
        volume = f"volume-{self._seed}"
        self.offer(volume)
        return self.ask(do="run", operation=operation, cached=self.cached, seed=self._seed, volume=volume,
                        counting=counting, **kill)

    def restart(self, operation, things):
        """Start the services again, kill -9 before it if they run; return how the instance is, and what came next."""
        return self.ask(do="restart", operation=operation, things=things)


def _plugins(folder):
    """Return a folder of plugins; the one that every start asks for its version says it without an interpreter."""
    shutil.copytree(Path(dom0.__file__).parent, folder)
    answer = xmlrpc.client.dumps(({"Status": "Success", "Value": json.dumps(VERSION)},), methodresponse=True)
    (folder / "nova_lite_version.py").write_text(f"#!/bin/sh\ncat <<'END'\n{answer}END\n")
    return folder


def _left_on(api):
    found = {name: len(getattr(api, name).get_all()) for name in COUNTED}
    # Tasks that ended are XenServer's to collect, those of our own are ours.
    found["tasks"] = sorted(task["name_label"] for task in api.task.get_all_records().values()
                            if task["status"] == "pending" or task["name_label"].startswith("nova_lite-"))
    found["disks"] = sorted(vdi["name_label"] for vdi in api.VDI.get_all_records().values()
                            if vdi["managed"] and not is_cached_image(vdi))
    return found


def is_cached_image(vdi):
    return "image-id" in vdi["other_config"] and vdi["name_label"].startswith("Glance Image")
