"""The whole suite runs in either mode: NOVA_LITE_TEST_CONCURRENCY is eventlet or threading (the default)."""

import gc
import os

from nova_lite import concurrency

concurrency.setup(os.environ.get("NOVA_LITE_TEST_CONCURRENCY", concurrency.THREADING))


def pytest_configure():
    """Collect seldom: what tests leave behind is little, what they import is much and stays."""
    gc.set_threshold(50_000, 20, 10)


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
