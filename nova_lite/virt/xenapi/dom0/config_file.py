#!/usr/bin/env python3
"""Reads settings of the toolstack."""

import nova_lite_dom0 as dom0
import XenAPIPlugin

XAPI_CONF = "/etc/xapi.conf"


def get_val(session, args):
    """Return the value of a key of xapi.conf, or ''."""
    key = dom0.validated(args, "key")
    with open(XAPI_CONF) as settings:
        for line in settings:
            name, separator, value = line.partition("=")
            if separator and name.strip() == key:
                return value.strip()
    return ""


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"get_val": get_val})
