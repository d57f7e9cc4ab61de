"""Logged-in sessions, each used by one caller at a time, and the bounded pool of them."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.transport import Endpoint, JsonRpcMissing, XapiTransport

LOG = logging.getLogger(__name__)

# Calls that may return thousands of records: read as JSON, which takes a fraction of the processor time of XML.
BULK = re.compile(r"\.get_all_records(_where)?$|^event\.from$")


class Member:
    """One logged-in session with its transport; never used by two callers at once."""

    def __init__(self, client: XenAPI.Session, transport: XapiTransport, endpoint: Endpoint):
        self.client = client
        self.transport = transport
        self.endpoint = endpoint
        self._speaks_json = True

    @property
    def handle(self) -> str:
        return self.client.handle

    def call(self, method: str, args: tuple, timeout_s: float) -> Any:
        self.transport.read_timeout_s = timeout_s
        if self._speaks_json and BULK.search(method):
            try:
                return self.transport.request_json(method, [self.handle, *args])
            except JsonRpcMissing as missing:
                LOG.debug("no JSON-RPC at %s: %s", self.endpoint.without_credentials, missing)
                self._speaks_json = False
            except XenAPI.Failure as failure:
                if not errors.is_code(failure, "SESSION_INVALID"):
                    raise
        # The client library logs in again where a session ended.
        return self.client.xenapi_request(method, args)

    def close(self) -> None:
        self.transport.close()

    def log_out(self) -> None:
        self.transport.resume()
        self.transport.read_timeout_s = 5
        with suppress(XenAPI.Failure, *errors.CONNECTION_ERRORS):
            self.client.xenapi.session.logout()
        self.close()


class SessionPool:
    """At most `size` sessions, made when first needed; a caller that finds none free waits `wait_s` at most."""

    def __init__(self, log_in: Callable[[], Member], size: int, wait_s: float, clock):
        self._log_in = log_in
        self._size = size
        self._wait_s = wait_s
        self._clock = clock
        self._free: list[Member] = []
        self._taken = 0
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def take(self) -> Iterator[Member]:
        """Lend one session. One that broke (`connection error` inside) is dropped instead of returned."""
        member = self._acquire()
        try:
            yield member
        except errors.CONNECTION_ERRORS:
            self._release(member, broken=True)
            raise
        except BaseException:
            self._release(member)
            raise
        else:
            self._release(member)

    def _acquire(self) -> Member:
        deadline = self._clock.monotonic() + self._wait_s
        with self._changed:
            while not self._free and self._taken >= self._size:
                left_s = deadline - self._clock.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise TimeoutError(f"all {self._size} sessions were in use for {self._wait_s:.0f} s")
            self._taken += 1
            if self._free:
                return self._free.pop()
        try:
            return self._log_in()
        except BaseException:
            self._forget_one()
            raise

    def _release(self, member: Member, broken: bool = False) -> None:
        if broken or self._closed:
            self._forget_one()
            member.close() if broken else member.log_out()
            return
        with self._changed:
            self._taken -= 1
            self._free.append(member)
            self._changed.notify()

    def _forget_one(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def drop_free(self) -> None:
        """Forget the sessions nobody uses now, without a word to the server (it moved)."""
        with self._changed:
            free, self._free = self._free, []
        for member in free:
            member.close()

    def close(self) -> None:
        """Log out every session; those in use follow when they come back."""
        self._closed = True
        with self._changed:
            free, self._free = self._free, []
        for member in free:
            member.log_out()
