"""nova-compute that kills itself where it is told to: python -m tests.functional.mortal_compute.

Its fate stands in the file `fate` of MORTAL_DIRECTORY, such as 'before:power_off' or 'after:spawn': a call of the
hypervisor driver. Of all processes that look there one dies at it, with signal 9, and takes the file away as `died`.
"""

import functools
import os
import pathlib
import signal

from nova_lite.cmd import daemon

DEADLY = (
    "spawn", "destroy", "reboot", "pause", "unpause", "suspend", "resume", "power_off", "power_on", "soft_delete",
    "restore", "rescue", "unrescue", "snapshot", "migrate_disk_and_power_off", "finish_migration", "confirm_migration",
    "finish_revert_migration", "attach_volume", "detach_volume", "live_migration", "pre_live_migration")


class Fate:
    """Where a process of this directory has to die next."""

    def __init__(self, directory):
        self._file = pathlib.Path(directory) / "fate"

    def meet(self, point):
        try:
            if self._file.read_text() != point:
                return
            self._file.rename(self._file.with_name("died"))
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def make_mortal(fate):
    """Have the driver's calls meet their fate; after the choice of threads, before the service is built."""
    from nova_lite.virt.xenapi.driver import XenAPIDriver

    def deadly(name):
        original = getattr(XenAPIDriver, name)

        @functools.wraps(original)
        def call(*args, **kwargs):
            fate.meet(f"before:{name}")
            result = original(*args, **kwargs)
            fate.meet(f"after:{name}")
            return result

        return call

    for name in DEADLY:
        setattr(XenAPIDriver, name, deadly(name))


def main():
    serve = daemon._serve

    def mortal_serve(*args):
        make_mortal(Fate(os.environ["MORTAL_DIRECTORY"]))
        return serve(*args)

    daemon._serve = mortal_serve
    daemon.main("nova-compute", "build_compute_service")


if __name__ == "__main__":
    main()
