"""Show 1: two browser tabs and two Python clients through different regions, one room."""

from __future__ import annotations

import asyncio
import time

from lab.party import HERTZ, HUES, Party
from lab.watch import everybody_receives, identities_are_single, nobody_disconnected, until


async def test_four_clients_of_two_sdks_hear_see_and_talk_to_each_other(party: Party) -> None:
    clients = await party.call(2, 2, [("eu", None), ("us", None), ("ap", None), ("eu", None)])
    seconds = await everybody_receives(clients)
    print(f"\n  everybody receives everybody {seconds:.1f} s after the last publication")
    await identities_are_single(clients)

    # Tones and hues tell that each stream is its sender's, not merely a stream.
    python = [c for c in clients if c.identity.startswith("py")]
    await asyncio.sleep(1.2)
    for client in python:
        look = await client.look(time.time() - 1)
        for number, other in enumerate(clients):
            if other is client:
                continue
            heard = look.streams[f"{other.identity}/microphone"].hertz
            assert abs(heard - HERTZ[number]) <= 20, f"{other.identity} sounds like {heard} Hz"
            if other in python:
                hue = look.streams[f"{other.identity}/camera"].hue
                assert abs(hue - HUES[number]) <= 12, f"{other.identity} has hue {hue}"

    for sender in clients:
        await sender.call("chat", text=f"hello from {sender.identity}")
        await sender.call("send_data", text=f"reliable {sender.identity}", reliable=True)
        await sender.call("send_data", text=f"lossy {sender.identity}", reliable=False)
    receiver, bystander = clients[0], clients[1]
    await clients[3].call("send_data", text="for one only", to=[receiver.identity])

    async def all_told() -> str | None:
        for client in clients:
            for other in clients:
                if other is client:
                    continue
                who = other.identity
                if not client.happened("chat", sender=who, text=f"hello from {who}"):
                    return f"{client.identity} misses the chat of {who}"
                for kind in ("reliable", "lossy"):
                    if not client.happened("data", sender=who, text=f"{kind} {who}", topic="e2e"):
                        return f"{client.identity} misses {kind} data of {who}"
        if not receiver.happened("data", text="for one only"):
            return "the addressed packet has not arrived"
        return None

    await until("chat and data", all_told, 10)
    assert not bystander.happened("data", text="for one only")
    for client in clients:
        assert not client.happened("chat", sender=client.identity), "chat came back to its sender"
        assert len(client.happened("chat")) == len(clients) - 1

    for caller in clients:
        for callee in clients:
            if caller is not callee:
                answer = await caller.call("rpc", to=callee.identity, payload=caller.identity)
                assert answer == f"{callee.identity} heard {caller.identity}"
    nobody_disconnected(clients)
