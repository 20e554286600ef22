"""A block of ports that is free on every address of the fleet, found by trying."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Sequence

FIRST, LAST = 20_000, 32_000  # below Linux's ephemeral range, which starts at 32,768
TRIES = 50


class NoPortsError(Exception):
    """No free block was found."""


def free_block(addresses: Sequence[str], size: int) -> int:
    """The first port of a block that can be bound now, TCP and UDP, on each address.

    Another process may take one before the servers do: the fleet then fails to become ready and is
    started again on another block.
    """
    pick = random.Random(os.getpid() ^ random.SystemRandom().getrandbits(32))
    for _ in range(TRIES):
        base = pick.randrange(FIRST, LAST - size, size)
        if _is_free(addresses, base, size):
            return base
    raise NoPortsError(f"no {size} free ports between {FIRST} and {LAST} on {addresses}")


def _is_free(addresses: Sequence[str], base: int, size: int) -> bool:
    with contextlib.ExitStack() as held:
        for address in addresses:
            for port in range(base, base + size):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = held.enter_context(socket.socket(socket.AF_INET, kind))
                    try:
                        probe.bind((address, port))
                    except OSError:
                        return False
    return True
