"""Chains of VHD files on their way out of and into a storage repository. No plugin itself.

A chain on its way is a directory of `0.vhd` (the leaf) to `n.vhd` (the root). Staging directories lie inside the
repository, so that files are linked and renamed, never copied.
"""

import contextlib
import os
import shutil
import struct
import tempfile
import time

import nova_lite_dom0 as dom0

YEAR_2000 = 946684800
# Clocks of hosts differ by a little; a disk from further in the future breaks the repository it is put into.
CLOCK_SKEW_S = 60
OLD_NAMES = ("snap.vhd", "image.vhd", "base.vhd")
LONGEST_CHAIN = 31


def repository(sr_path):
    """Return the path of a repository, which has to be an absolute one that is there."""
    path = os.path.normpath(sr_path)
    if not os.path.isabs(path) or path != sr_path.rstrip("/") or not os.path.isdir(path):
        raise dom0.ArgumentError("Argument sr_path must be the directory of a storage repository")
    return path


@contextlib.contextmanager
def staging_area(sr_path):
    """Lend a new directory inside the repository; it goes at the end with all that is left in it."""
    path = tempfile.mkdtemp(prefix="nova-lite-", dir=repository(sr_path))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def link_out(sr_path, staging, vdi_uuids):
    """Link the files of a chain, leaf first, as 0.vhd and so on into a staging directory."""
    for number, vdi_uuid in enumerate(vdi_uuids):
        source = os.path.join(sr_path, dom0.checked(vdi_uuid, "vdi_uuids") + ".vhd")
        os.link(source, os.path.join(staging, f"{number}.vhd"))


def move_in(sr_path, staging, uuid_stack):
    """Move the chain of a staging directory into the repository under uuids of the stack; returns the leaf's."""
    names = chain_of(staging)
    if len(names) > len(uuid_stack):
        raise dom0.PluginError(f"The chain has {len(names)} disks, at most {len(uuid_stack)} are expected")
    files = []
    for name in names:
        vdi_uuid = dom0.checked(uuid_stack.pop(), "uuid_stack")
        path = os.path.join(staging, vdi_uuid + ".vhd")
        os.rename(os.path.join(staging, name), path)
        check(path)
        files.append((vdi_uuid, path))
    refuse_hidden(files[0][1])
    for number in range(len(files) - 1):
        dom0.must_run("vhd-util", "modify", "-n", files[number][1], "-p", files[number + 1][1])
    follow_parents(files)
    # The collector removes a base that nothing refers to: children go first.
    for vdi_uuid, path in files:
        os.rename(path, os.path.join(sr_path, vdi_uuid + ".vhd"))
    return files[0][0]


def chain_of(staging):
    """Return the file names of a chain, leaf first."""
    found = sorted(name for name in os.listdir(staging) if name.endswith(".vhd") and name != "swap.vhd")
    if not found:
        raise dom0.PluginError("There is no disk")
    if len(found) == 1:
        return found
    if set(found) <= set(OLD_NAMES):
        return [name for name in OLD_NAMES if name in found]
    for number in range(len(found)):
        if f"{number}.vhd" not in found:
            raise dom0.PluginError(f"Corrupt image. Expected seq number: {number}. Files: {found}")
    return [f"{number}.vhd" for number in range(len(found))]


def check(path):
    """Refuse a file that is no sound VHD, repairing it once if that is all it takes."""
    with open(path, "rb") as disk:
        if os.path.getsize(path) < 512:
            raise dom0.PluginError("A disk is too small to be one")
        disk.seek(-512, os.SEEK_END)
        footer = disk.read(512)
    if footer[:8] != b"conectix":
        raise dom0.PluginError("A disk has no VHD footer")
    created = struct.unpack(">I", footer[24:28])[0] + YEAR_2000
    if created > time.time() + CLOCK_SKEW_S:
        raise dom0.PluginError("A disk is from the future: the clocks of the hosts differ")
    if dom0.run("vhd-util", "check", "-n", path, "-p")[0] == 0:
        return
    dom0.run("vhd-util", "repair", "-n", path)
    dom0.must_run("vhd-util", "check", "-n", path, "-p")


def refuse_hidden(path):
    """Refuse a leaf that is marked as a mere parent: the collector would remove it."""
    shown = dom0.must_run("vhd-util", "query", "-n", path, "-f")
    for line in shown.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "hidden" and value.strip() != "0":
            raise dom0.PluginError("The leaf of the chain is hidden")


def follow_parents(files):
    """Refuse a chain whose files do not refer to each other in order, or refer to something else."""
    for number, (_, path) in enumerate(files):
        status, out, err = dom0.run("vhd-util", "query", "-n", path, "-p")
        if status not in (0, 22):
            raise dom0.PluginError(f"vhd-util: {err.strip() or out.strip()}")
        has_parent = status == 0 and "has no parent" not in out
        expected = files[number + 1][1] if number + 1 < len(files) else None
        parent = out.strip().splitlines()[-1] if has_parent and out.strip() else None
        if (parent and os.path.basename(parent)) != (expected and os.path.basename(expected)):
            raise dom0.PluginError(f"A disk of the chain refers to {parent}, not to {expected}")
