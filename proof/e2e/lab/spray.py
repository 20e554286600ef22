"""Garbage and truncated STUN, DTLS, RTP and RTCP for a media port, from a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import zlib
from collections.abc import Iterator, Sequence

from lab.packets import forged

SOURCES = 48  # sockets the strangers' datagrams come from
BURST = 32
PAUSE_SECONDS = 0.004
MAGIC_COOKIE = 0x2112A442


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _stun(chance: random.Random) -> bytes:
    body = b"".join(
        chance.sample(
            [
                _attribute(0x0006, chance.randbytes(chance.choice((0, 1, 9, 200)))),  # USERNAME
                _attribute(0x0008, chance.randbytes(chance.choice((0, 19, 20, 21)))),  # INTEGRITY
                _attribute(0x0024, chance.randbytes(4)),  # PRIORITY
                _attribute(0x0025, b""),  # USE-CANDIDATE
                _attribute(0x802A, chance.randbytes(8)),  # ICE-CONTROLLING
                _attribute(chance.randrange(0x10000), chance.randbytes(chance.randrange(40))),
            ],
            chance.randrange(7),
        )
    )
    length = len(body) if chance.random() < 0.7 else chance.randrange(0x10000)
    kind = chance.choice((0x0001, 0x0101, 0x0111, 0x0011, 0x0003, chance.randrange(0x4000)))
    message = struct.pack("!HHI", kind, length, MAGIC_COOKIE) + chance.randbytes(12) + body
    if chance.random() < 0.5:
        checksum = zlib.crc32(message) ^ 0x5354554E
        message += struct.pack("!HHI", 0x8028, 4, checksum)
    return message


def _dtls(chance: random.Random) -> bytes:
    version = chance.choice((0xFEFD, 0xFEFF, 0xFEFC, 0x0303, chance.randrange(0x10000)))
    hello = struct.pack("!H", version) + chance.randbytes(32)
    hello += b"\x00\x00" + struct.pack("!H", 2) + b"\xc0\x2b" + b"\x01\x00"
    hello += chance.randbytes(chance.randrange(60))
    total = len(hello) if chance.random() < 0.6 else chance.randrange(1 << 24)
    kind = chance.choice((1, 2, 11, 14, 16, 20, chance.randrange(256)))
    handshake = bytes([kind]) + total.to_bytes(3, "big") + struct.pack("!H", chance.randrange(8))
    handshake += chance.choice((0, 1, 0xFFFFFF)).to_bytes(3, "big")
    handshake += len(hello).to_bytes(3, "big") + hello
    content = chance.choice((20, 21, 22, 23, 24, 25, 63))
    header = bytes([content]) + struct.pack("!HH", version, chance.choice((0, 0, 1, 0xFFFF)))
    header += chance.randbytes(6)
    length = len(handshake) if chance.random() < 0.7 else chance.randrange(0x10000)
    return header + struct.pack("!H", length) + handshake


def _rtp(chance: random.Random) -> bytes:
    first = 0x80 | chance.choice((0, 0x10, 0x20, 0x30)) | chance.choice((0, 0, 0, 15))
    header = struct.pack(
        "!BBHII",
        first,
        chance.choice((111, 96, 63, 45, 0xE0, chance.randrange(256))),
        chance.randrange(1 << 16),
        chance.randrange(1 << 32),
        chance.choice((0, 0xFFFFFFFF, chance.randrange(1 << 32))),
    )
    profile = chance.choice((0xBEDE, 0x1000, chance.randrange(0x10000)))
    extension = struct.pack("!HH", profile, chance.choice((0, 1, 3, 0xFFFF)))
    return header + extension + chance.randbytes(chance.randrange(1100))


def _rtcp(chance: random.Random) -> bytes:
    parts = b""
    for _ in range(chance.randrange(1, 5)):
        body = chance.randbytes(4 * chance.randrange(12))
        words = len(body) // 4 if chance.random() < 0.7 else chance.randrange(0x10000)
        kind = chance.randrange(200, 208)
        parts += struct.pack("!BBH", 0x80 | chance.randrange(64), kind, words) + body
    return parts + chance.randbytes(14)  # where an SRTCP index and tag would be


def datagrams(seed: int, count: int) -> Iterator[bytes]:
    """The same datagrams for the same seed; a third is cut short, a tenth has a bit flipped."""
    chance = random.Random(seed)
    for _ in range(count):
        make = chance.choice((_stun, _dtls, _rtp, _rtcp, lambda c: c.randbytes(c.randrange(1400))))
        packet = bytearray(make(chance))
        if chance.random() < 0.33:
            del packet[chance.randrange(len(packet) + 1) :]
        if packet and chance.random() < 0.1:
            packet[chance.randrange(len(packet))] ^= 1 << chance.randrange(8)
        yield bytes(packet)


async def spray(
    targets: Sequence[tuple[str, int]],
    count: int,
    seed: int,
    pretend: Sequence[tuple[str, int]] = (),
) -> int:
    """Sends `count` datagrams round robin; half of them under the sources in `pretend`.

    A forged source is what an attacker who knows a call's addresses would send. Returns how many
    datagrams came back to the strangers' own sockets.
    """
    answers = 0
    chance = random.Random(seed)
    with contextlib.ExitStack() as held:
        strangers = [
            held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(SOURCES)
        ]
        for stranger in strangers:
            stranger.setblocking(False)
        raw = None
        if pretend:
            raw = held.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            )
        for number, packet in enumerate(datagrams(seed, count)):
            target = targets[number % len(targets)]
            if raw is not None and chance.random() < 0.5:
                raw.sendto(forged(chance.choice(pretend), target, packet), (target[0], 0))
            else:
                with contextlib.suppress(OSError):
                    strangers[number % SOURCES].sendto(packet, target)
            if number % BURST == 0:
                await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(0.5)
        for stranger in strangers:
            with contextlib.suppress(OSError):
                while stranger.recv(2048):
                    answers += 1
    return answers
