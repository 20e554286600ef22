"""LiveKit's `Room` with several servers."""

from __future__ import annotations

import asyncio
from typing import Any, Optional

from livekit import rtc

from outlast_client.door import Door, Race
from outlast_client.source import Source, Where, source_of


class FallbackRoom(rtc.Room):
    """`livekit.rtc.Room`, whose `connect` takes several servers, or a source of them.

    Whenever the room is to be reached, at first or again, the server that can be reached is dialled. Everything else, the events
    included, is the SDK's.
    """

    def __init__(
        self,
        loop: Optional[asyncio.AbstractEventLoop] = None,
        *,
        stagger: float = Race.stagger,
        patience: float = Race.patience,
        quiet: float = Race.quiet,
        probe: float = Race.probe,
    ) -> None:
        """Spans in seconds: see `door.Race`."""
        super().__init__(loop)
        self._race = Race(stagger, patience, quiet, probe)
        self._door: Door | None = None
        self._last: str | None = None
        self._closing: asyncio.Future[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        # Before any of the app's: one that connects anew finds the old door closed.
        self.on("disconnected", self._ended)

    @property
    def server_url(self) -> str | None:
        """The server in use, or last used."""
        return self._door.last if self._door is not None else self._last

    async def connect(
        self,
        where: Where,
        token: str | None = None,
        options: rtc.RoomOptions = rtc.RoomOptions(),  # noqa: B008, the SDK's own default
    ) -> None:
        """Joins a room.

        `where`: URLs, the one to try first first; or a source, whose token is used then. Raises what the SDK raises, or the
        source; `ValueError` when there is no URL, or something is none.
        """
        source = source_of(where, token)
        servers = await source.fetch()
        await self._close_door()
        door = Door(servers.server_urls, self._race, lambda: self._renew(source))
        self._door = door
        url = await door.open()
        try:
            await super().connect(url, servers.participant_token, options)
        except BaseException:
            await self._close_door()
            raise

    async def disconnect(self, **reason: Any) -> None:
        """Leaves the room; takes what the SDK takes."""
        await super().disconnect(**reason)
        await self._close_door()

    def _renew(self, source: Source) -> None:
        """None of the servers can be reached: there may be others by now."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.ensure_future(self._learn(source))

    async def _learn(self, source: Source) -> None:
        door = self._door
        try:
            servers = await source.fetch()
        except Exception:  # noqa: BLE001, whatever a source raises: what is known has to do
            return
        if door is not None:
            door.urls = list(servers.server_urls)

    def _ended(self, *_: object) -> None:
        if self._door is not None:
            self._last = self._door.last
            self._closing = asyncio.ensure_future(self._door.close())
            self._door = None

    async def _close_door(self) -> None:
        self._ended()
        if self._closing is not None:
            await self._closing
