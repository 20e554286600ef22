"""The wrappers of the SDKs, which are given the gateways of several regions."""

from __future__ import annotations

import asyncio
import time

from lab.clients import Client
from lab.fleet import Fleet
from lab.party import Party
from lab.settings import REGIONS
from lab.watch import (
    GAP_MAX_SECONDS,
    everybody_receives,
    gaps_since,
    identities_are_single,
    nobody_disconnected,
    recovered,
    until,
)

WATCH_SECONDS = 3.0
SIGNAL_MAX_SECONDS = 15.0  # what is asserted on a busy machine; what is measured is printed


async def wrapped(party: Party, regions: list[str]) -> list[Client]:
    """A tab and a Python process with the wrappers, in a call with one stock client."""
    clients: list[Client] = [await party.tab("wrapped tab"), await party.python("wrapped py")]
    for number, client in enumerate(clients):
        await party.join_any(client, regions)
        await client.publish(440.0 + 120 * number, 60 + 100 * number)
    stock = await party.python("stock py")
    await party.join(stock, "us", "ap")
    await stock.send("audio", "microphone", hertz=800.0)
    clients.append(stock)
    await everybody_receives(clients)
    return clients


async def server_of(client: Client, party: Party) -> str:
    """The region whose gateway the wrapper has dialled last."""
    server = (await client.call("where"))["server"].rstrip("/")
    return next(region for region in REGIONS if party.url(region) == server)


async def leaves(client: Client, party: Party, region: str) -> str:
    """Waits until the wrapper has dialled another region's gateway, and tells which."""

    async def condition() -> str | None:
        still = await server_of(client, party) == region
        return f"{client.identity} goes through {region}" if still else None

    await until(f"{client.identity} leaves {region}", condition, SIGNAL_MAX_SECONDS)
    return await server_of(client, party)


async def answers(client: Client, other: Client) -> None:
    """A call of a method goes over the data channel, and tells that both are in one room."""
    said = await client.call("rpc", to=other.identity, payload="ping")
    assert said == f"{other.identity} heard ping"


async def test_the_first_gateway_that_answers_is_dialled(party: Party, fleet: Fleet) -> None:
    fleet.gateway("eu").kill()
    fleet.gateway("us").freeze()
    for client in (await party.tab("tab"), await party.python("py")):
        took = await party.join_any(client, ["eu", "us", "ap"])
        print(f"\n  {client.identity}: past a dead and a frozen gateway in {took['seconds']:.2f} s")
        assert await server_of(client, party) == "ap"


async def test_a_gateway_tells_of_all_of_them(party: Party, fleet: Fleet) -> None:
    for client in (await party.tab("tab"), await party.python("py")):
        await party.join_by_endpoint(client, "eu")
        # Whoever comes from loopback is near ap, as the file of locations has it.
        assert await server_of(client, party) == "ap"
        fleet.gateway("ap").kill()
        # The next in the list is the gateway that was asked: its own region, and then the others.
        assert await leaves(client, party, "ap") in ("eu", "us")
        nobody_disconnected([client])
        await fleet.heal()


async def test_a_gateway_is_lost_and_media_goes_on(party: Party, fleet: Fleet) -> None:
    clients = await wrapped(party, list(REGIONS))
    region = "eu"
    for fault in ("kill", "freeze"):
        assert {await server_of(client, party) for client in clients[:2]} == {region}
        process = fleet.gateway(region)
        at = process.kill() if fault == "kill" else process.freeze()
        next_regions = set()
        for client in clients[:2]:
            next_regions.add(await leaves(client, party, region))
            print(f"\n  {fault} of {region}-gw: {client.identity} after {time.time() - at:.1f} s")
        await asyncio.sleep(WATCH_SECONDS)
        gaps = await gaps_since(clients, at)
        print(f"  longest silence {gaps.worst:.2f} s\n{gaps.describe()}")
        assert gaps.worst <= GAP_MAX_SECONDS
        await everybody_receives(clients)
        nobody_disconnected(clients)
        await identities_are_single(clients)
        await answers(clients[0], clients[1])
        await fleet.heal()
        (region,) = next_regions


async def test_a_whole_region_is_lost(party: Party, fleet: Fleet) -> None:
    clients = await wrapped(party, list(REGIONS))
    home = (await fleet.home()).server.region
    at = time.time()
    for process in fleet.region(home):
        process.kill()
    gaps = await recovered(clients, at)
    print(f"\n  {home} killed: longest silence {gaps.worst:.2f} s\n{gaps.describe()}")
    assert gaps.worst <= GAP_MAX_SECONDS
    nobody_disconnected(clients)
    await identities_are_single(clients)
