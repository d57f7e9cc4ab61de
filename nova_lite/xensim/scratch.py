"""Temporary directories that do not outlive the process that made them for long, however it ended.

Each holds a locked file. The lock goes with the process, so whoever starts next can tell which directories are stale.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile

LOCK_NAME = "in-use"


class Scratch:
    """A temporary directory of this process; `remove` ends it."""

    def __init__(self, prefix: str):
        remove_stale(prefix)
        self.path = tempfile.mkdtemp(prefix=prefix)
        # Locked before it bears the name that others look for.
        hidden = os.path.join(self.path, f".{LOCK_NAME}")
        self._lock = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(hidden, os.path.join(self.path, LOCK_NAME))

    def remove(self) -> None:
        """Remove the directory. Removing it twice is no error."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_stale(prefix: str) -> None:
    """Remove directories with this prefix whose processes are gone; what is not ours is left alone."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_unlocked(entry.path)


def _remove_if_unlocked(path: str) -> None:
    """Raises OSError when the directory is in use, has no lock, or is somebody else's."""
    if os.stat(path).st_uid != os.geteuid():
        return
    lock = os.open(os.path.join(path, LOCK_NAME), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
