"""A simulated world keeps its own time, in one native thread: it has no second mode to be tested in."""

from nova_lite import concurrency

if concurrency.is_green():
    collect_ignore_glob = ["test_*.py"]
