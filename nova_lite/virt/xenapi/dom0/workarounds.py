#!/usr/bin/env python3
"""Copies chains of disks by links where a copy by the host would not be atomic."""

import os
import shutil

import nova_lite_dom0 as dom0
import nova_lite_vhds as vhds
import XenAPIPlugin


@dom0.serialized
def safe_copy_vdis(session, sr_path, vdi_uuids, uuid_stack):
    """Copy a chain, uuids leaf first, inside its repository; returns {"root": {"uuid"}}."""
    with vhds.staging_area(sr_path) as staging:
        vhds.link_out(sr_path, staging, vdi_uuids)
        for name in vhds.chain_of(staging):
            path = os.path.join(staging, name)
            shutil.copyfile(path, path + ".copy")
            os.rename(path + ".copy", path)
        return {"root": {"uuid": vhds.move_in(sr_path, staging, list(uuid_stack))}}


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"safe_copy_vdis": safe_copy_vdis})
