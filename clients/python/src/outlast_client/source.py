"""Where to go, and with which token: what an app gives to `connect`."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union, cast
from urllib.parse import urlsplit

SCHEMES = ("ws", "wss", "http", "https")


@dataclass(frozen=True)
class Servers:
    """What a source answers."""

    server_urls: Sequence[str]
    """URLs of servers, the one to try first first: `wss://eu.api.example.net`."""
    participant_token: str
    """Lets its holder into a room."""


class Source(Protocol):
    """Asked at each `connect`, and again when none of the servers that it named can be reached."""

    async def fetch(self) -> Servers:
        """The servers and a token."""


Where = Union[str, Sequence[str], Source]
"""A URL, several in the order in which they are tried, or whoever knows them."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as LiveKit's token sources know them.

    It is sent `body` by POST and answers with `server_url` and `participant_token`; where the answer has `server_urls`, too, all of
    them are used. Raises `OSError` when it is not reached, `ValueError` when its answer is none.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 5.0

    async def fetch(self) -> Servers:
        """Asks it."""
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> Servers:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"{self.url!r} is no URL of an endpoint")
        headers = {"content-type": "application/json", **self.headers}
        body = json.dumps(dict(self.body)).encode()
        request = urllib.request.Request(self.url, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            return _servers(self.url, json.load(response))


def _servers(url: str, answer: Any) -> Servers:
    fields = answer if isinstance(answer, dict) else {}
    token = fields.get("participant_token", fields.get("participantToken"))
    one = fields.get("server_url", fields.get("serverUrl"))
    urls = fields.get("server_urls", fields.get("serverUrls", [one]))
    if not (_is_text(token) and isinstance(urls, list) and urls and all(map(_is_text, urls))):
        raise ValueError(f"{url} answered without server_url or participant_token")
    return Servers(tuple(urls), str(token))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


@dataclass(frozen=True)
class _Fixed:
    servers: Servers

    async def fetch(self) -> Servers:
        return self.servers


def source_of(where: Where, token: str | None) -> Source:
    """A fixed list, or what the source says. Raises `ValueError` for a list that cannot be."""
    if hasattr(where, "fetch"):
        return cast(Source, where)
    urls = (where,) if isinstance(where, str) else tuple(where)
    if not urls:
        raise ValueError("connect needs at least one URL")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a server")
    if token is None:
        raise ValueError("connect needs a token, or a source that has one")
    return _Fixed(Servers(urls, token))
