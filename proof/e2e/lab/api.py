"""RoomService through the Python server SDK and through raw JSON."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import aiohttp
from livekit import api as livekit_api

from lab.settings import REGIONS
from lab.tokens import claims, sign


class Target(Protocol):
    """Where the API is and with which key."""

    key: str
    secret: str

    def api_url(self, region: str, /) -> str: ...


class Api:
    """One client a region; `raw` speaks JSON with a token of the caller's choice."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._clients: dict[str, livekit_api.LiveKitAPI] = {}
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    def rooms(self, region: str = "eu") -> Any:
        """The server SDK's RoomService client at the gateway of a region."""
        if region not in self._clients:
            self._clients[region] = livekit_api.LiveKitAPI(
                self._target.api_url(region), self._target.key, self._target.secret
            )
        return self._clients[region].room

    def token(self, room: str = "", **grants: Any) -> str:
        """A server token with these grants and no join grant."""
        body = claims(self._target.key, "server", room, **grants)
        body["video"].pop("roomJoin")
        return sign(body, self._target.secret)

    async def raw(
        self,
        method: str,
        body: Any,
        token: str | None,
        region: str = "eu",
        content_type: str = "application/json",
    ) -> tuple[int, Any]:
        """POST of one method; returns status and decoded JSON (or text)."""
        headers = {"content-type": content_type}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) else None
        url = f"{self._target.api_url(region)}/twirp/livekit.RoomService/{method}"
        async with self._http.post(
            url, data=data, json=None if data is not None else body, headers=headers
        ) as response:
            if "json" in response.headers.get("content-type", ""):
                return response.status, await response.json()
            return response.status, await response.text()

    async def forget(self, room: str) -> None:
        """Deletes a room if it is still there, through the first gateway that answers."""
        for region in REGIONS:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self.raw("DeleteRoom", {"room": room}, self.token(roomCreate=True), region)
                return

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            await client.aclose()
        await self._http.close()
