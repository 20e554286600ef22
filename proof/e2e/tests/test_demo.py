"""The demo: two people on the real page, a button that kills their region, and Ctrl-C."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from lab.demo import Demo, DemoTab
from lab.watch import GAP_MAX_SECONDS, until

FRAMES = 5  # more than this in a look's time means that pictures flow again
SAMPLES = 4_800  # 0.1 s of sound
LOOK_SECONDS = 0.7


async def media_everywhere(tabs: Sequence[DemoTab], left: str = "", within: float = 20.0) -> float:
    """Each tab decodes picture and sound of the one other, on another node than `left`."""

    async def condition() -> str | None:
        before = [await tab.seen() for tab in tabs]
        await asyncio.sleep(LOOK_SECONDS)
        for tab, old in zip(tabs, before, strict=True):
            new = await tab.seen()
            assert new.raw["in_room"] or not new.raw["error"], new.raw["error"]
            if len(new.others) != 1 or len(old.others) != 1:
                return f"{tab.identity} sees {[t['name'] for t in new.raw['tiles']]}"
            if not new.node or new.node == left:
                return f"{tab.identity} is on {new.node!r}"
            ((name, now),) = new.others.items()
            was = old.others.get(name, now)
            for kind, least in (("video", FRAMES), ("audio", SAMPLES)):
                grown = now[kind]["made"] - was[kind]["made"]
                if now[kind]["track"] != was[kind]["track"] or grown < least:
                    return f"{tab.identity} decoded {grown} of {name}'s {kind}"
        return None

    return await until("pictures and sound at both", condition, within)


async def test_the_demo_outlives_a_region_and_leaves_nothing(demo: Demo) -> None:
    tabs = [
        await demo.visit("Ada", "eu", "plug"),
        await demo.visit("Grace", "us", "plug", "&synthetic=1"),
    ]
    await media_everywhere(tabs)
    await tabs[0].call("say", text="anybody there?")

    async def heard() -> str | None:
        got = await tabs[1].call("messages")
        return None if got == ["anybody there?"] else f"Grace has {got}"

    await until("the message", heard, 5)

    home = (await tabs[0].seen()).node
    region = home.split("-")[0]
    await tabs[1].press(region, "kill")
    took = await media_everywhere(tabs, left=home, within=GAP_MAX_SECONDS)
    after = await asyncio.gather(*(tab.seen() for tab in tabs))
    for tab, seen in zip(tabs, after, strict=True):
        silence, steps = seen.raw["silence"], ", ".join(seen.raw["steps"])
        print(f"\n  {tab.identity}: {home} -> {seen.node}, silence {silence}: {steps}", end="")
        found = re.fullmatch(r"(\d+\.\d+) s", silence)
        assert found and 0.1 < float(found[1]) < GAP_MAX_SECONDS, f"{tab.identity}: {silence!r}"
        (other,) = seen.others.values()
        assert other["elements"] == 2, f"{tab.identity}: the tile holds {other['elements']} players"
    print(f"\n  all media back and seen to be within {took:.1f} s")

    await tabs[1].press(region, "start")
    await tabs[0].press(after[0].node.split("-")[0], "freeze")

    async def both_done() -> str | None:
        states = (await tabs[0].seen()).raw["regions"]
        return None if sorted(states) == ["frozen", "running", "running"] else f"regions {states}"

    await until("one region back, one frozen", both_done, 15)
    await media_everywhere(tabs, left=after[0].node, within=GAP_MAX_SECONDS)

    assert len(demo.processes()) == 10, demo.processes()
    await demo.leave()
    assert await demo.interrupt() == 0
    assert demo.processes() == {}
    assert list(demo.temporary.iterdir()) == []
