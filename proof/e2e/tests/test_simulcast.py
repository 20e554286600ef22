"""Show 3: the simulcast layer that is asked for, without a freeze or an undecodable picture."""

from __future__ import annotations

import time

from lab.clients import Client, TabClient
from lab.party import Party
from lab.watch import longest_gap, nobody_disconnected, until

FREEZE_MAX_SECONDS = 1.0
UNDECODED_MAX = 3  # frames that may be in flight between the two counters
LOW, HIGH = 320, 1280
CAMERA = "publisher/camera"


async def test_subscriber_gets_the_layer_it_asks_for(party: Party) -> None:
    publisher = await party.tab("publisher")
    tab, python = await party.tab("tab"), await party.python("py")
    await party.join(publisher, "eu")
    await publisher.send("video", "camera", width=1280, height=720, simulcast=True)
    await party.join(tab, "us")
    await party.join(python, "ap")

    since = time.time()
    await _width(tab, HIGH, 30)  # nothing was asked for: the highest
    await _width(python, HIGH, 30)
    print(f"\n  high layer {time.time() - since:.1f} s after the join")
    steady = time.time()
    for wanted, quality, label in ((LOW, "low", "low"), (HIGH, "high", "high again")):
        asked = time.time()
        await tab.call("dimensions", stream=CAMERA, width=wanted, height=wanted * 9 // 16)
        await python.call("quality", stream=CAMERA, quality=quality)
        await _width(tab, wanted, 15)
        await _width(python, wanted, 15)
        print(f"  {label} {time.time() - asked:.1f} s after the request")

    for client in (tab, python):
        look = await client.look(steady)
        gap = longest_gap(look.streams[CAMERA], steady, look.at)
        print(f"  {client.identity}: longest span without a decoded frame {gap * 1000:.0f} ms")
        assert gap <= FREEZE_MAX_SECONDS, f"{client.identity} froze for {gap:.2f} s"
        counters = await client.call("counters", stream=CAMERA)
        undecoded = counters["framesReceived"] - counters["framesDecoded"]
        assert undecoded <= UNDECODED_MAX, f"{undecoded} frames were not decoded: {counters}"
    nobody_disconnected(party.clients)


async def _width(client: Client | TabClient, width: int, within: float) -> None:
    """Waits until the last second's pictures all had that width."""

    async def condition() -> str | None:
        look = await client.look(time.time() - 1)
        view = look.streams.get(CAMERA)
        if view is None or not view.sizes:
            return f"{client.identity} sees nothing"
        if [size[0] for size in view.sizes] != [width]:
            return f"{client.identity} sees {[size[:2] for size in view.sizes]}, not {width}"
        return (
            None if len(view.arrivals) >= 5 else f"{client.identity}: {len(view.arrivals)} frames"
        )

    await until(f"width {width}", condition, within)
