"""Counting the calls a process makes to its hosts, and killing the process at one of them."""

import http.client
import os
import re
import signal
import threading

from nova_lite.virt.xenapi.transport import XapiTransport

METHOD = re.compile(rb"<methodName>([^<]+)</methodName>")
# Calls that no operation makes: the long poll's, and sessions coming and going.
BACKGROUND = ("event.from", "session.login_with_password", "session.logout", "session.get_uuid")


class Guillotine:
    """Kills this process before the nth call is sent, or after its answer came in, with signal 9.

    `calls` are the names of what was counted: XenAPI calls, and `PUT /import_raw_vdi` and the like for transfers.
    """

    def __init__(self):
        self.calls = []
        self._counting = False
        self._nth = None
        self._after = False
        self._lock = threading.Lock()
        self._watch_calls()
        self._watch_transfers()

    def arm(self, nth=None, after=False):
        """Begin to count; at the nth call (0 is the first) the process ends."""
        self.calls = []
        self._nth, self._after, self._counting = nth, after, True

    def disarm(self):
        self._counting = False

    def _begin(self, name):
        """Return whether the process is to end when this call is over."""
        if not self._counting or name in BACKGROUND:
            return False
        with self._lock:
            self.calls.append(name)
            is_last = self._nth == len(self.calls) - 1
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


def end():
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
