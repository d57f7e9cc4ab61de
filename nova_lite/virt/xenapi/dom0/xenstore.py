#!/usr/bin/env python3
"""Reads and writes the xenstore of a running domain."""

import json

import nova_lite_dom0 as dom0
import XenAPIPlugin


def _path(args):
    path = "/local/domain/{}/{}".format(dom0.domain(args), dom0.exists(args, "path"))
    if ".." in path.split("/"):
        raise dom0.ArgumentError("Invalid value for argument path")
    return path.rstrip("/")


def _as_json(text):
    try:
        json.loads(text)
        return text
    except ValueError:
        return json.dumps(text)


def read_record(session, args):
    """Return the value at the path as JSON; with ignore_missing_path a missing one is "None"."""
    value = dom0.xenstore_read(_path(args))
    if value is not None:
        return _as_json(value.strip())
    if args.get("ignore_missing_path", "").lower() == "true":
        return json.dumps("None")
    raise dom0.PluginError("nothing is at {}".format(args["path"]))


def write_record(session, args):
    """Set the value at the path and return it."""
    value = dom0.exists(args, "value")
    dom0.xenstore_write(_path(args), value)
    return _as_json(value)


def list_records(session, args):
    """Return {sub-path: value} of everything below the path as JSON."""
    found = {}
    _collect(_path(args), "", found)
    return json.dumps(found)


def _collect(root, below, found):
    for name in dom0.xenstore_list(root + below):
        path = f"{below}/{name}"
        value = dom0.xenstore_read(root + path)
        if value:
            try:
                found[path[1:]] = json.loads(value)
            except ValueError:
                found[path[1:]] = value
        _collect(root, path, found)


def delete_record(session, args):
    """Remove the path and all below it; a missing one is no error."""
    dom0.xenstore_remove(_path(args))
    return ""


if __name__ == "__main__":
    XenAPIPlugin.dispatch({
        "read_record": read_record,
        "write_record": write_record,
        "list_records": list_records,
        "delete_record": delete_record,
    })
