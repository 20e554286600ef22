"""The people of one test."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from lab.clients import Browser, Client, PythonClient, TabClient
from lab.external import External
from lab.fleet import Fleet
from lab.tokens import join_token
from lab.watch import everybody_receives

HERTZ = (440.0, 560.0, 680.0, 800.0, 920.0, 1040.0, 1160.0, 1280.0, 1400.0)
HUES = (40, 90, 160, 210, 60, 110, 180, 230, 140)


class Party:
    """The people of one test, in one room; everybody is gone when it ends."""

    def __init__(self, target: Fleet | External, browser: Browser, logs: Path) -> None:
        self._target = target
        self._browser = browser
        self._logs = logs
        self.room = f"room-{secrets.token_hex(4)}"
        self.clients: list[Client] = []

    def token(self, identity: str, **grants: Any) -> str:
        """A good token for this room."""
        return join_token(self._target.key, self._target.secret, identity, self.room, **grants)

    def url(self, first: str, second: str | None = None) -> str:
        """The WebSocket URL through the gateway of a region."""
        return self._target.url(first, second)

    async def python(self, identity: str) -> PythonClient:
        """A Python participant that has not joined yet."""
        client = PythonClient(identity)
        await client.start(self._target.hosts, self._logs)
        self.clients.append(client)
        return client

    async def tab(self, identity: str) -> TabClient:
        """A browser tab that has not joined yet."""
        client = TabClient(identity, self._browser)
        await client.call("open")
        self.clients.append(client)
        return client

    async def join(
        self, client: Client, first: str = "eu", second: str | None = None, **options: Any
    ) -> Any:
        """Joins through the gateway of `first` (and `second` when that one is dead)."""
        url = self._target.url(first, second)
        return await client.call("join", url=url, token=self.token(client.identity), **options)

    async def join_any(self, client: Client, regions: Sequence[str], **options: Any) -> Any:
        """Joins by outlast-client, which is given the gateways of these regions."""
        urls = [self._target.url(region) for region in regions]
        return await client.call("join", urls=urls, token=self.token(client.identity), **options)

    async def join_by_endpoint(self, client: Client, region: str) -> Any:
        """Joins by outlast-client, which asks the gateway of a region for the list."""
        token = self.token(client.identity)
        endpoint = self._target.url(region).replace("ws", "http", 1) + "/token-source"
        return await client.call("join", endpoint=endpoint, token=token)

    async def call(
        self,
        tabs: int,
        pythons: int,
        ways: list[tuple[str, str | None]],
        cameras: int | None = None,
    ) -> list[Client]:
        """A call in which everybody sends tone and camera and hears everybody.

        `cameras`: only so many of them have one, tabs first. Two cores decode about 30 videos.
        """
        names = [f"tab{n}" for n in range(tabs)] + [f"py{n}" for n in range(pythons)]
        starts: list[Awaitable[Client]] = [
            self.tab(name) if name.startswith("tab") else self.python(name) for name in names
        ]
        clients = list(await asyncio.gather(*starts))
        for number, client in enumerate(clients):
            await self.join(client, *ways[number % len(ways)])
            if cameras is None or number < cameras:
                await client.publish(HERTZ[number], HUES[number])
            else:
                await client.send("audio", "microphone", hertz=HERTZ[number])
        await everybody_receives(clients)
        return clients

    async def leave(self) -> None:
        """Everybody goes."""
        for client in self.clients:
            await client.close()
        self.clients.clear()
