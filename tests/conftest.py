"""The whole suite runs in either mode: NOVA_LITE_TEST_CONCURRENCY is eventlet or threading (the default)."""

import os

from nova_lite import concurrency

concurrency.setup(os.environ.get("NOVA_LITE_TEST_CONCURRENCY", concurrency.THREADING))
