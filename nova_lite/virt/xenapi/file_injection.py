"""flat_injected: key, network set-up and metadata are written into the root disk before its guest boots.

For guests without agent and config drive. The disk is brought here and sent back, as for auto_disk_config.
"""

import json
import os
import posixpath
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.auto_disk import E2FSCK_FINE, MAGIC, MAGIC_AT, SECTOR_B, first_partition
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.local_copies import LocalCopies, copy_part, run_program

LOG = logging.getLogger(__name__)

KEYS = "/root/.ssh/authorized_keys"
NETWORK = "/etc/network/interfaces"
METADATA = "/meta.js"
GUEST_TOOLS = "/usr/sbin/xe-daemon"
PRIVATE_FILE, PRIVATE_FOLDER, FILE, FOLDER = "0100600", "040700", "0100644", "040755"
MISSING = "File not found"


class FileSystem:
    """An ext2, ext3 or ext4 file system that is all of a file, changed without being mounted.

    Raises CannotResizeDisk.
    """

    def __init__(self, path: str):
        self._path = path
        with open(path, "rb") as area:
            head = area.read(2048)
        if head[MAGIC_AT:MAGIC_AT + 2] != MAGIC.to_bytes(2, "little"):
            raise exception.CannotResizeDisk(reason="its file system is none of ext2, ext3, ext4")
        # Replays what the journal still holds.
        concurrency.run_blocking(run_program, "e2fsck", "-f", "-y", path, fine=E2FSCK_FINE)

    def has(self, path: str) -> bool:
        """Tell whether there is such a file or folder."""
        return MISSING not in run_program("debugfs", "-R", f"stat {path}", self._path)

    def read(self, path: str) -> bytes:
        """Return the content of a file, nothing for one that is not there."""
        if not self.has(path):
            return b""
        copy = f"{self._path}.read"
        run_program("debugfs", "-R", f"dump {path} {copy}", self._path)
        with open(copy, "rb") as file:
            return file.read()

    def write(self, path: str, content: bytes, mode: str) -> None:
        """Make a file with this content and mode (octal, as in an inode); the one that is there goes."""
        source, folder = f"{self._path}.write", posixpath.dirname(path)
        with open(source, "wb") as file:
            file.write(content)
        commands = [f"rm {path}"] if self.has(path) else []
        self._change([
            *commands, f"cd {folder}", f"write {source} {posixpath.basename(path)}",
            f"set_inode_field {path} mode {mode}", f"set_inode_field {path} uid 0", f"set_inode_field {path} gid 0"])
        if not self.has(path):
            raise exception.CannotResizeDisk(reason=f"{path} cannot be written, is it full?")

    def make_folder(self, path: str, mode: str) -> None:
        """Make a folder of this mode, unless it is there."""
        if not self.has(path):
            self._change([f"mkdir {path}", f"set_inode_field {path} mode {mode}"])

    def _change(self, commands: list[str]) -> None:
        script = f"{self._path}.commands"
        with open(script, "w") as file:
            file.write("\n".join(commands) + "\n")
        run_program("debugfs", "-w", "-f", script, self._path)


class FileInjection:
    """Writes an instance's files into the first partition of its root disk."""

    def __init__(self, session, disks: Disks, conf, spool_dir: str | None = None):
        self._disks = disks
        self._copies = LocalCopies(session, spool_dir)
        self._conf = conf

    @property
    def is_wanted(self) -> bool:
        return self._conf.flat_injected

    def inject(self, vdi_ref: str, build: Any) -> None:
        """Write what the instance has into a detached disk; a disk that takes no files stays as it is."""
        files = files_of(build)
        if not files:
            return
        try:
            with self._copies.of(vdi_ref) as raw:
                if self._change(raw, files, build.name_label):
                    self._copies.send(raw, vdi_ref, self._disks.virtual_size_b(vdi_ref))
        except exception.CannotResizeDisk as error:
            LOG.warning("Nothing is written into the disk of %s, as is to be expected of other systems than Linux: %s",
                        build.name_label, error.kwargs.get("reason", error))

    def _change(self, raw: str, files: dict[str, bytes], name: str) -> bool:
        partition, inside = first_partition(raw), f"{raw}.partition"
        start_b, length_b = partition.start * SECTOR_B, partition.sectors * SECTOR_B
        copy_part(raw, inside, start_b, 0, length_b, self._conf.xenserver.sparse_copy)
        system = FileSystem(inside)
        if system.has("/" + self._conf.xenserver.agent_path):
            LOG.info("The image of %s has an agent, which gets its files", name)
            return False
        if system.has(GUEST_TOOLS):
            LOG.info("The image of %s has guest tools without an agent", name)
        for path, content in files.items():
            _add(system, path, content)
        copy_part(inside, raw, 0, start_b, length_b, sparse=False)
        os.unlink(inside)
        return True


def _add(system: FileSystem, path: str, content: bytes) -> None:
    if path == KEYS:
        system.make_folder("/root", PRIVATE_FOLDER)
        system.make_folder(posixpath.dirname(path), PRIVATE_FOLDER)
        system.write(path, system.read(path) + content, PRIVATE_FILE)
        return
    if path == NETWORK:
        for folder in ("/etc", "/etc/network"):
            system.make_folder(folder, FOLDER)
    system.write(path, content, FILE)


def files_of(build: Any) -> dict[str, bytes]:
    """Return {path: content} of the files an instance has."""
    files = {}
    if key := instances.read(build.instance, "key_data"):
        files[KEYS] = f"\n# The following ssh key was injected by Nova\n{key.strip()}\n".encode()
    if network := interfaces(build.network_info):
        files[NETWORK] = network.encode()
    if metadata := instances.metadata_of(build.instance, "metadata"):
        files[METADATA] = json.dumps(metadata).encode()
    return files


def interfaces(network_info: list[tuple[dict, dict]]) -> str:
    """Return the text of interfaces(5) for the networks that are `injected`; '' when none is."""
    if not any(network.get("injected") for network, _ in network_info):
        return ""
    blocks = ["auto lo\niface lo inet loopback"]
    for number, (network, mapping) in enumerate(network_info):
        if not network.get("injected"):
            continue
        for address in mapping["ips"][:1]:
            blocks.append("\n".join([f"auto eth{number}", f"iface eth{number} inet static", *_lines(
                address=address["ip"], netmask=address["netmask"], broadcast=mapping.get("broadcast"),
                gateway=mapping.get("gateway"), **{"dns-nameservers": " ".join(mapping["dns"])})]))
        for address in mapping.get("ip6s", [])[:1]:
            blocks.append("\n".join([f"iface eth{number} inet6 static", *_lines(
                address=address["ip"], netmask=address["netmask"], gateway=mapping.get("gateway_v6"))]))
    return "\n\n".join(blocks) + "\n"


def _lines(**settings: Any) -> list[str]:
    return [f"    {name} {value}" for name, value in settings.items() if value]
