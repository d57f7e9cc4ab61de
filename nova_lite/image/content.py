"""The file of a stored image's content, and the record that it is still what was verified."""

import contextlib
import errno
import io
import json
import os
import pathlib
import stat
import tempfile

from nova_lite import concurrency

RECORD_SUFFIX = ".verified"
RECORD_LIMIT_B = 4096
# Of a file that changed later than this ago, the next change may bear the same time.
SETTLED_AFTER_S = 2.0
# A file system's clock moves on within a few of these; one that counts whole seconds gets no record at once.
TICKS = 30
TICK_S = 0.001


class NoRegularFile(OSError):
    """A content's name leads to a link, a device, a directory."""


class StoredContent(io.FileIO):
    """A content as it lies in the store, open for reading; no link is followed. Raises OSError, NoRegularFile.

    Offers what `ImageFile` of the port says. The record beside the content names its file by what changes with every
    change and every replacement of it: inode, size, time of the last change of content and of anything. The times are
    the kernel's, and nobody can set the last one. The device is not recorded, since it has another number on every
    machine that shares the directory: content and record have to lie on the same one.

    A record says that nobody wrote the file since it was hashed. It does not say that the disk still gives back what
    was written.
    """

    def __init__(self, path: pathlib.Path, checksum: tuple[str, str], clock: concurrency.Clock):
        try:
            super().__init__(path, "rb", opener=_open_without_links)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise NoRegularFile(error.errno, "no regular file") from error
            raise
        opened = os.fstat(self.fileno())
        if not stat.S_ISREG(opened.st_mode):
            self.close()
            raise NoRegularFile(errno.EINVAL, "no regular file")
        self.checksum = checksum
        self.size_b = opened.st_size
        self._record = path.with_name(path.name + RECORD_SUFFIX)
        self._identity = _identity(opened)
        self.is_settled = clock.time() - opened.st_ctime > SETTLED_AFTER_S

    def is_verified(self) -> bool:
        """Tell whether the record says of this very file, as it is now, that it has its checksum."""
        try:
            with self._record.open("rb") as file:
                written = json.loads(file.read(RECORD_LIMIT_B))
                device = os.fstat(file.fileno()).st_dev
        except (OSError, ValueError):
            return False
        return written == self._claim() and device == os.fstat(self.fileno()).st_dev and self.is_unchanged()

    def is_unchanged(self) -> bool:
        """Tell whether the file is what it was when it was opened."""
        return _identity(os.fstat(self.fileno())) == self._identity

    def note_verified(self) -> None:
        """Record that this content has its checksum; whoever calls has computed it since the file was opened.

        What cannot be recorded (a store that is read-only here, a clock too coarse to tell a later change) is not.
        """
        with contextlib.suppress(OSError):
            descriptor, aside = tempfile.mkstemp(prefix=".new-", dir=self._record.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(json.dumps(self._claim()).encode())
                    file.flush()
                    if not (self._is_older_than(file.fileno()) and self.is_unchanged()):
                        return
                os.chmod(aside, 0o640)
                os.replace(aside, self._record)
            finally:
                pathlib.Path(aside).unlink(missing_ok=True)

    def _claim(self) -> dict[str, int | str]:
        return {**self._identity, "algorithm": self.checksum[0], "value": self.checksum[1]}

    def _is_older_than(self, descriptor: int) -> bool:
        """Tell whether the file system's clock has passed the last change: any further one bears another time."""
        for _ in range(TICKS):
            os.utime(descriptor)
            if os.fstat(descriptor).st_mtime_ns > self._identity["ctime_ns"]:
                return True
            concurrency.sleep(TICK_S)
        return False


def remove(path: pathlib.Path) -> None:
    """Remove a content and its record."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + RECORD_SUFFIX).unlink(missing_ok=True)


def _open_without_links(path: str, flags: int) -> int:
    # Opening a pipe would wait for its other end.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _identity(found: os.stat_result) -> dict[str, int]:
    return {"inode": found.st_ino, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
