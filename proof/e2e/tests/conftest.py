"""The fleet, the browser and the people of a test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lab.api import Api
from lab.clients import Browser
from lab.demo import Demo
from lab.external import External
from lab.fleet import Fleet
from lab.party import Party

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def logs() -> Path:
    """Where every process of this run writes; kept for reading after a failure."""
    folder = Path(tempfile.mkdtemp(prefix="outlast-e2e-"))
    print(f"\nlogs: {folder}")
    return folder


def server_binary() -> Path:
    """The server to test; ends the run when it is not built."""
    binary = Path(os.environ.get("OUTLAST_BIN", ROOT / "target/debug/outlast"))
    if not binary.exists():
        pytest.exit(f"{binary} does not exist: cargo build -p outlast, or set OUTLAST_BIN", 2)
    return binary


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def target(logs: Path) -> AsyncIterator[Fleet | External]:
    """The server under test: our fleet, or the one that OUTLAST_E2E_URL names."""
    if url := os.environ.get("OUTLAST_E2E_URL"):
        yield External(url)
        return
    fleet = Fleet(server_binary(), logs)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(target: Fleet | External, logs: Path) -> AsyncIterator[Browser]:
    """One Chromium for the whole run."""
    browser = Browser()
    await browser.start(target.hosts, logs)
    yield browser
    await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(target: Fleet | External) -> Fleet:
    """The fleet, whole again; skips the test against an external server."""
    if not isinstance(target, Fleet):
        pytest.skip("needs a fleet whose processes can be killed")
    await target.heal()
    return target


@pytest_asyncio.fixture(loop_scope="session")
async def api(target: Fleet | External) -> AsyncIterator[Api]:
    """RoomService through any gateway."""
    api = Api(target)
    yield api
    await api.close()


@pytest_asyncio.fixture(loop_scope="session")
async def party(
    request: pytest.FixtureRequest, target: Fleet | External, browser: Browser, logs: Path, api: Api
) -> AsyncIterator[Party]:
    """An empty room with a name of its own."""
    if isinstance(target, Fleet):
        await target.heal()
    party = Party(target, browser, logs)
    yield party
    await party.leave()
    await api.forget(party.room)


@pytest_asyncio.fixture(loop_scope="session")
async def demo(
    request: pytest.FixtureRequest, browser: Browser, logs: Path
) -> AsyncIterator[Demo]:
    """`outlast demo` on ports of its own, with tabs of the shared browser; parameter: its directory."""
    demo = Demo(server_binary(), browser, logs, getattr(request, "param", "embedded"))
    try:
        await demo.start()
        yield demo
    finally:
        await demo.close()
