"""Show 2: many subscriptions in one client, and the life of participants and tracks."""

from __future__ import annotations

import asyncio
import time

from lab.clients import Client
from lab.party import Party
from lab.watch import (
    everybody_receives,
    flows,
    happens,
    identities_are_single,
    nobody_disconnected,
    until,
)

SMALL = {"width": 160, "height": 90, "fps": 10}


async def test_eight_audio_and_eight_video_subscriptions_in_one_client(party: Party) -> None:
    senders = [await party.python(f"sender{n}") for n in range(4)]
    tab, python = await party.tab("tab-listener"), await party.python("py-listener")
    await party.join(tab, "us")
    for number, sender in enumerate(senders):
        await party.join(sender, "eu", auto_subscribe=False)
        for name in ("", "2"):
            hertz = 400.0 + 100 * number + (50 if name else 0)
            await sender.send("audio", f"microphone{name}", "microphone", hertz=hertz)
            await sender.send("video", f"camera{name}", "camera", **SMALL)
    await party.join(python, "ap")  # the tab met the tracks one by one, this one all at once

    async def condition() -> str | None:
        for client in (tab, python):
            look = await client.look(time.time() - 2)
            wanted = {stream for sender in senders for stream in sender.sending}
            silent = sorted(stream for stream in wanted if not flows(look, stream))
            if silent:
                return f"{client.identity} does not receive {', '.join(silent)}"
        return None

    seconds = await until("16 streams", condition, 30)
    print(f"\n  16 streams at two listeners {seconds:.1f} s after the last publication")

    await asyncio.sleep(1)
    look = await python.look(time.time() - 1)
    for number, sender in enumerate(senders):
        for name, offset in (("microphone", 0), ("microphone2", 50)):
            heard = look.streams[f"{sender.identity}/{name}"].hertz
            assert abs(heard - (400 + 100 * number + offset)) <= 20, f"{sender.identity}: {heard}"
    nobody_disconnected(party.clients)


async def test_late_join_leave_and_rejoin(party: Party) -> None:
    tab, python, late = await party.tab("tab"), await party.python("py"), await party.python("late")
    for client, region in ((tab, "eu"), (python, "us")):
        await party.join(client, region)
        await client.publish()
    await everybody_receives([tab, python])

    await party.join(late, "ap")
    await late.publish(660)
    await everybody_receives([tab, python, late])

    await late.call("leave")
    await _sees(tab, {"py"})
    await _sees(python, {"tab"})

    url = party.url("us")
    await late.call("rejoin", url=url, token=party.token("late"))
    await late.publish(880)
    await everybody_receives([tab, python, late])
    await identities_are_single([tab, python, late])

    await tab.call("leave")
    await _sees(python, {"late"})
    await tab.call("rejoin", url=url, token=party.token("tab"))
    await tab.publish()
    await everybody_receives([tab, python, late])
    await identities_are_single([tab, python, late])
    nobody_disconnected([python])


async def _sees(client: Client, identities: set[str]) -> None:
    async def condition() -> str | None:
        seen = set((await client.look(time.time())).participants)
        return None if seen == identities else f"{client.identity} sees {sorted(seen)}"

    await until("participants", condition, 8)


async def test_mute_unpublish_republish_and_screen_share_beside_camera(party: Party) -> None:
    tab, python = await party.tab("tab"), await party.python("py")
    both: list[Client] = [tab, python]
    for client in both:
        await party.join(client, "eu")
        await client.publish(500, 200)
    await everybody_receives(both)

    for sender, receiver in ((tab, python), (python, tab)):
        for name in ("camera", "microphone"):
            stream = f"{sender.identity}/{name}"
            await sender.call("mute", name=name, muted=True)
            await happens(receiver, "track_muted", stream=stream)
        await sender.call("mute", name="camera", muted=False)
        await sender.call("mute", name="microphone", muted=False)
        for name in ("camera", "microphone"):
            await happens(receiver, "track_unmuted", stream=f"{sender.identity}/{name}")
    await everybody_receives(both)

    # Muted means unheard: the tone of the tab is gone from Python's ears, and comes back.
    await tab.call("mute", name="microphone", muted=True)
    await asyncio.sleep(1.5)
    look = await python.look()
    assert look.at - look.streams["tab/microphone"].loud_at > 0.5, "a muted microphone is heard"
    await tab.call("mute", name="microphone", muted=False)
    await everybody_receives(both)

    for sender, receiver in ((tab, python), (python, tab)):
        await sender.take_back("camera")
        await happens(receiver, "track_unsubscribed", stream=f"{sender.identity}/camera")
        look = await receiver.look()
        assert f"{sender.identity}/camera" not in look.publications
        await everybody_receives(both)
        await sender.send("video", "camera")
        await everybody_receives(both)

    for client in both:
        await client.send("video", "screen_share", width=480, height=270, fps=10)
    await everybody_receives(both)
    for sender, receiver in ((tab, python), (python, tab)):
        look = await receiver.look(time.time() - 2)
        camera = look.streams[f"{sender.identity}/camera"].sizes[-1]
        screen = look.streams[f"{sender.identity}/screen_share"].sizes[-1]
        assert camera[0] <= 320, f"the camera arrives as {camera[:2]}"
        assert screen[0] > 320, f"the screen arrives as {screen[:2]}"
    for sender, receiver in ((tab, python), (python, tab)):
        await sender.take_back("screen_share")
        await happens(receiver, "track_unsubscribed", stream=f"{sender.identity}/screen_share")
    await everybody_receives(both)
    nobody_disconnected(both)
