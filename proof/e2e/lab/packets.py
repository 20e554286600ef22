"""Datagrams on the loopback: counting what a node sends, and sending what nobody should accept.

Counting needs CAP_NET_RAW; a classic BPF filter in the kernel keeps its cost at nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
IP_HEADER_BYTES = 20
ETHERNET_HEADER_BYTES = 14


@dataclass
class Seen:
    """Datagrams of one sender."""

    started: float = field(default_factory=time.time)
    packets: list[tuple[float, bytes]] = field(default_factory=list)  # at, IPv4 packet's start

    @property
    def datagrams(self) -> int:
        return len(self.packets)

    def describe(self) -> str:
        """The first few, for a failure's message."""
        shown = [
            f"{at - self.started:.3f} s: {len(raw)} bytes, first {raw[28:30].hex()}"
            for at, raw in self.packets[:5]
        ]
        return f"{self.datagrams} datagrams ({'; '.join(shown)})"

    def destinations(self) -> list[tuple[str, int]]:
        """Addresses they were sent to, most frequent first."""
        counts: dict[tuple[str, int], int] = {}
        for _, raw in self.packets:
            where = (socket.inet_ntoa(raw[16:20]), int.from_bytes(raw[22:24], "big"))
            counts[where] = counts.get(where, 0) + 1
        return sorted(counts, key=lambda where: -counts[where])


def _filter(address: str | None, first: int, last: int) -> bytes:
    """BPF: IPv4 UDP from `address` and a source port of first..=last, seen at Ethernet level."""
    ip = ETHERNET_HEADER_BYTES
    source = int.from_bytes(socket.inet_aton(address), "big") if address else 0
    code = [
        (0x30, 0, 0, ip + 9),  # ldb protocol
        (0x15, 0, 6, socket.IPPROTO_UDP),
        (0x20, 0, 0, ip + 12),  # ld source address
        (0x15, 0, 4, source) if address else (0x15, 0, 0, 0),
        (0x28, 0, 0, ip + IP_HEADER_BYTES),  # ldh source port; nobody here sends IP options
        (0x35, 0, 2, first),
        (0x25, 1, 0, last),
        (0x06, 0, 0, 0xFFFF),  # accept
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


@contextlib.asynccontextmanager
async def count_sent(address: str | None, ports: Sequence[int]) -> AsyncIterator[Seen]:
    """Counts datagrams that leave these ports (of that address) while the block runs."""
    program = _filter(address, min(ports), max(ports))
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tap:
        tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
        tap.bind(("lo", ETH_P_IP))
        tap.setblocking(False)
        seen = Seen()

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    raw = tap.recv(2048)  # once each: only ETH_P_ALL sees packets go out as well
                    seen.packets.append((time.time(), raw[ETHERNET_HEADER_BYTES:]))

        loop = asyncio.get_running_loop()
        loop.add_reader(tap.fileno(), read)
        try:
            yield seen
            read()
        finally:
            loop.remove_reader(tap.fileno())


def forged(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 packet whose source is somebody else's, for a raw socket."""
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0) + payload
    total = IP_HEADER_BYTES + len(udp)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45, 0, total, 0, 0, 64, socket.IPPROTO_UDP, 0,
        socket.inet_aton(source[0]), socket.inet_aton(target[0]),
    )  # fmt: skip
    return header + udp
