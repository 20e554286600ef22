"""The demo: two people on the real page, buttons that break regions and databases, and Ctrl-C."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import pytest

from lab.demo import REGIONS, Demo, DemoTab
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


async def regions_are(tab: DemoTab, *wanted: str) -> None:
    async def condition() -> str | None:
        states = (await tab.seen()).raw["regions"]
        return None if sorted(states) == sorted(wanted) else f"regions {states}"

    await until(f"the page to say of the regions {wanted}", condition, 20)


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

    await regions_are(tabs[0], "frozen", "running", "running")
    await media_everywhere(tabs, left=after[0].node, within=GAP_MAX_SECONDS)

    home = (await tabs[0].seen()).node
    await tabs[1].press(home.split("-")[0], "drain")
    took = await media_everywhere(tabs, left=home, within=GAP_MAX_SECONDS)
    print(f"\n  {home} drained: all media at another node within {took:.1f} s")

    await regions_are(tabs[0], "draining", "frozen", "running")
    await tabs[1].press(home.split("-")[0], "start")
    await regions_are(tabs[0], "frozen", "running", "running")

    assert len(demo.processes()) == 10, demo.processes()
    await demo.leave()
    assert await demo.interrupt() == 0
    assert demo.processes() == {}
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("demo", ["etcd", "sentinel", "cluster"], indirect=True)
@pytest.mark.parametrize("action", ["freeze", "kill"])
async def test_a_call_and_joins_outlive_the_region_in_which_the_directory_decides(
    demo: Demo, action: str
) -> None:
    tabs = [
        await demo.visit("Ada", "eu", "old", "&synthetic=1"),
        await demo.visit("Grace", "us", "old", "&synthetic=1"),
    ]
    await media_everywhere(tabs)

    async def decided() -> str | None:
        seen = await tabs[0].seen()
        return None if seen.raw["decides"] else f"the page says {seen.raw['directory']!r}"

    await until("somebody decides", decided, 10)
    nodes = [(await tab.seen()).node for tab in tabs]
    await tabs[0].press_directory("wipe")

    async def wiped() -> str | None:
        return None if "The directory has been wiped" in demo.printed() else demo.printed()

    await until("the directory to be wiped", wiped, 10)
    await media_everywhere(tabs)
    assert [(await tab.seen()).node for tab in tabs] == nodes, "no call notices"

    region = await tabs[0].press_directory(action)
    home = (await tabs[0].seen()).node
    gone = home if home.startswith(region) else ""

    # New rooms at once, while nobody may decide yet: by the gateways that are left.
    others = [one for one in REGIONS if one != region]
    fresh = [
        await demo.visit("Alan", others[0], "new", "&synthetic=1"),
        await demo.visit("Radia", others[1], "new", "&synthetic=1"),
    ]
    took = await media_everywhere(fresh, within=GAP_MAX_SECONDS)
    await media_everywhere(tabs, left=gone, within=GAP_MAX_SECONDS)

    async def moved() -> str | None:
        seen = await tabs[0].seen()
        told = seen.raw["directory"]
        # Of a cluster, what the region decided must be decided elsewhere too.
        whole = "decide " not in told or "of 12" in told
        fine = seen.raw["decides"] not in ("", region) and f"{region}-" not in told and whole
        return None if fine else f"the page says {told!r}"

    await until("another region decides", moved, 20)
    after = (await tabs[0].seen()).raw["directory"]
    print(f"\n  {region} is hit ({action}): a new room within {took:.1f} s; {after}")
    await tabs[0].press(region, "start")

    await regions_are(tabs[0], "running", "running", "running")
    await demo.leave()
    assert await demo.interrupt() == 0
    assert demo.processes() == {}
