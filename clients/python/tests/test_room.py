"""The room as far as it goes without a server; calls are for the end-to-end suite."""

from __future__ import annotations

import asyncio

import pytest
from livekit import rtc

from outlast_client import FallbackRoom
from outlast_client.door import Door, Race


async def test_the_door_is_closed_when_the_room_has_ended_by_itself() -> None:
    room = FallbackRoom()
    door = Door(["ws://a"], Race(), lambda: None)
    url = await door.open()
    door.last = "ws://a"
    room._door = door
    seen: list[str | None] = []
    room.on("disconnected", lambda *_: seen.append(room.server_url))
    room.emit("disconnected", rtc.DisconnectReason.SERVER_SHUTDOWN)
    assert room._door is None and seen == ["ws://a"]
    await room.disconnect()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


async def test_a_list_that_cannot_be_is_told_before_anything_is_opened() -> None:
    room = FallbackRoom()
    with pytest.raises(ValueError):
        await room.connect([], "t")
    assert room.server_url is None and room._door is None
