"""Temporary directories of simulators that were killed."""

import os
import subprocess
import sys
import uuid

from nova_lite.xensim.scratch import Scratch

LEAVES_BEHIND = """
import os, sys
from nova_lite.xensim.scratch import Scratch
print(Scratch(sys.argv[1]).path, flush=True)
os._exit(9)
"""


def test_the_next_to_start_removes_what_the_dead_left_and_nothing_else():
    prefix = f"xensim-test-{uuid.uuid4()}-"
    ended = subprocess.run([sys.executable, "-c", LEAVES_BEHIND, prefix], capture_output=True, text=True, check=False)
    left = ended.stdout.strip()
    unlocked = f"{left}-somebody-elses"
    os.mkdir(unlocked)
    alive = Scratch(prefix)

    newcomer = Scratch(prefix)

    assert left and not os.path.exists(left)
    assert os.path.isdir(alive.path) and os.path.isdir(unlocked)
    for scratch in (alive, newcomer):
        scratch.remove()
        scratch.remove()
    os.rmdir(unlocked)
    assert not os.path.exists(alive.path)
