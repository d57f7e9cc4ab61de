"""Files on their way into a connection."""

import contextlib
import random
import socket

import pytest

from nova_lite import concurrency
from nova_lite.virt.xenapi.file_blocks import BLOCK_B, FileBlocks

CONTENT = random.Random(3).randbytes(3 * BLOCK_B + 1000)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    with open(tmp_path / "file", "rb") as opened:
        yield opened


@pytest.fixture
def ends():
    """(ours, the peer's) of a connection; ours waits for a minute."""
    with contextlib.ExitStack() as stack:
        ours, peers = (stack.enter_context(end) for end in socket.socketpair())
        ours.settimeout(60)
        yield ours, peers


def read_all(peers):
    received = bytearray()
    while block := peers.recv(65536):
        received += block
    return bytes(received)


def send(blocks, ends):
    """Return (how much was sent, what the peer got)."""
    ours, peers = ends
    reader = concurrency.spawn(read_all, peers)
    sent_b = blocks.send_to(ours)
    ours.shutdown(socket.SHUT_WR)
    return sent_b, reader.wait(60)


def test_a_file_arrives_as_it_is(file, ends):
    assert send(FileBlocks(file.fileno(), len(CONTENT)), ends) == (len(CONTENT), CONTENT)


def test_blocks_and_views_show_the_same_and_do_not_move_the_file(file):
    blocks = FileBlocks(file.fileno(), len(CONTENT) - 1)
    assert b"".join(blocks) == b"".join(map(bytes, blocks.views())) == CONTENT[:-1]
    assert file.tell() == 0


def test_of_a_file_that_has_grown_only_what_was_asked_for_is_sent(file, ends):
    assert send(FileBlocks(file.fileno(), 5000), ends) == (5000, CONTENT[:5000])


def test_a_file_that_has_become_shorter_ends_the_sending(file, ends):
    assert send(FileBlocks(file.fileno(), len(CONTENT) + 1), ends) == (len(CONTENT), CONTENT)


def test_an_empty_file_is_sent(file, ends):
    assert send(FileBlocks(file.fileno(), 0), ends) == (0, b"")


def test_a_peer_that_takes_nothing_is_given_up(file, ends):
    ours, _ = ends
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        FileBlocks(file.fileno(), len(CONTENT)).send_to(ours)


def test_a_peer_that_closes_is_noticed(file, ends):
    ours, peers = ends
    peers.close()
    with pytest.raises(ConnectionError):
        FileBlocks(file.fileno(), len(CONTENT)).send_to(ours)


def test_the_connection_is_as_it_was_afterwards(file, ends):
    ours, peers = ends
    FileBlocks(file.fileno(), 5000).send_to(ours)
    peers.sendall(b"done")
    assert ours.recv(4) == b"done" and ours.gettimeout() == 60
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ours.recv(1)


def test_what_the_kernel_cannot_send_is_read_and_sent(ends):
    with open("/proc/self/cmdline", "rb", buffering=0) as unsendable:
        size_b = len(unsendable.read())
        assert send(FileBlocks(unsendable.fileno(), size_b), ends)[0] == size_b
