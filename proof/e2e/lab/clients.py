"""Participants on real SDKs, as the tests see them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.lines import LineProcess, with_hosts

WRAPPER = Path(__file__).resolve().parents[3] / "clients/python/src"
AGENTS = Path(__file__).resolve().parent.parent / "agents"


@dataclass(frozen=True)
class StreamView:
    """One `identity/source` at one receiver."""

    arrivals: list[float]  # seconds of decoded frames (video) or heard polls (audio)
    total: int
    sizes: list[list[float]]  # width, height, first, last, frames
    hue: int  # U plane of the last picture (Python)
    hertz: float  # loudest frequency heard last (Python)
    loud_at: float  # when something above silence was heard last (Python)
    state: str  # of the present track and what plays it (Chromium)


@dataclass(frozen=True)
class Look:
    """What one client had received when it was asked."""

    at: float
    streams: dict[str, StreamView]
    participants: dict[str, str]  # identity -> sid of the others
    publications: list[str]
    sid: str


class Client:
    """One participant. `sending` is what it publishes, so that others can be asked for it."""

    has_hue = False  # whether its pictures carry a colour of our choice

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.sending: set[str] = set()
        self.events: list[dict[str, Any]] = []

    async def call(self, do: str, **arguments: Any) -> Any:
        """One action of the agent."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the participant without a word to the server if it has not left."""
        raise NotImplementedError

    def note(self, event: dict[str, Any]) -> None:
        """Keeps an event of the agent."""
        self.events.append(event)

    def happened(self, name: str, since: float = 0.0, **detail: Any) -> list[dict[str, Any]]:
        """Events of that name since then whose fields equal `detail`."""
        return [
            event
            for event in self.events
            if event["event"] == name
            and event["at"] >= since
            and all(event.get(key) == value for key, value in detail.items())
        ]

    async def send(self, kind: str, name: str, source: str | None = None, **options: Any) -> None:
        """Publishes one track; `kind` is "audio" or "video", the source is the name by default."""
        await self.call(f"publish_{kind}", name=name, source=source or name, **options)
        self.sending.add(f"{self.identity}/{name}")

    async def take_back(self, name: str) -> None:
        """Unpublishes one track."""
        await self.call("unpublish", name=name)
        self.sending.discard(f"{self.identity}/{name}")

    async def publish(self, hertz: float = 440.0, hue: int = 128) -> None:
        """A microphone with that tone and a small camera (Python: of that hue)."""
        await self.send("audio", "microphone", hertz=hertz)
        colour: dict[str, Any] = {"hue": hue} if self.has_hue else {}
        await self.send("video", "camera", **colour)

    async def look(self, since: float = 0.0) -> Look:
        """Asks what was received since that moment (unix seconds)."""
        raw = await self.call("look", since=since)
        streams = {
            key: StreamView(
                stream["arrivals"],
                stream["total"],
                stream["sizes"],
                stream.get("hue", 0),
                stream.get("hertz", 0.0),
                stream.get("loud_at", 0.0),
                stream.get("state", ""),
            )
            for key, stream in raw["streams"].items()
        }
        return Look(raw["at"], streams, raw["participants"], raw["publications"], raw["sid"])


class PythonClient(Client):
    """The Python SDK in a process of its own."""

    has_hue = True

    def __init__(self, identity: str) -> None:
        super().__init__(identity)
        self._process = LineProcess(self.note)

    async def start(self, hosts: Path | None, logs: Path) -> None:
        """Starts the process; `hosts` becomes its /etc/hosts."""
        command = ["env", f"PYTHONPATH={WRAPPER}", sys.executable, str(AGENTS / "python_agent.py")]
        await self._process.start(with_hosts(command, hosts), logs / f"{self.identity}.log")

    async def call(self, do: str, **arguments: Any) -> Any:
        return await self._process.call(do, **arguments)

    async def close(self) -> None:
        await self._process.close()


class TabClient(Client):
    """livekit-client in a tab of the shared browser."""

    def __init__(self, identity: str, browser: Browser) -> None:
        super().__init__(identity)
        self._browser = browser
        self._tab = browser.new_tab(self)

    async def call(self, do: str, **arguments: Any) -> Any:
        return await self._browser.process.call(do, tab=self._tab, **arguments)

    async def close(self) -> None:
        await self.call("close")
        self._browser.forget_tab(self._tab)


class Browser:
    """One headless Chromium; its tabs share its /etc/hosts."""

    def __init__(self) -> None:
        self.process = LineProcess(self._event)
        self._tabs: dict[int, Client] = {}
        self._opened = 0

    async def start(self, hosts: Path | None, logs: Path) -> None:
        """Starts node and Chromium."""
        command = ["node", str(AGENTS / "browser.mjs")]
        await self.process.start(with_hosts(command, hosts), logs / "browser.log")

    def new_tab(self, client: Client) -> int:
        """A number for a tab whose events go to `client`."""
        self._opened += 1
        self._tabs[self._opened] = client
        return self._opened

    def forget_tab(self, tab: int) -> None:
        """Drops the events of a closed tab."""
        self._tabs.pop(tab, None)

    def _event(self, event: dict[str, Any]) -> None:
        client = self._tabs.get(event.get("tab", 0))
        if client is not None:
            client.note(event)

    async def close(self) -> None:
        """Ends Chromium."""
        await self.process.close()
