"""What operators and directories do to a running call: drains, undone drains, a directory wiped."""

from __future__ import annotations

import asyncio
import time

from livekit.api import ParticipantPermission, RoomParticipantIdentity, UpdateParticipantRequest

from lab.api import Api
from lab.fleet import Fleet, Process
from lab.party import Party
from lab.settings import REGIONS
from lab.sound import sound_now, sound_went_on
from lab.watch import (
    GAP_MAX_SECONDS,
    everybody_receives,
    gaps_since,
    identities_are_single,
    no_renewal,
    nobody_disconnected,
    recovered,
    until,
)

WAYS = [("eu", "us"), ("us", "ap"), ("ap", "eu")]
WATCH_SECONDS = 3.0


async def serves_again(fleet: Fleet, node: Process) -> None:
    async def is_ready() -> str | None:
        status = await fleet.status(node.server, "/healthz/ready")
        return None if status == 200 else f"{node.name} answers {status}"

    await until("the node serves again", is_ready, 5)


async def test_a_drain_moves_eight_people(party: Party, fleet: Fleet, api: Api) -> None:
    clients = await party.call(2, 6, list(WAYS), cameras=4)
    home = await fleet.home()
    fault = time.time()
    code, said = await fleet.drain(home.name, "--deadline", "20s", "--wait")
    took = time.time() - fault
    assert code == 0, said
    gaps = await recovered(clients, fault)
    print(f"\n  drain of {home.name}: done after {took:.1f} s, longest silence {gaps.worst:.2f} s")
    print(gaps.describe())
    assert gaps.worst <= GAP_MAX_SECONDS
    nobody_disconnected(clients)
    await identities_are_single(clients)
    assert home.is_running(), "a drained node goes on"
    moved = await fleet.home()
    assert moved.name != home.name
    assert (await fleet.metrics(home.name)).total("outlast_node_rooms") == 0

    # It takes nobody until the drain is called off, and then it serves as before.
    assert await fleet.status(home.server, "/healthz/ready") == 503
    code, said = await fleet.drain(home.name, "--undo")
    assert code == 0, said
    await serves_again(fleet, home)
    since = time.time()
    await asyncio.sleep(WATCH_SECONDS)
    no_renewal(clients, since)


async def test_a_drain_that_is_called_off_moves_nobody_more(party: Party, fleet: Fleet) -> None:
    clients = await party.call(0, 4, list(WAYS))
    home = await fleet.home()
    # One a second at most: after the first, the room is elsewhere and the others follow it.
    code, said = await fleet.drain(home.name, "--deadline", "60s", "--pace", "1")
    assert code == 0, said
    code, said = await fleet.drain(home.name, "--undo")
    assert code == 0, said
    await everybody_receives(clients)
    nobody_disconnected(clients)
    await identities_are_single(clients)
    await fleet.home()


async def test_a_drain_of_a_region_leaves_it_to_the_others(party: Party, fleet: Fleet) -> None:
    clients = await party.call(0, 3, list(WAYS))
    region = (await fleet.home()).server.region
    fault = time.time()
    code, said = await fleet.drain(region, "--deadline", "20s", "--wait")
    assert code == 0, said
    gaps = await recovered(clients, fault)
    print(f"\n  drain of region {region}: longest silence {gaps.worst:.2f} s")
    assert gaps.worst <= GAP_MAX_SECONDS
    nobody_disconnected(clients)
    await identities_are_single(clients)
    assert (await fleet.home()).server.region != region
    nodes = [p for p in fleet.region(region) if p.server.role == "node"]
    assert nodes and all(node.name in said for node in nodes), said
    for node in nodes:
        assert await fleet.status(node.server, "/healthz/ready") == 503
    # The region's gateway is where it was: who comes through it is sent to another region.
    late = await party.python("late")
    await party.join(late, region)
    await late.publish()
    await everybody_receives([*clients, late])
    assert (await fleet.home()).server.region != region

    code, said = await fleet.drain(region, "--undo")
    assert code == 0, said
    for node in nodes:
        await serves_again(fleet, node)


async def test_a_drain_of_a_stranger_is_a_sentence(fleet: Fleet) -> None:
    code, said = await fleet.drain("nobody")
    assert code != 0
    assert "nobody" in said, said
    assert "panicked" not in said, said


async def test_a_directory_wiped_during_a_call_is_refilled(
    party: Party, fleet: Fleet, api: Api
) -> None:
    clients = await party.call(1, 2, list(WAYS))
    home = await fleet.home()
    sound = await sound_now(clients)
    since = time.time()
    for region in REGIONS:
        status = await fleet.wipe_directory(region)
        assert status // 100 == 2, f"the hook of {region} answers {status}"
    await asyncio.sleep(WATCH_SECONDS)
    lost = await sound_went_on(clients, sound)
    gaps = await gaps_since(clients, since)
    print(
        f"\n  directories wiped: longest silence {gaps.worst * 1000:.0f} ms, "
        f"packets of sound missing: {lost}"
    )
    no_renewal(clients, since)
    # Who comes now finds the room where it was.
    late = await party.python("late")
    await party.join(late, "ap")
    await late.publish()
    await everybody_receives([*clients, late])
    assert (await fleet.home()).name == home.name
    no_renewal(clients, since)


async def test_what_an_operator_said_of_somebody_outlives_the_node(
    party: Party, fleet: Fleet, api: Api
) -> None:
    speaker, listener = await party.python("speaker"), await party.python("listener")
    await party.join(speaker, "eu", "us")
    await party.join(listener, "us", "ap")
    await speaker.publish()
    await everybody_receives([speaker, listener])
    await api.rooms("ap").update_participant(
        UpdateParticipantRequest(
            room=party.room,
            identity="speaker",
            permission=ParticipantPermission(can_subscribe=True, can_publish=False),
        )
    )

    async def silenced() -> str | None:
        person = await api.rooms("us").get_participant(
            RoomParticipantIdentity(room=party.room, identity="speaker")
        )
        wanted = not person.permission.can_publish and not person.tracks
        return None if wanted else f"{person.permission} with {len(person.tracks)} tracks"

    await until("the speaker publishes nothing", silenced, 5)
    home = await fleet.home()
    fault = home.kill()

    # Both come back with the tokens that they came with first, which let the speaker publish.
    async def back() -> str | None:
        missing = [
            client.identity
            for client in (speaker, listener)
            if not client.happened("reconnected", fault)
        ]
        return f"{missing} are not back" if missing else None

    await until("both are back", back, GAP_MAX_SECONDS)
    assert (await fleet.home()).name != home.name
    await until("the speaker publishes nothing elsewhere either", silenced, 5)
    await asyncio.sleep(WATCH_SECONDS)
    assert await silenced() is None
    assert not listener.happened("track_subscribed", fault)
    nobody_disconnected([speaker, listener])
