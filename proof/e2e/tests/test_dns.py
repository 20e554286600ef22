"""The name servers as resolvers meet them, and their answers when gateways and regions die."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from lab.fleet import Fleet
from lab.resolver import Resolver, ask_server
from lab.settings import REGIONS, ZONE, region_address
from lab.watch import until

TTL = 5
PROBATION_MAX_SECONDS = 130.0
GONE_MAX_SECONDS = 15.0  # what is asserted on a busy machine; what is measured is printed


@pytest_asyncio.fixture(loop_scope="session")
async def calm(fleet: Fleet) -> Fleet:
    """The fleet, when no region is on probation any more because of what a test before has done to it."""

    async def all_serve() -> str | None:
        for region in REGIONS:
            metrics = await fleet.metrics(f"{region}-dns")
            serving = metrics.total("outlast_dns_gateways", standing="serves")
            if serving < len(REGIONS):
                return f"{region}-dns sends clients to {serving:.0f} gateways"
        return None

    await until("no region is on probation", all_serve, PROBATION_MAX_SECONDS)
    return fleet


@pytest_asyncio.fixture(loop_scope="session")
async def resolver(calm: Fleet, tmp_path: Path) -> AsyncIterator[Resolver]:
    resolver = Resolver([calm.name_server(region) for region in REGIONS], tmp_path)
    await resolver.start()
    yield resolver
    resolver.stop()


async def test_dig_and_kdig_find_gateways_of_two_regions(calm: Fleet) -> None:
    for tool in ("dig", "kdig"):
        for region in REGIONS:
            server = calm.name_server(region)
            for transport in ("+notcp", "+tcp"):
                answer = await ask_server(server, ZONE, "A", transport, tool=tool)
                assert answer.status == "NOERROR" and "aa" in answer.flags, answer.text
                assert "ra" not in answer.flags
                addresses = answer.addresses()
                assert addresses[0] == region_address(region), "its own region's first"
                assert len(set(addresses)) == 2
                assert {ttl for _, ttl, _ in answer.records("A")} == {TTL}
    # Who wants a region has it.
    answer = await ask_server(calm.name_server("eu"), f"ap.{ZONE}", "A")
    assert answer.addresses() == [region_address("ap")]


async def test_dig_and_kdig_are_told_what_is_not_there(fleet: Fleet) -> None:
    server = fleet.name_server("us")
    for words, status, authority in [
        ((ZONE, "AAAA"), "NOERROR", True),
        ((ZONE, "TYPE65"), "NOERROR", True),
        ((f"nobody.{ZONE}", "A"), "NXDOMAIN", True),
        ((f"_8000._https.{ZONE}", "TYPE65"), "NXDOMAIN", True),
        (("example.org", "A"), "REFUSED", False),
        (("version.bind", "TXT", "CH"), "REFUSED", False),
    ]:
        for tool in ("dig", "kdig"):
            answer = await ask_server(server, *words, tool=tool)
            assert answer.status == status, answer.text
            assert len(answer.records("SOA")) == int(authority)
    # Neither a transfer nor an update.
    answer = await ask_server(server, ZONE, "AXFR")
    assert "Transfer failed" in answer.text and not answer.records("A")
    answer = await ask_server(server, ZONE, "A", "+opcode=5")
    assert answer.status == "NOTIMP", answer.text


async def test_dig_and_kdig_see_the_delegation_and_extensions(calm: Fleet) -> None:
    server = calm.name_server("ap")
    answer = await ask_server(server, ZONE, "NS")
    names = {data for _, _, data in answer.records("NS")}
    assert names == {f"{region}-dns.ns.{ZONE}." for region in REGIONS}
    assert set(answer.addresses()) == {region_address(region) for region in REGIONS}, "glue"
    answer = await ask_server(server, ZONE, "SOA", tool="kdig")
    assert len(answer.records("SOA")) == 1
    answer = await ask_server(server, ZONE, "A", "+edns=1", "+noednsneg")
    assert answer.status == "BADVERS", answer.text
    answer = await ask_server(server, ZONE, "A", "+subnet=198.51.100.0/24")
    assert "CLIENT-SUBNET: 198.51.100.0/24/24" in answer.text
    assert answer.addresses()[0] == region_address("us"), "that network is near us"
    # Everything that dig asks for at once: cookies, padding, client subnet, a NSID, DNSSEC.
    answer = await ask_server(server, ZONE, "A", "+cookie", "+nsid", "+dnssec", "+padding=64")
    assert answer.status == "NOERROR" and len(answer.addresses()) == 2, answer.text


async def test_a_region_that_dies_leaves_the_answers(fleet: Fleet, resolver: Resolver) -> None:
    survivors = [fleet.name_server(region) for region in ("us", "ap")]
    dead = region_address("eu")
    assert dead in (await ask_server(fleet.name_server("eu"), ZONE, "A")).addresses()
    assert len((await resolver.ask(f"eu.{ZONE}", "A")).addresses()) == 1
    for process in fleet.region("eu"):
        process.kill()
    killed = time.monotonic()

    async def is_gone() -> str | None:
        for server in survivors:
            for name in (ZONE, f"eu.{ZONE}"):
                if dead in (await ask_server(server, name, "A")).addresses():
                    return f"{server.name} still names it"
        return None

    await until("the dead region is gone from the answers", is_gone, GONE_MAX_SECONDS)
    print(f"\n  gone from the name servers' answers after {time.monotonic() - killed:.1f} s")

    async def is_gone_from_the_resolver() -> str | None:
        for name in (ZONE, f"eu.{ZONE}"):
            answer = await resolver.ask(name, "A")
            if answer.status != "NOERROR" or not answer.addresses():
                return f"no answer: {answer.text}"
            if dead in answer.addresses():
                return "the resolver still names it"
        return None

    await until("and from a resolver's", is_gone_from_the_resolver, GONE_MAX_SECONDS)
    print(f"  gone from the resolver's after {time.monotonic() - killed:.1f} s (TTL {TTL})")
    # It comes back, and is named last for a while; who asks for it by name has it.
    await fleet.heal()

    async def is_back() -> str | None:
        answer = await ask_server(fleet.name_server("eu"), f"eu.{ZONE}", "A")
        return None if answer.addresses() == [dead] else f"{answer.addresses()}"

    await until("the region is back", is_back, GONE_MAX_SECONDS)
    assert dead not in (await ask_server(survivors[0], ZONE, "A")).addresses()


async def test_a_gateway_that_stops_leaves_the_answers_first(fleet: Fleet) -> None:
    server, address = fleet.name_server("us"), region_address("ap")
    assert address in (await ask_server(server, f"ap.{ZONE}", "A")).addresses()
    gateway = fleet.gateway("ap")
    gateway.freeze()

    async def is_gone() -> str | None:
        answer = await ask_server(server, f"ap.{ZONE}", "A")
        return "still named" if address in answer.addresses() else None

    took = await until("a frozen gateway is gone", is_gone, GONE_MAX_SECONDS)
    print(f"\n  a frozen gateway is gone after {took:.1f} s")
    gateway.wake()

    async def is_back() -> str | None:
        answer = await ask_server(server, f"ap.{ZONE}", "A")
        return None if address in answer.addresses() else "not named"

    await until("it is back", is_back, GONE_MAX_SECONDS)
    gateway.terminate()
    took = await until("a gateway that stops is gone", is_gone, GONE_MAX_SECONDS)
    print(f"  one that stops is gone after {took:.1f} s")
