"""A server that somebody else started, to run the single-region tests against it.

OUTLAST_E2E_URL (ws://host:port), OUTLAST_E2E_KEY and OUTLAST_E2E_SECRET choose it;
OUTLAST_E2E_MEDIA (host:port) is its media port, for the hostile datagrams.
"""

from __future__ import annotations

import os
from pathlib import Path


class External:
    """The same questions as `Fleet` answers, for one address."""

    hosts: Path | None = None

    def __init__(self, url: str) -> None:
        self._url = url
        self.key = os.environ.get("OUTLAST_E2E_KEY", "devkey")
        self.secret = os.environ.get("OUTLAST_E2E_SECRET", "secret")

    def url(self, _first: str, _second: str | None = None) -> str:
        """Every region is this server."""
        return self._url

    def api_url(self, _region: str) -> str:
        """The HTTP form of the address."""
        return self._url.replace("ws", "http", 1)

    def media(self) -> list[tuple[str, int]]:
        """Media addresses that were told."""
        told = os.environ.get("OUTLAST_E2E_MEDIA", "")
        host, _, port = told.rpartition(":")
        return [(host, int(port))] if told else []
