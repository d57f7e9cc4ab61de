#!/usr/bin/env python3
"""What the host knows and the API does not tell."""

import json

import nova_lite_dom0 as dom0
import XenAPIPlugin


def host_uptime(session, args):
    """Return {"uptime": text}."""
    status, out, err = dom0.run("uptime")
    if status:
        raise dom0.PluginError(f"uptime: {err.strip()}")
    return json.dumps({"uptime": out.strip()})


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"host_uptime": host_uptime})
