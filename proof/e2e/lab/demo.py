"""`outlast demo` as a person runs it: in a terminal's foreground, ended with Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.clients import Browser, TabClient
from lab.lines import clean_environment, die_with_parent
from lab.ports import free_block
from lab.watch import until

PORTS = 243  # one below the base port up to 241 above it
GATEWAY_STEP = 100
REGIONS = ("eu", "us", "ap")
READY_LINE = "Ctrl-C ends it all"
READY_SECONDS = 30.0
END_SECONDS = 10.0


@dataclass(frozen=True)
class Seen:
    """What the page showed in one look, with what each tile's decoders had produced."""

    raw: dict[str, Any]

    @property
    def others(self) -> dict[str, dict[str, Any]]:
        """The tiles of everybody else, by the name on them."""
        return {t["name"]: t for t in self.raw["tiles"] if not t["name"].endswith("(you)")}

    @property
    def node(self) -> str:
        """The node that this page says it is on."""
        return next((t["node"] for t in self.raw["tiles"] if t["name"].endswith("(you)")), "")


class DemoTab(TabClient):
    """One person on the demo's page."""

    async def seen(self) -> Seen:
        """One look."""
        return Seen(await self.call("look"))

    async def press(self, region: str, action: str) -> None:
        """Presses a region's button: `kill`, `freeze`, `drain` or `start`."""
        await self.call("press", region=region, action=action)

    async def press_directory(self, action: str) -> str:
        """Presses one of the directory's buttons: `kill` or `freeze` of the region in which it decides, or `wipe`.

        Returns the region's name.
        """
        return await self.call("pressDirectory", action=action)


class Demo:
    """The demo's process, its folder for temporary files, and the tabs on its pages."""

    def __init__(self, binary: Path, browser: Browser, logs: Path, directory: str) -> None:
        self._binary = binary
        self._browser = browser
        self._directory = directory
        self._log = logs / f"demo-{directory}.log"
        self.temporary = logs / f"demo-{directory}-tmp"
        self._child: subprocess.Popen[bytes] | None = None
        self._base = 0
        self._tabs: list[DemoTab] = []

    async def start(self) -> None:
        """Starts it and waits for its last line of welcome."""
        self.temporary.mkdir(exist_ok=True)
        self._base = free_block(["127.0.0.1"], PORTS) + 1
        self._spawn()

        async def ready() -> str | None:
            assert self._child is not None
            assert self._child.poll() is None, f"the demo ended: {self.printed()}"
            text = self.printed()
            return None if READY_LINE in text else f"it said {text!r}"

        await until("the demo's welcome", ready, READY_SECONDS)

    def _spawn(self) -> None:
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [
                    *(str(self._binary), "demo"),
                    *("--base-port", str(self._base)),
                    *("--directory", self._directory),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), "TMPDIR": str(self.temporary)},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def visit(self, name: str, region: str, room: str, options: str = "") -> DemoTab:
        """Joins by the page of a region's gateway."""
        port = self._base + GATEWAY_STEP * REGIONS.index(region)
        tab = DemoTab(name, self._browser)
        url = f"http://127.0.0.1:{port}/?name={name}&room={room}&join=1{options}"
        await tab.call("open", url=url)
        self._tabs.append(tab)
        return tab

    def printed(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def processes(self) -> dict[int, str]:
        """Every process that works in the demo's folder: servers, and the sweep."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has just ended
            if str(self.temporary) in line:
                found[int(entry.name)] = line.replace("\0", " ").strip()
        return found

    async def leave(self) -> None:
        """Closes the tabs."""
        for tab in self._tabs:
            await tab.close()
        self._tabs.clear()

    async def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the whole foreground group; returns the exit code."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGINT)
        return await asyncio.to_thread(self._child.wait, END_SECONDS)

    async def close(self) -> None:
        """Ends what is left; the kernel then ends the servers."""
        await self.leave()
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
