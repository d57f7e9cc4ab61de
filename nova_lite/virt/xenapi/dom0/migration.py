#!/usr/bin/env python3
"""Moves disks of instances from host to host, by rsync over ssh between the dom0s."""

import os
import shutil
import socket

import nova_lite_dom0 as dom0
import nova_lite_vhds as vhds
import XenAPIPlugin

# Has to lie in the file system of the storage repository, or be a link into it.
IMAGES = "/images"
SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no"


def _folder(instance_uuid):
    return os.path.join(IMAGES, "instance" + dom0.checked(instance_uuid, "instance_uuid"))


@dom0.serialized
def transfer_vhd(session, instance_uuid, host, vdi_uuid, sr_path, seq_num=None):
    """Bring one disk of the repository to another host's dom0 as `<seq_num>.vhd` (without one: under its own name)."""
    folder = _folder(instance_uuid)
    dom0.checked(host, "host")
    source = os.path.join(vhds.repository(sr_path), dom0.checked(vdi_uuid, "vdi_uuid") + ".vhd")
    name = os.path.basename(source) if seq_num is None else f"{int(seq_num)}.vhd"
    with vhds.staging_area(sr_path) as staging:
        # What is sent has to stay as it is while the collector works on the original.
        linked = os.path.join(staging, name)
        os.link(source, linked)
        if _is_here(host):
            os.makedirs(folder, exist_ok=True)
            shutil.copyfile(linked, os.path.join(folder, name))
        else:
            dom0.must_run("ssh", *SSH.split()[1:], f"root@{host}", "mkdir", "-p", folder)
            dom0.must_run("rsync", "-a", "--inplace", "-e", SSH, linked, f"root@{host}:{folder}/")
    return ""


def _is_here(host):
    """Tell whether an address is one of this machine: only such a one can be bound."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0)[0]
        with socket.socket(family) as probe:
            probe.bind((address[0], 0))
    except OSError:
        return False
    return True


@dom0.serialized
def move_vhds_into_sr(session, instance_uuid, sr_path, uuid_stack=None, old_base_copy_uuid=None,
                      new_base_copy_uuid=None, old_cow_uuid=None, new_cow_uuid=None):
    """Take the disks that came for an instance into the repository; returns {"root": {"uuid"}}.

    The earlier form names the disks that came, a base and perhaps one on top, and what each becomes; it returns "".
    """
    folder = _folder(instance_uuid)
    if not os.path.isdir(folder):
        raise dom0.PluginError(f"no disks of instance {instance_uuid} have come")
    named = [(old, new) for old, new in ((old_cow_uuid, new_cow_uuid), (old_base_copy_uuid, new_base_copy_uuid)) if old]
    came = [dom0.checked(old, "old_uuid") + ".vhd" for old, _ in named] or vhds.chain_of(folder)
    stack = [new for _, new in reversed(named)] or list(uuid_stack or ())
    with vhds.staging_area(sr_path) as staging:
        for number, name in enumerate(came):
            os.rename(os.path.join(folder, name), os.path.join(staging, f"{number}.vhd"))
        leaf = vhds.move_in(sr_path, staging, stack)
    shutil.rmtree(folder, ignore_errors=True)
    return "" if named else {"root": {"uuid": leaf}}


@dom0.serialized
def forget(session, instance_uuid):
    """Remove the disks that came for an instance and are not wanted any more."""
    shutil.rmtree(_folder(instance_uuid), ignore_errors=True)
    return ""


if __name__ == "__main__":
    XenAPIPlugin.dispatch({
        "transfer_vhd": transfer_vhd,
        "move_vhds_into_sr": move_vhds_into_sr,
        "forget": forget,
    })
