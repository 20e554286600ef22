"""Show 4, 5 and the graceful stop: processes die under a call of both SDKs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from livekit.api import CreateRoomRequest

from lab.api import Api
from lab.clients import Client
from lab.fleet import Fleet
from lab.packets import count_sent
from lab.party import Party
from lab.settings import REGIONS
from lab.sound import sound_now, sound_went_on
from lab.watch import (
    GAP_MAX_SECONDS,
    Gaps,
    everybody_receives,
    gaps_since,
    identities_are_single,
    nobody_disconnected,
    recovered,
    until,
)

FROZEN_SECONDS = 20.0
SLOW_MILLISECONDS = (300, 900)  # of each tab, whenever it applies another answer
WATCH_SECONDS = 6.0  # how long a woken node is watched: longer than any of its timers
BASELINE_SECONDS = 4.0
DRAIN_SECONDS = 40.0


def others(region: str) -> list[str]:
    """The two regions that are not this one."""
    return [name for name in REGIONS if name != region]


async def whole_again(
    title: str, clients: Sequence[Client], fault: float, fleet: Fleet, api: Api, party: Party
) -> Gaps:
    """After a fault: media everywhere, nobody given up, nobody doubled; prints the gaps."""
    gaps = await recovered(clients, fault)
    print(f"\n  {title}: longest silence {gaps.worst:.2f} s\n{gaps.describe()}")
    assert gaps.worst <= GAP_MAX_SECONDS
    nobody_disconnected(clients)
    await identities_are_single(clients)
    regions = [region for region in REGIONS if fleet.gateway(region).is_running()]

    async def one_view() -> str | None:
        wanted = sorted(client.identity for client in clients)
        for region in regions:
            status, body = await api.raw(
                "ListParticipants",
                {"room": party.room},
                api.token(party.room, roomAdmin=True),
                region,
            )
            seen = sorted(p["identity"] for p in body["participants"]) if status == 200 else status
            if seen != wanted:
                return f"the gateway of {region} lists {seen}"
        return None

    await until("the same participants through every gateway", one_view, 10)
    return gaps


async def test_kill_the_node_that_holds_the_room(party: Party, fleet: Fleet, api: Api) -> None:
    clients = await party.call(2, 2, [("eu", "us"), ("us", "ap"), ("ap", "eu")])
    home = await fleet.home()
    fault = home.kill()
    await whole_again(f"kill -9 of {home.name}", clients, fault, fleet, api, party)
    assert (await fleet.home()).name != home.name


async def test_browsers_that_only_watch_hear_of_everybody_again(party: Party, fleet: Fleet) -> None:
    clients = await party.call(1, 2, [("eu", "us"), ("us", "ap")])
    watching = [await party.tab("watches"), await party.tab("watches too")]
    for tab in watching:
        await party.join(tab, "ap", "eu")
    everybody = [*clients, *watching]
    await everybody_receives(everybody)
    fault = (await fleet.home()).kill()
    gaps = await recovered(everybody, fault)
    print(f"\n  kill -9 under two who only watch: longest silence {gaps.worst:.2f} s\n{gaps.describe()}")
    assert gaps.worst <= GAP_MAX_SECONDS
    nobody_disconnected(everybody)


async def test_freeze_the_node_and_wake_it(party: Party, fleet: Fleet, api: Api) -> None:
    clients = await party.call(2, 2, [("eu", "us"), ("us", "ap"), ("ap", "eu")])
    home = await fleet.home()
    async with count_sent(home.server.address, home.server.media) as before:
        await asyncio.sleep(1)
    assert before.datagrams > 50, "the counter does not see the node's media"

    fault = home.freeze()
    await whole_again(f"SIGSTOP of {home.name}", clients, fault, fleet, api, party)
    successor = await fleet.home()
    await asyncio.sleep(max(0.0, fault + FROZEN_SECONDS - time.time()))

    sound = await sound_now(clients)
    async with count_sent(home.server.address, home.server.media) as woken:
        wake = home.wake()
        await asyncio.sleep(WATCH_SECONDS)
        assert home.is_running(), f"{home.name} ended when it was woken"
    assert woken.datagrams == 0, f"the woken node sent {woken.describe()}"
    gaps = await gaps_since(clients, wake)
    lost = await sound_went_on(clients, sound)
    print(
        f"  after SIGCONT: longest silence {gaps.worst:.2f} s, packets of sound missing: {lost}, "
        f"datagrams of {home.name}: 0"
    )
    assert (await fleet.metrics(home.name)).total("outlast_node_rooms") == 0
    assert (await fleet.metrics(successor.name)).total("outlast_node_rooms") == 1
    nobody_disconnected(clients)
    await identities_are_single(clients)


async def test_a_browser_that_is_slow_to_apply_answers_hears_everybody(
    party: Party, fleet: Fleet, api: Api
) -> None:
    # livekit-client never raises what comes between its Reconnected and two seconds after its join: a
    # page that applied an answer in between stayed silent for good (a graceful stop on a busy machine).
    clients = await party.call(2, 1, [("eu", "us"), ("us", "ap"), ("ap", "eu")])
    for slowness, client in zip(SLOW_MILLISECONDS, clients, strict=False):
        await client.call("slow", ms=slowness)
    home = await fleet.home()
    fault = home.kill()
    await whole_again(f"kill -9 of {home.name}, pages are slow", clients, fault, fleet, api, party)


async def test_kill_the_region_of_both_gateway_and_room(
    party: Party, fleet: Fleet, api: Api
) -> None:
    await api.rooms("eu").create_room(CreateRoomRequest(name=party.room, empty_timeout=60))
    home = await fleet.home()
    region = home.server.region
    second, third = others(region)
    clients = await party.call(2, 2, [(region, second), (region, third)])
    assert (await fleet.home()).name == home.name, "the room has moved by itself"

    fault = time.time()
    for process in fleet.region(region):
        process.kill()
    title = f"kill -9 of region {region}"
    await whole_again(title, clients, fault, fleet, api, party)
    assert (await fleet.home()).server.region != region


async def test_gateways_die_and_media_goes_on(party: Party, fleet: Fleet, api: Api) -> None:
    await api.rooms("eu").create_room(CreateRoomRequest(name=party.room, empty_timeout=60))
    home = await fleet.home()
    region = home.server.region
    foreign, unused = others(region)
    clients = await party.call(2, 2, [(region, unused), (foreign, region), (foreign, region)])
    theirs = [clients[1], clients[2]]
    start = time.time()
    await asyncio.sleep(BASELINE_SECONDS)
    quiet = await gaps_since(clients, start)
    sound = await sound_now(clients)

    fault = fleet.gateway(unused).kill()
    await asyncio.sleep(BASELINE_SECONDS)
    gaps = await gaps_since(clients, fault)
    lost = await sound_went_on(clients, sound)
    print(
        f"\n  quiet {quiet.worst * 1000:.0f} ms; gateway of {unused} (nobody's) killed: "
        f"{gaps.worst * 1000:.0f} ms, packets of sound missing: {lost}"
    )
    for client in clients:
        assert not client.happened("reconnecting", fault), f"{client.identity} reconnected"

    sound = await sound_now(clients)
    fault = fleet.gateway(foreign).kill()

    async def signalling_is_back() -> str | None:
        for client in theirs:
            if not client.happened("reconnected", fault):
                return f"{client.identity} has no signalling"
        return None

    seconds = await until("signalling through another gateway", signalling_is_back, 15)
    await asyncio.sleep(2)
    gaps = await gaps_since(clients, fault)
    lost = await sound_went_on(clients, sound)
    print(
        f"  gateway of {foreign} (of {', '.join(c.identity for c in theirs)}) killed: media "
        f"{gaps.worst * 1000:.0f} ms, packets of sound missing: {lost}, "
        f"signalling back after {seconds:.1f} s\n{gaps.describe()}"
    )
    for client in clients:
        assert not client.happened("track_unsubscribed", fault), "a resume kept no tracks"
    nobody_disconnected(clients)
    await identities_are_single(clients)

    # The resumed signalling carries commands both ways.
    await theirs[0].call("mute", name="camera", muted=True)
    stream = f"{theirs[0].identity}/camera"

    async def muted() -> str | None:
        told = [
            c
            for c in clients
            if c is not theirs[0] and c.happened("track_muted", fault, stream=stream)
        ]
        return None if len(told) == len(clients) - 1 else f"only {len(told)} were told"

    await until("a mute after the resume", muted, 8)


async def test_a_graceful_stop_moves_everybody(party: Party, fleet: Fleet, api: Api) -> None:
    clients = await party.call(2, 2, [("eu", "us"), ("us", "ap"), ("ap", "eu")])
    home = await fleet.home()
    fault = home.terminate()
    await whole_again(f"SIGTERM of {home.name}", clients, fault, fleet, api, party)
    code = await home.exited(DRAIN_SECONDS)
    assert code == 0, f"{home.name} ended with {code}"
    print(f"  {home.name} ended {time.time() - fault:.1f} s after SIGTERM")

    foreign = clients[0]
    gateway = fleet.gateway("eu")
    fault = gateway.terminate()
    code = await gateway.exited(DRAIN_SECONDS)
    assert code == 0, f"{gateway.name} ended with {code}"
    await everybody_receives(clients)
    await identities_are_single(clients)
    nobody_disconnected(clients)
    gaps = await gaps_since(clients, fault)
    print(f"  SIGTERM of {gateway.name}: {foreign.identity} and all: {gaps.worst:.2f} s")
    assert gaps.worst <= GAP_MAX_SECONDS


async def test_a_panic_in_one_session_costs_only_that_session(party: Party, fleet: Fleet) -> None:
    clients = await party.call(1, 3, [("eu", "us"), ("us", "ap"), ("ap", "eu")])
    home = await fleet.home()
    pid, victim = home.pid, clients[1]
    bystanders = [client for client in clients if client is not victim]

    start = time.time()
    await asyncio.sleep(BASELINE_SECONDS)
    quiet = await gaps_since(clients, start)
    sound = await sound_now(bystanders)

    fault = time.time()
    status = await fleet.panic(home.name, victim.identity)
    assert status // 100 == 2, f"the panic hook answers {status}"

    async def is_back() -> str | None:
        came = victim.happened("reconnected", fault)
        return None if came else f"{victim.identity} has not reconnected"

    await until("the session that panicked", is_back, 15)
    await everybody_receives(clients)
    assert home.is_running() and home.pid == pid
    assert (await fleet.home()).name == home.name
    for client in bystanders:
        for name in ("reconnecting", "signal_reconnecting"):
            assert not client.happened(name, fault), f"{client.identity}: {name}"
    gaps = await gaps_since(clients, fault)
    unhurt = gaps.of_receivers(c.identity for c in bystanders).without_sender(victim.identity)
    lost = await sound_went_on(bystanders, sound)
    print(
        f"\n  panic in {victim.identity}: its longest silence "
        f"{gaps.of_receivers([victim.identity]).worst:.2f} s, the others' "
        f"{unhurt.worst * 1000:.0f} ms (quiet: {quiet.worst * 1000:.0f} ms), "
        f"packets of their sound missing: {lost}"
    )
    nobody_disconnected(clients)
    await identities_are_single(clients)
