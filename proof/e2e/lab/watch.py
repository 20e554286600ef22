"""Waiting for media, and measuring its silences."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.clients import Client, Look, StreamView

POLL_SECONDS = 0.25
WINDOW_SECONDS = 1.0
VIDEO_PER_WINDOW = 5  # of 15 frames a second, on a machine that is busy with other tests
AUDIO_PER_WINDOW = 8  # of 20 polls
GAP_MAX_SECONDS = 15.0  # what the tests assert; what is measured is printed


async def until(
    what: str, condition: Callable[[], Awaitable[str | None]], within: float = 20.0
) -> float:
    """Polls until the condition returns None; fails with the last reason. Returns the seconds."""
    started = time.monotonic()
    while True:
        missing = await condition()
        passed = time.monotonic() - started
        if missing is None:
            return passed
        if passed > within:
            raise AssertionError(f"{what}: not within {within:.0f} s: {missing}")
        await asyncio.sleep(POLL_SECONDS)


async def happens(client: Client, name: str, within: float = 8.0, **detail: Any) -> None:
    """Waits for an event of that name with these fields."""

    async def condition() -> str | None:
        if client.happened(name, **detail):
            return None
        return f"{client.identity} was told {[e['event'] for e in client.events[-6:]]}"

    await until(f"{name} {detail}", condition, within)


def expected_streams(client: Client, clients: Iterable[Client]) -> set[str]:
    """What everybody else sends."""
    return {stream for other in clients if other is not client for stream in other.sending}


def longest_gap(stream: StreamView, since: float, until_: float) -> float:
    """The longest span without an arrival between the two moments, in seconds."""
    moments = [since, *(at for at in stream.arrivals if since < at < until_), until_]
    return max(after - before for before, after in itertools.pairwise(moments))


def flows(look: Look, stream: str) -> bool:
    """Whether the stream arrived steadily in the last second."""
    view = look.streams.get(stream)
    if view is None:
        return False
    recent = sum(1 for at in view.arrivals if at > look.at - WINDOW_SECONDS)
    is_video = bool(view.sizes)
    return recent >= (VIDEO_PER_WINDOW if is_video else AUDIO_PER_WINDOW)


def silence(clients: Sequence[Client], looks: Sequence[Look]) -> str | None:
    """Which expected streams do not flow, and how far each one came; None when all do."""
    silent = []
    for client, look in zip(clients, looks, strict=True):
        for stream in sorted(expected_streams(client, clients)):
            if flows(look, stream):
                continue
            view = look.streams.get(stream)
            if stream not in look.publications:
                state = "not published"
            elif view is None:
                state = "not subscribed"
            else:
                state = f"{view.total} arrivals, {len(view.arrivals)} in 2 s; {view.state}"
            silent.append(f"{client.identity} <- {stream} ({state})")
    return f"silent: {', '.join(silent)}" if silent else None


async def everybody_receives(clients: Sequence[Client], within: float = 25.0) -> float:
    """Waits until each client decodes every stream of every other; returns the seconds."""

    async def condition() -> str | None:
        looks = await asyncio.gather(*(c.look(time.time() - 2) for c in clients))
        return silence(clients, looks)

    return await until("media of everybody at everybody", condition, within)


@dataclass(frozen=True)
class Gaps:
    """Longest silences per receiver and stream in one span."""

    by_pair: dict[tuple[str, str], float]

    @property
    def worst(self) -> float:
        return max(self.by_pair.values(), default=0.0)

    @property
    def least(self) -> float:
        return min(self.by_pair.values(), default=0.0)

    def of_receivers(self, identities: Iterable[str]) -> Gaps:
        """Only these receivers."""
        wanted = set(identities)
        return Gaps({pair: gap for pair, gap in self.by_pair.items() if pair[0] in wanted})

    def without_sender(self, identity: str) -> Gaps:
        """Without the streams of one sender."""
        return Gaps(
            {
                pair: gap
                for pair, gap in self.by_pair.items()
                if not pair[1].startswith(identity + "/")
            }
        )

    def describe(self) -> str:
        """One line a receiver: its longest audio and video silence in milliseconds."""
        lines = []
        for identity in sorted({pair[0] for pair in self.by_pair}):
            mine = {s: g for (who, s), g in self.by_pair.items() if who == identity}
            parts = [f"{stream} {gap * 1000:.0f} ms" for stream, gap in sorted(mine.items())]
            lines.append(f"    {identity}: {', '.join(parts)}")
        return "\n".join(lines)


async def gaps_since(clients: Sequence[Client], since: float) -> Gaps:
    """The longest silence of each expected stream from that moment until now."""
    looks = await asyncio.gather(*(c.look(since - 1) for c in clients))
    found: dict[tuple[str, str], float] = {}
    for client, look in zip(clients, looks, strict=True):
        for stream in expected_streams(client, clients):
            view = look.streams.get(stream)
            found[client.identity, stream] = (
                longest_gap(view, since, look.at) if view else look.at - since
            )
    return Gaps(found)


async def recovered(
    clients: Sequence[Client], since: float, bite: float = 0.25, within: float = 40.0
) -> Gaps:
    """Waits until every stream fell silent for `bite` seconds after `since` and flows again."""

    async def condition() -> str | None:
        gaps = await gaps_since(clients, since)
        unhurt = [f"{who} <- {s}" for (who, s), gap in gaps.by_pair.items() if gap < bite]
        if unhurt:
            return f"the fault has not bitten: {', '.join(sorted(unhurt))}"
        looks = await asyncio.gather(*(c.look(time.time() - 2) for c in clients))
        return silence(clients, looks)

    await until("media after the fault", condition, within)
    return await gaps_since(clients, since)


def nobody_disconnected(clients: Iterable[Client], since: float = 0.0) -> None:
    """Asserts that no SDK gave its session up."""
    for client in clients:
        assert not client.happened("disconnected", since), (
            f"{client.identity} was disconnected: {client.happened('disconnected', since)}"
        )


async def identities_are_single(clients: Sequence[Client], within: float = 10.0) -> None:
    """Every client sees exactly the others, each once, and each under its present sid."""

    async def condition() -> str | None:
        looks = await asyncio.gather(*(c.look(time.time()) for c in clients))
        sids = {c.identity: look.sid for c, look in zip(clients, looks, strict=True)}
        for client, look in zip(clients, looks, strict=True):
            wanted = {who: sid for who, sid in sids.items() if who != client.identity}
            if look.participants != wanted:
                return f"{client.identity} sees {look.participants}, not {wanted}"
            if len(look.publications) != len(set(look.publications)):
                return f"{client.identity} sees doubled tracks: {sorted(look.publications)}"
        return None

    await until("identities", condition, within)


def no_renewal(clients: Iterable[Client], since: float) -> None:
    """Asserts that nobody had to reconnect since then."""
    for client in clients:
        for name in ("reconnecting", "signal_reconnecting", "disconnected"):
            assert not client.happened(name, since), f"{client.identity}: {name}"
