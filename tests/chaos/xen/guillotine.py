"""Counting what a process tells its hosts or its database, and killing the process at one of these points."""

import http.client
import os
import re
import signal
import threading

from sqlalchemy.engine.default import DefaultDialect

from nova_lite.virt.xenapi.transport import XapiTransport

CALLS, WRITES = "calls", "writes"
METHOD = re.compile(rb"<methodName>([^<]+)</methodName>")
# Calls that no operation makes: the long poll's, and sessions coming and going.
BACKGROUND = ("event.from", "session.login_with_password", "session.logout", "session.get_uuid")


class Guillotine:
    """Kills this process before the nth call is sent, or after its answer came in, with signal 9.

    `counted` are the names of what was counted: XenAPI calls, and `PUT /import_raw_vdi` and the like for transfers; or
    writes, each a transaction.
    """

    def __init__(self):
        self.counted = []
        self._counting = None
        self._nth = None
        self._after = False
        self._lock = threading.Lock()
        self._watch_calls()
        self._watch_transfers()
        self._watch_writes()

    def arm(self, counting, nth=None, after=False):
        """Begin to count CALLS or WRITES; at the nth one (0 is the first) the process ends."""
        self.counted = []
        self._nth, self._after, self._counting = nth, after, counting

    def disarm(self):
        self._counting = None

    def _begin(self, name, kind=CALLS):
        """Return whether the process is to end when this call is over."""
        if self._counting != kind or name in BACKGROUND:
            return False
        with self._lock:
            self.counted.append(name)
            is_last = self._nth == len(self.counted) - 1
        if is_last and not self._after:
            end()
        return is_last

    def _watch_calls(self):
        send = XapiTransport.single_request

        def single_request(transport, host, handler, request_body, verbose=False):
            text = request_body if isinstance(request_body, bytes) else request_body.encode()
            is_last = self._begin(METHOD.search(text).group(1).decode())
            try:
                return send(transport, host, handler, request_body, verbose)
            finally:
                if is_last:
                    end()

        request_json = XapiTransport.request_json

        def watched_json(transport, method, parameters):
            is_last = self._begin(method)
            try:
                return request_json(transport, method, parameters)
            finally:
                if is_last:
                    end()

        XapiTransport.single_request = single_request
        XapiTransport.request_json = watched_json

    def _watch_transfers(self):
        put, close = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.close

        def putrequest(connection, method, url, *args, **kwargs):
            path = url.partition("?")[0]
            if path.endswith("_vdi"):
                connection.is_last = self._begin(f"{method} {path}")
            return put(connection, method, url, *args, **kwargs)

        def close_connection(connection):
            if getattr(connection, "is_last", False):
                end()
            close(connection)

        http.client.HTTPConnection.putrequest = putrequest
        http.client.HTTPConnection.close = close_connection

    def _watch_writes(self):
        commit, changes = DefaultDialect.do_commit, {}

        def do_commit(dialect, connection):
            before, changes[id(connection)] = changes.get(id(connection), 0), connection.total_changes
            is_last = before != connection.total_changes and self._begin("transaction", WRITES)
            commit(dialect, connection)
            if is_last:
                end()

        DefaultDialect.do_commit = do_commit


def end():
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
