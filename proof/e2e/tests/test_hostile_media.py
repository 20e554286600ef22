"""Show 6, the half that comes in at the media port: nonsense while a call runs."""

from __future__ import annotations

import asyncio
import time

import pytest

from lab.external import External
from lab.fleet import Fleet
from lab.memory import bounded
from lab.packets import count_sent
from lab.party import Party
from lab.spray import spray
from lab.watch import everybody_receives, gaps_since, no_renewal

MEMORY_MAX = 16 << 20
DATAGRAMS = 20_000
SEED = 7
GAP_MAX_SECONDS = 1.0


async def test_nonsense_at_the_media_port_harms_no_call(
    party: Party, target: Fleet | External
) -> None:
    clients = await party.call(1, 2, [("eu", None), ("us", None), ("ap", None)])
    if isinstance(target, Fleet):
        home = (await target.home()).server
        ports = [(home.address, port) for port in home.media]
    else:
        ports = target.media()
        if not ports:
            pytest.skip("OUTLAST_E2E_MEDIA does not name the media port")
    bound = ports[0][0] if isinstance(target, Fleet) else None  # others may send from any address
    async with count_sent(bound, [port for _, port in ports]) as seen:
        await asyncio.sleep(0.5)
    people = seen.destinations()
    print(f"\n  the call's addresses: {people}")
    assert len(people) >= len(clients), "the call's addresses are not known"

    start = time.time()
    with bounded(target, MEMORY_MAX, f"{DATAGRAMS} datagrams of nonsense"):
        answers = await spray(ports, DATAGRAMS, SEED)
        strangers = await gaps_since(clients, start)
        print(f"\n  from strangers: {strangers.worst * 1000:.0f} ms of silence, {answers} answers")
        assert answers == 0, "strangers got answers"
        no_renewal(clients, start)

        start = time.time()
        await spray(ports, DATAGRAMS, SEED + 1, pretend=people)
        await everybody_receives(clients)
    spoofed = await gaps_since(clients, start)
    print(f"  half of them from the call's own addresses: {spoofed.worst * 1000:.0f} ms")
    no_renewal(clients, start)
    assert max(strangers.worst, spoofed.worst) <= GAP_MAX_SECONDS

    late = await party.python("late")
    await party.join(late, "eu")
    await late.publish()
    await everybody_receives([*clients, late])
