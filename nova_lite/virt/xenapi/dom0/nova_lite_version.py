#!/usr/bin/env python3
"""Tells which generation of these plugins is installed."""

import json

import nova_lite_dom0 as dom0
import XenAPIPlugin


def get_version(session, args):
    """Return the version as JSON text."""
    return json.dumps(dom0.VERSION)


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"get_version": get_version})
