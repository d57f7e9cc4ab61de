#!/usr/bin/env python3
"""Partitions and file systems on disks that are plugged into dom0."""

import os
import re
import time

import nova_lite_dom0 as dom0
import XenAPIPlugin

DEVICE = re.compile(r"^(sm/backend/[0-9a-f-]+/[0-9a-f-]+|[a-z]+[a-z0-9]*)\Z")


def _device(name):
    name = name[len("/dev/"):] if name.startswith("/dev/") else name
    if not DEVICE.match(name):
        raise dom0.ArgumentError("Invalid value for argument dev_path")
    return "/dev/" + name


@dom0.serialized
def wait_for_dev(session, dev_path, max_seconds):
    """Return the path when the device appears in time, else ''."""
    path = _device(dev_path)
    deadline = time.time() + int(max_seconds)
    while not os.path.exists(path):
        if time.time() >= deadline:
            return ""
        time.sleep(0.2)
    return path


@dom0.serialized
def make_partition(session, dev, partition_start, partition_end):
    """Give the disk a table with one partition; the end "-" is the end of the disk."""
    start = dom0.checked(str(partition_start), "partition_start")
    end = "" if partition_end == "-" else dom0.checked(str(partition_end), "partition_end")
    dom0.must_run("sfdisk", "-q", _device(dev), given=f"label: dos\n{start},{end}\n")
    return ""


@dom0.serialized
def mkfs(session, dev, partnum, fs_type, fs_label=""):
    """Make a file system (swap or ext3) on a partition."""
    device = f"{_device(dev)}{int(partnum)}"
    label = ["-L", dom0.checked(fs_label, "fs_label")] if fs_label else []
    if fs_type == "swap":
        dom0.must_run("mkswap", *label, device)
    elif fs_type == "ext3":
        dom0.must_run("mkfs", "-t", "ext3", "-q", *label, device)
    else:
        raise dom0.PluginError("only swap and ext3 are made")
    return ""


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"wait_for_dev": wait_for_dev, "make_partition": make_partition, "mkfs": mkfs})
