#!/usr/bin/env python3
"""Returns the end of a guest's console log.

The host writes it when xenstore has /local/logconsole/@ = /var/log/xen/guest/console.%d; rotate these files.
"""

import base64
import zlib

import nova_lite_dom0 as dom0
import XenAPIPlugin

LOG_FILE = "/var/log/xen/guest/console.{}"
KEPT_B = 102400


def get_console_log(session, args):
    """Return the last 100 KiB, compressed, as base64."""
    path = LOG_FILE.format(dom0.domain(args))
    try:
        with open(path, "rb") as log:
            size_b = log.seek(0, 2)
            log.seek(max(0, size_b - KEPT_B))
            return base64.b64encode(zlib.compress(log.read())).decode()
    except OSError as error:
        raise dom0.PluginError(f"Unable to read {path}: {error.strerror}") from error


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"get_console_log": get_console_log})
