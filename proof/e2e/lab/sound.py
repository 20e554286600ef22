"""Whether sound went on under a fault, by counting packets and not time.

Opus sends fifty packets a second whatever is said. A node that stops forwarding loses them for good
and a busy machine only delivers them late: so what was sent and what arrived must come together
again, however long that takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from lab.clients import Client
from lab.watch import until

PACKETS_PER_SECOND = 50
MISSING_MAX = PACKETS_PER_SECOND // 5  # 200 ms of sound


@dataclass(frozen=True)
class Sound:
    """Packets at one moment: sent by each client, received of each stream by each client."""

    sent: dict[str, int]
    received: dict[tuple[str, str], int]


async def sound_now(clients: Sequence[Client]) -> Sound:
    """Counts at every client, at nearly the same time."""
    counts = await asyncio.gather(*(client.call("sound") for client in clients))
    return Sound(
        {client.identity: count["sent"] for client, count in zip(clients, counts, strict=True)},
        {
            (client.identity, stream): packets
            for client, count in zip(clients, counts, strict=True)
            for stream, packets in count["received"].items()
        },
    )


def missing(before: Sound, now: Sound) -> dict[tuple[str, str], int]:
    """Packets sent since and not received, by receiver and stream."""
    found = {}
    for (receiver, stream), packets in before.received.items():
        sender = stream.split("/")[0]
        if sender not in before.sent:
            continue
        sent = now.sent[sender] - before.sent[sender]
        found[receiver, stream] = sent - (now.received.get((receiver, stream), 0) - packets)
    return found


async def sound_went_on(clients: Sequence[Client], before: Sound) -> int:
    """Waits until no stream misses more than 200 ms of what was sent since; returns the most."""
    worst = 0

    async def condition() -> str | None:
        nonlocal worst
        lost = missing(before, await sound_now(clients))
        assert lost, "nobody received sound before"
        worst = max(lost.values())
        bad = {pair: packets for pair, packets in lost.items() if packets > MISSING_MAX}
        return f"packets of sound are missing: {bad}" if bad else None

    await until("all sound that was sent", condition, 8)
    return max(worst, 0)
