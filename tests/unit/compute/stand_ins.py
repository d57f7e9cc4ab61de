"""What stands in for parts that a manager's test does not exercise."""

import datetime

from nova_lite.concurrency import Clock
from nova_lite.objects.network_model import NetworkInfo


class FakeClock(Clock):
    def __init__(self):
        self.now = datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.UTC)
        self.seconds = 0.0

    def advance(self, seconds):
        self.seconds += seconds

    def utcnow(self):
        return self.now + datetime.timedelta(seconds=self.seconds)

    def time(self):
        return self.utcnow().timestamp()

    def monotonic(self):
        return self.seconds

    def sleep(self, seconds):
        self.advance(seconds)


class OneNetwork:
    def allocate_for_instance(self, context, instance, vpn, requested_networks, macs=None, conductor_api=None,
                              security_groups=None):
        return self.get_instance_nw_info(context, instance)

    def deallocate_for_instance(self, context, instance):
        pass

    def get_instance_nw_info(self, context, instance, conductor_api=None):
        return NetworkInfo()

    def setup_networks_on_host(self, context, instance, host=None, teardown=False):
        pass

    def migrate_instance_start(self, context, instance, migration):
        pass

    migrate_instance_finish = migrate_instance_start
