"""What is passed between the kernel and libfuse: unchanged, in order, nothing lost, whatever the other end does."""

import errno
import socket
import struct
from resource import getpagesize

import pytest

from tests.dataplane.wired import (
    BATCH_FORGET,
    FORGET,
    GETXATTR,
    INIT,
    LOOKUP,
    LSEEK,
    READ,
    READDIR,
    READDIRPLUS,
    Answer,
    Wired,
    packet,
    read_body,
    wired,
)  # fmt: skip

SPLICE_WRITE, SPLICE_MOVE, SPLICE_READ = 1 << 7, 1 << 8, 1 << 9
OVER_IO_URING = 1 << 41
MIB = 1 << 20


def largest_buffer(end: socket.socket) -> None:
    """Let one end send packets of 400 KB, more than the plane's sockets take."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 212_992)


def test_init_loses_the_flags_that_no_socket_can_keep_and_no_other(plane: Wired) -> None:
    every = (1 << 64) - 1
    for flags in (every, 0, SPLICE_READ, OVER_IO_URING | 5):
        body = struct.pack("<IIIII", 7, 39, 131_072, flags & 0xFFFF_FFFF, flags >> 32) + b"unknown" * 6 + b"\1\2"
        unique = plane.send(INIT, body)
        kept = flags & ~(SPLICE_WRITE | SPLICE_MOVE | SPLICE_READ | OVER_IO_URING)
        wanted = body[:12] + struct.pack("<II", kept & 0xFFFF_FFFF, kept >> 32) + body[20:]
        assert plane.passed() == (INIT, unique, wanted)


def test_init_of_an_old_kernel_has_only_the_flags_of_then(plane: Wired) -> None:
    unique = plane.send(INIT, struct.pack("<IIII", 7, 12, 4096, 0xFFFF_FFFF))
    assert plane.passed() == (INIT, unique, struct.pack("<IIII", 7, 12, 4096, 0xFFFF_FC7F))
    unique = plane.send(INIT, b"12345678")
    assert plane.passed() == (INIT, unique, b"12345678")


def getxattr(name: bytes) -> bytes:
    return struct.pack("<II", 255, 0) + name


@pytest.mark.parametrize(
    "name", [b"security.selinux\0", b"system.posix_acl_access\0", b"user.\0", b"user.vdif\0", b"\0"]
)
def test_an_attribute_that_no_file_has_is_told_absent_at_once(plane: Wired, name: bytes) -> None:
    unique = plane.send(GETXATTR, getxattr(name))
    assert plane.answer() == (unique, -errno.ENODATA, b"")
    assert plane.quiet()


@pytest.mark.parametrize("name", [b"user.vdifs.etag\0", b"user.vdifs.\0", b"user.vdifs.part.start\0", b"security", b""])
def test_an_attribute_that_a_file_may_have_is_passed_on_and_what_names_none(plane: Wired, name: bytes) -> None:
    unique = plane.send(GETXATTR, getxattr(name))
    assert plane.passed() == (GETXATTR, unique, getxattr(name))


def test_a_plane_that_serves_nothing_passes_every_attribute_on() -> None:
    with wired(serves=False) as plane:
        unique = plane.send(GETXATTR, getxattr(b"security.selinux\0"))
        assert plane.passed() == (GETXATTR, unique, getxattr(b"security.selinux\0"))


def test_libfuse_cannot_agree_to_requests_larger_than_the_plane_takes(plane: Wired) -> None:
    unique = plane.send(INIT, struct.pack("<IIII", 7, 39, 4096, 0))
    plane.passed()
    said = struct.pack("<IIIIHHIIHHI28x", 7, 39, 1 << 24, 5, 12, 9, 16 * MIB, 1, 4096, 3, 0)
    plane.libfuse.send(struct.pack("<IiQ", 16 + len(said), 0, unique) + said)
    told = plane.answer()
    assert told.unique == unique
    agreed = struct.unpack("<IIIIHHIIHHI28x", told.data)
    pages = MIB // getpagesize()
    assert agreed == (7, 39, 1 << 24, 5, 12, 9, MIB, 1, pages, 3, 0)


@pytest.mark.parametrize("opcode", [READDIR, READDIRPLUS])
def test_a_long_listing_is_cut_to_what_fits_into_a_packet(plane: Wired, opcode: int) -> None:
    for size, passed in ((4096, 4096), (65_536, 65_536), (65_537, 65_536), (0xFFFF_FFFF, 65_536)):
        unique = plane.send(opcode, read_body(3, 9, size))
        assert plane.passed() == (opcode, unique, read_body(3, 9, passed))


def test_thousands_of_requests_pass_unchanged_and_in_order_while_libfuse_reads_nothing(plane: Wired) -> None:
    sent = []
    for number in range(5000):
        body = number.to_bytes(4, "little") * (1 + number % 50)
        sent.append((LOOKUP if number % 3 else FORGET, plane.send(LOOKUP if number % 3 else FORGET, body), body))
    assert [plane.passed() for _ in sent] == sent
    assert plane.quiet()


def test_reads_are_answered_while_libfuse_reads_nothing(plane: Wired) -> None:
    for _ in range(2000):
        plane.send(LOOKUP, b"x" * 200)
    unique = plane.send(READ, read_body(1, 0, 10))
    assert plane.asked().unique == unique
    for _ in range(2000):
        plane.passed()


def test_answers_and_notifications_of_libfuse_go_up_unchanged(plane: Wired) -> None:
    said = [
        Answer(2, 0, b"name"),
        Answer(4, -errno.ENOENT, b""),
        Answer(0, 3, b"of itself"),
        Answer(6, 0, b"y" * 70_000),
    ]
    for each in said:
        plane.libfuse.send(struct.pack("<IiQ", 16 + len(each.data), each.error, each.unique) + each.data)
        assert plane.answer() == each


def test_a_batch_of_forgets_larger_than_a_packet_is_passed_in_parts(plane: Wired) -> None:
    count = 18_000
    forgets = [struct.pack("<QQ", 1000 + number, 1) for number in range(count)]
    largest_buffer(plane.kernel)
    unique = plane.send(BATCH_FORGET, struct.pack("<II", count, 0) + b"".join(forgets))
    after = plane.send(LOOKUP)
    passed: list[bytes] = []
    while (request := plane.passed()).unique != after:
        assert (request.opcode, request.unique) == (BATCH_FORGET, unique)
        stated, _ = struct.unpack_from("<II", request.body)
        parts = [request.body[at : at + 16] for at in range(8, len(request.body), 16)]
        assert len(parts) == stated
        passed += parts
    assert passed == forgets


def test_what_no_packet_can_hold_is_answered_by_an_error(plane: Wired) -> None:
    largest_buffer(plane.kernel)
    unique = plane.send(99, b"x" * 300_000)
    assert plane.answer() == Answer(unique, -errno.EIO, b"")
    assert plane.quiet()


def test_malformed_requests_are_eio_or_nothing(plane: Wired) -> None:
    read = read_body(1, 0, 10)
    for opcode, body, length in (
        (READ, read[:39], None), (READ, b"", None), (LSEEK, b"x" * 23, None),
        (36, b"x" * 7, None), (READ, read, 79), (READ, read, 81), (LOOKUP, b"", 0), (LOOKUP, b"", 0xFFFF_FFFF),
    ):  # fmt: skip
        plane.unique += 2
        plane.kernel.send(packet(opcode, plane.unique, body, length=length))
        assert plane.answer() == Answer(plane.unique, -errno.EIO, b"")
    plane.kernel.send(packet(READ, 0, b""))
    for length in (1, 39):
        plane.kernel.send(packet(LOOKUP, 2)[:length])
    assert plane.quiet()
